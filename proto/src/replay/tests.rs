//! Stories that can happen, and those that cannot.

use super::*;

fn entry(kind: Kind, order: u8, units: &[u32], attempt: u32) -> LedgerEntry {
    LedgerEntry {
        kind: kind.into(),
        order: vec![order; 16],
        buyer: if kind == Kind::Held { vec![order + 100; 16] } else { Vec::new() },
        units: units.to_vec(),
        attempt,
        intent: if attempt > 0 { format!("pi_{order}_{attempt}") } else { String::new() },
        ..LedgerEntry::default()
    }
}

fn replay(entries: &[LedgerEntry]) -> Replay {
    let mut replay = Replay::default();
    entries.iter().for_each(|entry| replay.apply(entry));
    replay
}

fn state(replay: &Replay, order: u8) -> Option<State> {
    replay.order(&OrderId([order; 16])).map(|order| order.state)
}

#[test]
fn a_ledger_says_what_became_of_orders_and_units() {
    let mut replay = replay(&[
        entry(Kind::Granted, 0, &[0, 9], 0),
        entry(Kind::Held, 1, &[1, 0], 0),
        entry(Kind::Held, 2, &[2], 0),
        entry(Kind::Held, 4, &[3, 4], 0),
        entry(Kind::Paying, 1, &[], 1),
        entry(Kind::Declined, 1, &[], 1),
        entry(Kind::Cancelled, 2, &[2], 0),
        entry(Kind::Paying, 1, &[], 2),
        entry(Kind::Held, 3, &[2], 0),
        entry(Kind::Paid, 1, &[], 2),
        entry(Kind::Refunded, 2, &[], 3),
        entry(Kind::Expired, 3, &[2], 0),
        entry(Kind::GivenUp, 0, &[5, 6, 8, 9], 0),
        entry(Kind::Accepted, 0, &[20, 22], 0),
    ]);
    assert_eq!(replay.take_flaws(), []);
    assert_eq!(replay.granted().iter().collect::<Vec<_>>(), [(0, 4), (7, 7), (20, 22)]);
    assert_eq!((replay.live(), replay.paid()), (2, 2));
    assert_eq!((state(&replay, 1), state(&replay, 4)), (Some(State::Paid), Some(State::Held)));
    assert_eq!(replay.units().keys().copied().collect::<Vec<_>>(), [0, 1, 3, 4]);
    assert_eq!([1, 2, 3].map(|part| replay.ended_in(part).count), [0, 1, 1]);
    assert_eq!((replay.orders_in(4).count(), replay.order_count()), (1, 4));
}

#[test]
fn a_refund_ends_the_order_that_is_paid_by_it() {
    let paid = [
        entry(Kind::Granted, 0, &[0, 9], 0),
        entry(Kind::Held, 1, &[1, 2], 0),
        entry(Kind::Paying, 1, &[], 1),
        entry(Kind::Paid, 1, &[], 1),
        entry(Kind::Refunding, 1, &[], 1),
    ];
    let after = |last: LedgerEntry| {
        let mut replay = replay(&[&paid[..], &[last]].concat());
        assert_eq!(replay.take_flaws(), []);
        (state(&replay, 1), replay.paid(), replay.units().len(), replay.ended_in(1).count)
    };
    assert_eq!(after(entry(Kind::Refunded, 1, &[2, 1], 1)), (None, 0, 0, 1));
    assert_eq!(after(entry(Kind::Refunded, 1, &[], 1)), (Some(State::Refunded), 2, 2, 0));
    let refused = entry(Kind::RefundRefused, 1, &[], 1);
    assert_eq!(after(refused), (Some(State::Paid), 2, 2, 0));
    let other = LedgerEntry { intent: "pi_other".into(), ..entry(Kind::Refunded, 1, &[], 1) };
    assert_eq!(after(other), (Some(State::Paid), 2, 2, 0));
}

#[test]
fn every_column_of_an_ended_order_counts() {
    let order = ReplayedOrder {
        state: State::Expired,
        buyer: [1; 16],
        units: [1].into(),
        ticket: 2,
        revision: 3,
        attempt: 4,
        intent: 5,
    };
    let id = OrderId([7; 16]);
    let others = [
        ReplayedOrder { state: State::Cancelled, ..order.clone() },
        ReplayedOrder { buyer: [2; 16], ..order.clone() },
        ReplayedOrder { units: [1, 2].into(), ..order.clone() },
        ReplayedOrder { ticket: 0, ..order.clone() },
        ReplayedOrder { revision: 0, ..order.clone() },
        ReplayedOrder { attempt: 0, ..order.clone() },
        ReplayedOrder { intent: 0, ..order.clone() },
    ];
    for other in others {
        assert_ne!(order.digest(id), other.digest(id), "{other:?}");
    }
    assert_ne!(order.digest(id), order.digest(OrderId([8; 16])));
}

/// INV-1, INV-2, INV-6: entries that cannot follow what stands before them.
#[test]
fn impossible_entries_are_flaws() {
    use Invariant::{Inv1, Inv2, Inv6};
    let held = || entry(Kind::Held, 1, &[0], 0);
    let rows: &[(&[LedgerEntry], Invariant, &str)] = &[
        (&[held(), entry(Kind::Held, 2, &[0], 0)], Inv1, "while order"),
        (&[held(), held()], Inv6, "a second time"),
        (&[entry(Kind::Held, 1, &[10], 0)], Inv2, "not granted"),
        (&[entry(Kind::Held, 1, &[], 0)], Inv6, "no unit"),
        (&[entry(Kind::Paid, 1, &[], 1)], Inv6, "not known"),
        (&[held(), entry(Kind::Paid, 1, &[], 1)], Inv6, "while it is Held"),
        (&[held(), entry(Kind::Refunding, 1, &[], 1)], Inv6, "while it is Held"),
        (&[held(), entry(Kind::RefundRefused, 1, &[], 1)], Inv6, "while it is Held"),
        (&[held(), entry(Kind::Paying, 1, &[], 2)], Inv6, "attempt 2"),
        (&[held(), entry(Kind::Expired, 1, &[1], 0)], Inv2, "gives back"),
        (&[entry(Kind::Granted, 1, &[14], 0)], Inv2, "no range"),
        (&[entry(Kind::Accepted, 1, &[9, 14], 0)], Inv2, "a second time"),
        (&[entry(Kind::GivenUp, 1, &[9, 14], 0)], Inv2, "were not granted"),
        (&[held(), entry(Kind::GivenUp, 1, &[0, 4], 0)], Inv2, "while order"),
        (&[LedgerEntry::default()], Inv6, "names no order"),
    ];
    for (entries, invariant, words) in rows {
        let granted = entry(Kind::Granted, 0, &[0, 9], 0);
        let mut all = vec![granted];
        all.extend(entries.iter().cloned());
        let flaws = replay(&all).take_flaws();
        let [flaw] = flaws.as_slice() else { panic!("{words}: {flaws:?}") };
        assert_eq!(flaw.invariant, *invariant, "{words}");
        assert!(flaw.sentence.contains(words), "{}", flaw.sentence);
    }
}
