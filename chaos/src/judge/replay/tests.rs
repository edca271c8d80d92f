//! Ledgers that are possible, and what is wrong with those that are not.

use super::super::evidence::LedgerRow;
use super::*;

fn entry(kind: Kind, order: u8, units: &[u32], attempt: u32) -> LedgerEntry {
    LedgerEntry {
        kind: kind.into(),
        order: vec![order; 16],
        buyer: if kind == Kind::Held { vec![order + 100; 16] } else { Vec::new() },
        units: units.to_vec(),
        attempt,
        ..Default::default()
    }
}

fn replay(entries: &[LedgerEntry]) -> Replay {
    let rows = (1..).zip(entries).map(|(seq, entry)| LedgerRow {
        seq,
        epoch: 1,
        at_us: seq * 10,
        entries: LedgerBatch { entries: vec![entry.clone()] }.encode_to_vec(),
        root: vec![],
        hash: vec![],
    });
    Replay::of(&Bucket { rows: rows.collect(), ..Bucket::default() })
}

#[test]
fn a_ledger_says_what_became_of_orders_and_units() {
    let replay = replay(&[
        entry(Kind::Granted, 0, &[0, 9], 0),
        entry(Kind::Held, 1, &[1, 0], 0),
        entry(Kind::Held, 2, &[2], 0),
        entry(Kind::Paying, 1, &[], 1),
        entry(Kind::Declined, 1, &[], 1),
        entry(Kind::Cancelled, 2, &[2], 0),
        entry(Kind::Paying, 1, &[], 2),
        entry(Kind::Held, 3, &[2], 0),
        entry(Kind::Paid, 1, &[], 2),
        entry(Kind::Refunded, 2, &[], 0),
        entry(Kind::Expired, 3, &[2], 0),
    ]);
    assert!(replay.flaws.is_empty(), "{:?}", replay.flaws);
    assert_eq!(replay.shares.count(), 10);
    let states: Vec<_> = replay.orders.values().map(|order| order.state).collect();
    assert_eq!(states, [OrderState::Paid, OrderState::Cancelled, OrderState::Expired]);
    let paid = &replay.orders[&OrderId([1; 16])];
    assert_eq!((paid.units.as_slice(), paid.attempts, paid.held_at_us), (&[0, 1][..], 2, 20));
    let mut held: Vec<_> = replay.holders.keys().copied().collect();
    held.sort_unstable();
    assert_eq!(held, [0, 1]);
}

#[test]
fn impossible_entries_are_flaws() {
    let held = || entry(Kind::Held, 1, &[0], 0);
    let granted = || entry(Kind::Granted, 0, &[0, 9], 0);
    let rows: [(&[LedgerEntry], Invariant, &str); 8] = [
        (&[held(), entry(Kind::Held, 2, &[0], 0)], Invariant::Inv1, "while order"),
        (&[held(), held()], Invariant::Inv6, "a second time"),
        (&[entry(Kind::Paid, 1, &[], 1)], Invariant::Inv6, "without having been held"),
        (&[held(), entry(Kind::Paid, 1, &[], 1)], Invariant::Inv6, "while it is Held"),
        (&[held(), entry(Kind::Paying, 1, &[], 2)], Invariant::Inv6, "attempt 2"),
        (&[held(), entry(Kind::Expired, 1, &[1], 0)], Invariant::Inv2, "gives back"),
        (&[entry(Kind::Granted, 1, &[4], 0)], Invariant::Inv2, "no ranges"),
        (&[LedgerEntry::default()], Invariant::Inv6, "names no order"),
    ];
    for (entries, invariant, words) in rows {
        let entries = [&[granted()], entries].concat();
        let flaws = replay(&entries).flaws;
        let [flaw] = flaws.as_slice() else { panic!("{words}: {flaws:?}") };
        assert_eq!(flaw.invariant, invariant, "{words}");
        assert!(flaw.sentence.contains(words), "{}", flaw.sentence);
    }
}

fn moved(kind: Kind, transfer: u8, peer: Option<u32>, units: &[u32]) -> LedgerEntry {
    LedgerEntry { transfer: vec![transfer; 16], peer, ..entry(kind, 0, units, 0) }
}

#[test]
fn units_come_and_go() {
    let bucket = |epoch| {
        let entries = [
            (1, entry(Kind::Granted, 0, &[0, 9], 0)),
            (1, moved(Kind::GivenUp, 1, Some(1), &[9, 9, 4, 5])),
            (2, moved(Kind::Accepted, 2, None, &[20, 21])),
            (2, moved(Kind::GivenUp, 3, None, &[0, 0])),
            (2, moved(Kind::Accepted, 4, Some(1), &[4, 4])),
        ];
        let rows = (1..).zip(entries).map(|(seq, (epoch, entry))| LedgerRow {
            seq,
            epoch,
            at_us: seq * 10,
            entries: LedgerBatch { entries: vec![entry] }.encode_to_vec(),
            root: vec![],
            hash: vec![],
        });
        Bucket { epoch, rows: rows.collect(), ..Bucket::default() }
    };
    let replay = Replay::of(&bucket(2));
    assert!(replay.flaws.is_empty(), "{:?}", replay.flaws);
    let units: Vec<u32> = replay.shares.units().collect();
    assert_eq!(units, [1, 2, 3, 4, 6, 7, 8, 20, 21]);
    assert_eq!(replay.stock, [(10, 10), (30, 2), (40, -1)]);
    let parts: Vec<_> = replay
        .parts
        .iter()
        .map(|part| (part.transfer[0], part.accepted, part.peer, part.units.count()))
        .collect();
    let expected =
        [(1, false, Some(1), 3), (2, true, None, 2), (3, false, None, 1), (4, true, Some(1), 1)];
    assert_eq!(parts, expected);
    // The second keeper found 0..=3 and 6..=8; what came stands behind, what left has left its place.
    let standing: Vec<_> = (0..10).filter_map(|index| replay.indices.unit(index)).collect();
    assert_eq!(standing, [0, 1, 2, 3, 6, 7, 8, 20, 21, 4]);
    // A third one has numbered them anew.
    let replay = Replay::of(&bucket(3));
    let standing: Vec<_> = (0..10).filter_map(|index| replay.indices.unit(index)).collect();
    assert_eq!(standing, [1, 2, 3, 4, 6, 7, 8, 20, 21]);
}

