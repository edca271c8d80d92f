//! INV-3: Redis between two snapshots of Postgres.

use super::*;
use proto::wire::events::{LedgerEntry, ledger_entry::Kind};

fn held(order: u8, unit: u32) -> LedgerEntry {
    LedgerEntry {
        kind: Kind::Held.into(),
        order: vec![order; 16],
        buyer: vec![1; 16],
        units: vec![unit],
        ..LedgerEntry::default()
    }
}

/// Units 100 to 109; order 1 has unit 101, order 2 has unit 102.
fn replay() -> Replay {
    let mut replay = Replay::default();
    let granted =
        LedgerEntry { kind: Kind::Granted.into(), units: vec![100, 109], ..LedgerEntry::default() };
    [granted, held(1, 101), held(2, 102)].iter().for_each(|entry| replay.apply(entry));
    assert_eq!(replay.take_flaws(), []);
    replay
}

fn row() -> BucketRow {
    BucketRow {
        epoch: 1,
        seq: 3,
        head: vec![],
        at_us: 0,
        granted: 10,
        live: 2,
        paid: 0,
        hold_batch: 2,
        settle_batch: 0,
    }
}

/// What Redis says when all is well: unit 100 was returned, and units from 103 on were never granted.
fn look() -> Look {
    let (first, second) = (Some(OrderId([1; 16])), Some(OrderId([2; 16])));
    Look {
        epoch: 1,
        units: vec![(100, 0, None), (101, 1, first), (102, 2, second), (103, 3, None)],
        listed: Vec::new(),
        looked: Looked {
            hold_batch: 2,
            settle_batch: 0,
            next: 3,
            end: 10,
            returned: 1,
            listed: vec![0],
            owners: vec![None, first, second, None],
        },
    }
}

fn found(change: impl Fn(&mut Look)) -> Vec<String> {
    let mut look = look();
    change(&mut look);
    let found = judge(&look, &replay(), &row(), &mut Watch::default());
    assert!(found.iter().all(|difference| difference.invariant == Invariant::Inv3), "{found:?}");
    found.into_iter().map(|difference| difference.what).collect()
}

#[test]
fn what_redis_would_grant_twice_is_found_at_once() {
    assert_eq!(found(|_| {}), [""; 0]);
    let one = |change: fn(&mut Looked), words: &str| {
        let found = found(|look| change(&mut look.looked));
        assert!(found.len() == 1 && found[0].contains(words), "{words}: {found:?}");
    };
    one(|looked| looked.owners[1] = None, "redis gives it to nobody");
    one(|looked| looked.owners[1] = Some(OrderId([7; 16])), "order 07");
    one(|looked| looked.listed = vec![0, 2], "would grant it all the same");
    one(|looked| looked.next = 2, "would grant it all the same");
    one(|looked| looked.listed = vec![0, 0], "twice");
}

/// A list that is too long for one look is read in slices, and each slice tells of units that nobody has asked about.
#[test]
fn what_a_slice_of_a_long_list_would_grant_twice_is_found() {
    let (first, other) = (OrderId([1; 16]), OrderId([5; 16]));
    let sliced = |listed: (u32, OrderId)| {
        found(|look| {
            (look.looked.returned, look.listed) = (5_000, vec![listed]);
            (look.units, look.looked.owners) = (vec![(103, 3, None)], vec![None]);
        })
    };
    let found = sliced((101, first));
    assert!(found.len() == 1 && found[0].contains("unit 101 is order 01"), "{found:?}");
    // It is another order's by now, or nobody's: it changed hands.
    assert_eq!(sliced((101, other)), [""; 0]);
    assert_eq!(sliced((103, first)), [""; 0]);
}

#[test]
fn what_changes_hands_meanwhile_is_no_difference() {
    // It was free before, and Redis gave it to the order that has it now.
    assert_eq!(found(|look| look.units[1].2 = None), [""; 0]);
    // It was another order's before.
    assert_eq!(found(|look| look.units[1].2 = Some(OrderId([5; 16]))), [""; 0]);
    // It was given up meanwhile.
    assert_eq!(
        found(|look| (look.units[0].0, look.looked.owners[0]) = (110, Some(OrderId([5; 16])))),
        [""; 0]
    );
}

#[test]
fn a_stranded_unit_is_found_when_no_batch_explains_it() {
    let strands: [fn(&mut Look); 3] = [
        |look| look.looked.owners[0] = Some(OrderId([5; 16])),
        |look| (look.looked.returned, look.looked.listed) = (0, vec![]),
        // Accepted, and never brought to Redis.
        |look| look.looked.end = 3,
    ];
    for strand in strands {
        let (mut watch, mut look) = (Watch::default(), look());
        strand(&mut look);
        let first = (0..1_000).find(|_| !judge(&look, &replay(), &row(), &mut watch).is_empty());
        assert_eq!(first, Some(120));
        watch.clear_all();
        // Too many are listed to say so of a unit that nobody has.
        look.looked.returned = 5_000;
        let sure = look.looked.owners[0].is_some() || look.looked.end == 3;
        let first = (0..1_000).find(|_| !judge(&look, &replay(), &row(), &mut watch).is_empty());
        assert_eq!(first.is_some(), sure);
    }
}

#[test]
fn every_unit_has_its_turn() {
    let mut replay = Replay::default();
    for units in [vec![10, 1_200], vec![5_000, 5_000]] {
        let kind = Kind::Accepted.into();
        replay.apply(&LedgerEntry { kind, units, ..LedgerEntry::default() });
    }
    let mut audit = StockAudit::default();
    let turns: Vec<Vec<u32>> = (0..4).map(|_| audit.choose(&replay)).collect();
    let all: Vec<u32> = turns[..3].concat();
    assert_eq!(all, (10..=1_200).chain([5_000]).collect::<Vec<_>>());
    assert_eq!(turns[3], turns[0]);
}
