//! A ledger and its tables, which agree until one of them is damaged.

use super::*;
use proto::replay::intent_mark;
use proto::wire::events::{LedgerEntry, ledger_entry::Kind};

fn entry(kind: Kind, order: u8, units: &[u32]) -> LedgerEntry {
    let pays = matches!(kind, Kind::Paying | Kind::Paid);
    LedgerEntry {
        kind: kind.into(),
        order: vec![order; 16],
        buyer: if kind == Kind::Held { vec![9; 16] } else { Vec::new() },
        units: units.to_vec(),
        attempt: u32::from(pays),
        intent: if pays { "pi_1".into() } else { String::new() },
        ..LedgerEntry::default()
    }
}

fn replay() -> Replay {
    let mut replay = Replay::default();
    for entry in [
        entry(Kind::Granted, 0, &[0, 9]),
        entry(Kind::Held, 1, &[3, 4]),
        entry(Kind::Held, 2, &[5]),
        entry(Kind::Held, 3, &[7]),
        entry(Kind::Paying, 1, &[]),
        entry(Kind::Paid, 1, &[]),
        entry(Kind::Cancelled, 3, &[7]),
    ] {
        replay.apply(&entry);
    }
    assert_eq!(replay.take_flaws(), []);
    replay
}

fn row() -> BucketRow {
    BucketRow {
        epoch: 1,
        seq: 0,
        head: vec![0; 32],
        at_us: 0,
        granted: 10,
        live: 1,
        paid: 2,
        hold_batch: 0,
        settle_batch: 0,
    }
}

fn order(state: State, units: usize, paid: bool) -> ReplayedOrder {
    ReplayedOrder {
        state,
        buyer: [9; 16],
        units: vec![0; units].into(),
        ticket: 0,
        revision: 0,
        attempt: u32::from(paid),
        intent: intent_mark(if paid { "pi_1" } else { "" }),
    }
}

fn only(found: Vec<Difference>, words: &str) -> Invariant {
    let [one] = found.as_slice() else { panic!("{words}: {found:?}") };
    assert!(one.what.contains(words), "{}", one.what);
    one.invariant
}

/// INV-2
#[test]
fn counts_are_those_of_the_ledger() {
    let (chain, replay) = (Chain::default(), replay());
    let found = |change: fn(&mut BucketRow)| {
        let mut row = row();
        change(&mut row);
        counts(&chain, &replay, &row)
    };
    assert_eq!(found(|_| {}), []);
    assert_eq!(only(found(|row| row.granted = 11), "granted is 11"), Invariant::Inv2);
    assert_eq!(only(found(|row| row.live = 0), "live is 0"), Invariant::Inv2);
    assert_eq!(only(found(|row| row.paid = -1), "paid is -1"), Invariant::Inv2);
    assert_eq!(only(found(|row| row.seq = 1), "ends with row 1"), Invariant::Inv6);
    assert_eq!(only(found(|row| row.head[3] = 1), "ends with row"), Invariant::Inv6);
    assert_eq!(only(found(|row| row.at_us = 1), "1 us"), Invariant::Inv8);
}

/// INV-1
#[test]
fn units_are_those_of_the_ledger() {
    let replay = replay();
    let (first, second) = (OrderId([1; 16]), OrderId([2; 16]));
    let all = [(3, first), (4, first), (5, second)];
    assert_eq!(units(&replay, (0, None), &all), []);
    assert_eq!(units(&replay, (4, None), &all[1..]), []);
    assert_eq!(units(&replay, (0, Some(4)), &all[..2]), []);
    let broken = |rows: &[_], words| {
        assert_eq!(only(units(&replay, (0, None), rows), words), Invariant::Inv1)
    };
    broken(&all[..2], "unit 5 is free in the table");
    broken(&[all[0], all[1], all[2], (7, second)], "free by the ledger");
    broken(&[all[0], (4, second), all[2]], "unit 4 is order 02");
}

/// INV-6
#[test]
fn orders_are_those_of_the_ledger() {
    let replay = replay();
    let id = |order: u8| OrderId([order; 16]);
    let (paid, cancelled) = (order(State::Paid, 2, true), order(State::Cancelled, 1, false));
    assert_eq!(orders(&replay, 0, &[]), []);
    assert_eq!(orders(&replay, 1, &[(id(1), paid.clone())]), []);
    assert_eq!(orders(&replay, 3, &[(id(3), cancelled.clone())]), []);
    let live = |change: fn(&mut ReplayedOrder), words| {
        let mut row = paid.clone();
        change(&mut row);
        assert_eq!(only(orders(&replay, 1, &[(id(1), row)]), words), Invariant::Inv6);
    };
    live(|row| row.state = State::Held, "state Held in the table");
    live(|row| row.buyer = [8; 16], "buyer 0808");
    live(|row| row.units = [1].into(), "quantity 1");
    live(|row| row.intent = 3, "mark 3");
    live(|row| row.state = State::Expired, "state Expired in the table");
    let ended =
        |rows: &[_], words| assert_eq!(only(orders(&replay, 3, rows), words), Invariant::Inv6);
    ended(&[], "0 that ended stand in the table and 1");
    ended(
        &[(id(3), ReplayedOrder { state: State::Expired, ..cancelled.clone() })],
        "ended otherwise",
    );
    ended(&[(id(3), ReplayedOrder { state: State::Paid, ..cancelled.clone() })], "it has no units");
    assert_eq!(only(orders(&replay, 2, &[]), "not in the table"), Invariant::Inv6);
}