#[test]
fn money_that_goes_back_ends_the_order_that_it_paid() {
    let by = |kind, intent: &str, units: &[u32]| LedgerEntry {
        intent: intent.to_owned(),
        ..entry(kind, 1, units, 1)
    };
    let bought = [
        entry(Kind::Granted, 0, &[0, 9], 0),
        entry(Kind::Held, 1, &[3, 4], 0),
        by(Kind::Paying, "pi_1", &[]),
        by(Kind::Paid, "pi_1", &[]),
    ];
    let and = |more: &[LedgerEntry]| replay(&[&bought[..], more].concat());
    let (asked, done) = (by(Kind::Refunding, "pi_1", &[]), by(Kind::Refunded, "pi_1", &[3, 4]));

    let refunded = and(&[asked.clone(), done.clone()]);
    assert!(refunded.flaws.is_empty(), "{:?}", refunded.flaws);
    let order = &refunded.orders[&OrderId([1; 16])];
    assert_eq!((order.state, order.keeps_units), (OrderState::Refunded, false));
    assert!(refunded.holders.is_empty());
    assert_eq!(refunded.moves.iter().map(|one| one.paid).sum::<i64>(), 0);

    // After the sale was settled the units stay where they are.
    let late = and(&[asked.clone(), by(Kind::Refunded, "pi_1", &[])]);
    assert!(late.flaws.is_empty() && late.orders[&OrderId([1; 16])].keeps_units);
    assert_eq!(late.holders.len(), 2);
    // Another payment's money changes nothing.
    let other = and(&[by(Kind::Refunded, "pi_2", &[])]);
    assert_eq!((other.orders[&OrderId([1; 16])].state, other.flaws.len()), (OrderState::Paid, 0));

    // A refund that was refused can be asked for anew, and only then be made.
    let refused = by(Kind::RefundRefused, "pi_1", &[]);
    let kept = and(&[asked.clone(), refused.clone()]);
    let order = &kept.orders[&OrderId([1; 16])];
    assert!(kept.flaws.is_empty(), "{:?}", kept.flaws);
    assert_eq!((order.state, order.refunding, kept.holders.len()), (OrderState::Paid, false, 2));
    let again = and(&[asked.clone(), refused.clone(), asked.clone(), done.clone()]);
    assert!(again.flaws.is_empty() && again.holders.is_empty(), "{:?}", again.flaws);

    let rows: [(&[LedgerEntry], Invariant, &str); 7] = [
        (std::slice::from_ref(&refused), Invariant::Inv6, "nobody asked"),
        (&[asked.clone(), refused.clone(), done.clone()], Invariant::Inv6, "nobody asked"),
        (&[asked.clone(), by(Kind::RefundRefused, "pi_2", &[])], Invariant::Inv6, "nobody asked"),
        (std::slice::from_ref(&done), Invariant::Inv6, "nobody asked"),
        (&[asked.clone(), done.clone(), done.clone()], Invariant::Inv5, "a second time"),
        (&[asked.clone(), done.clone(), asked.clone()], Invariant::Inv6, "is not paid"),
        (&[asked, by(Kind::Refunded, "pi_1", &[3])], Invariant::Inv2, "gives back"),
    ];
    for (more, invariant, words) in rows {
        let flaws = and(more).flaws;
        let [flaw] = flaws.as_slice() else { panic!("{words}: {flaws:?}") };
        assert_eq!(flaw.invariant, invariant, "{words}");
        assert!(flaw.sentence.contains(words), "{}", flaw.sentence);
    }
}

#[test]
fn impossible_moves_are_flaws() {
    let rows = [
        (moved(Kind::Accepted, 1, None, &[9, 10]), "has already"),
        (moved(Kind::GivenUp, 1, None, &[9, 10]), "does not have"),
        (moved(Kind::GivenUp, 1, None, &[0, 0]), "which order"),
        (moved(Kind::GivenUp, 1, None, &[1]), "no ranges"),
        (
            LedgerEntry { transfer: vec![1], ..moved(Kind::GivenUp, 1, None, &[1, 1]) },
            "no transfer",
        ),
        (entry(Kind::Held, 2, &[10], 0), "does not have"),
    ];
    for (wrong, words) in rows {
        let granted = entry(Kind::Granted, 0, &[0, 9], 0);
        let flaws = replay(&[granted, entry(Kind::Held, 1, &[0], 0), wrong]).flaws;
        let [flaw] = flaws.as_slice() else { panic!("{words}: {flaws:?}") };
        assert_eq!(flaw.invariant, Invariant::Inv2, "{words}");
        assert!(flaw.sentence.contains(words), "{}", flaw.sentence);
    }
}
