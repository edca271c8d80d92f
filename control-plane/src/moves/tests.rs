//! Who is asked to give what to whom, case by case; a whole sale in [`model`].

mod model;

use std::collections::BTreeSet;

use proto::wire::cell::{BucketPlan, UnitRange};

use super::*;

fn sale(buckets: usize, cap: u32) -> SaleRecord {
    let mut sale = SaleRecord {
        sale: "s01".into(),
        stock: 100,
        cap,
        admission_rate: 1_000,
        end_ms: u64::MAX,
        buckets: vec![BucketPlan::default(); buckets],
        ..SaleRecord::default()
    };
    sale.set_state(Decided::Warm);
    sale
}

/// A row for each bucket: see [`reports`].
type Given<'a> = &'a [(u32, u32, u32)];

/// Free units, wanted ones, and the fewest that serve somebody.
fn reports(rows: &[(u32, u32, u32)]) -> Vec<BucketReport> {
    let report = |(bucket, &(free, wanted, wanted_min))| BucketReport {
        bucket,
        free,
        wanted,
        wanted_min,
        ..BucketReport::default()
    };
    (0..).zip(rows).map(report).collect()
}

fn transfer(state: State, from: Option<u32>, to: Option<u32>, units: u32) -> TransferRecord {
    let mut transfer =
        TransferRecord { from, to, wanted: units, create_ms: 1_000, ..TransferRecord::default() };
    if state != State::Asked {
        transfer.units = vec![UnitRange { first: 0, units }];
    }
    transfer.set_state(state);
    transfer
}

fn plan(sale: &SaleRecord, reports: &[BucketReport], transfers: &[TransferRecord]) -> Vec<Wish> {
    wishes(Seen { sale, reports, transfers, aside: &BTreeSet::new(), now_ms: 1_000 })
}

fn wish(from: u32, to: u32, wanted: u32) -> Wish {
    Wish { from, to, wanted }
}

#[test]
fn who_gives_what_to_whom() {
    let rows: [(&str, Given<'_>, &[Wish]); 14] = [
        ("nobody wants anything", &[(5, 0, 0), (0, 0, 0)], &[]),
        ("each can serve its own line", &[(5, 5, 1), (3, 3, 1)], &[]),
        ("both lines are longer", &[(5, 9, 1), (3, 9, 1)], &[]),
        ("one has more than its line", &[(5, 2, 1), (0, 2, 1)], &[wish(0, 1, 2)]),
        ("no more than it can spare", &[(5, 4, 1), (0, 9, 1)], &[wish(0, 1, 1)]),
        (
            "the largest giver first",
            &[(2, 0, 0), (0, 4, 1), (3, 0, 0)],
            &[wish(2, 1, 3), wish(0, 1, 1)],
        ),
        (
            "an equal part each",
            &[(4, 0, 0), (4, 0, 0), (0, 9, 1), (0, 9, 1)],
            &[wish(0, 2, 4), wish(1, 3, 4)],
        ),
        (
            "the one that is nearest to serving",
            &[(1, 0, 0), (0, 2, 2), (1, 2, 2)],
            &[wish(0, 2, 1)],
        ),
        ("two that serve nobody", &[(1, 2, 2), (1, 2, 2)], &[wish(1, 0, 1)]),
        ("three, of which two are enough", &[(1, 9, 3), (1, 2, 2), (1, 9, 3)], &[wish(0, 1, 1)]),
        ("all of three", &[(1, 3, 3), (1, 3, 3), (1, 3, 3)], &[wish(1, 0, 1), wish(2, 0, 1)]),
        ("one without a unit", &[(1, 3, 3), (1, 3, 3), (0, 2, 2)], &[wish(0, 2, 1), wish(1, 2, 1)]),
        ("together still too few", &[(1, 3, 3), (1, 3, 3)], &[]),
        ("one can serve, and keeps its units", &[(2, 9, 1), (1, 2, 2)], &[]),
    ];
    for (what, given, expected) in rows {
        assert_eq!(plan(&sale(given.len(), 3), &reports(given), &[]), expected, "{what}");
    }
}

#[test]
fn units_stay_where_they_are_while_the_sale_is_young() {
    let young = SaleRecord { admission_rate: 10, ..sale(2, 1) };
    let dry = dry_units(&young);
    assert_eq!(dry, 6);
    assert_eq!(plan(&young, &reports(&[(900, 10, 1), (dry + 1, 500, 1)]), &[]), []);
    // Then as much at a time as it needs until the next one comes.
    assert_eq!(plan(&young, &reports(&[(900, 10, 1), (dry, 500, 1)]), &[]), [wish(0, 1, dry)]);
}

#[test]
fn only_while_it_sells() {
    let given = reports(&[(5, 0, 0), (0, 5, 1)]);
    let moves = |sale: &SaleRecord| plan(sale, &given, &[]).len();
    let in_state = |state| {
        let mut sale = sale(2, 1);
        sale.set_state(state);
        sale
    };
    assert_eq!(moves(&sale(2, 1)), 1);
    assert_eq!(moves(&SaleRecord { paused: true, ..sale(2, 1) }), 0);
    assert_eq!(moves(&SaleRecord { start_ms: 1_001, ..sale(2, 1) }), 0);
    assert_eq!(moves(&SaleRecord { end_ms: 1_000, ..sale(2, 1) }), 0);
    for state in [Decided::Draft, Decided::Warming, Decided::Cancelled, Decided::Settled] {
        assert_eq!(moves(&in_state(state)), 0, "{state:?}");
    }
}

#[test]
fn what_is_under_way_is_not_asked_for_again() {
    use State::{Accepted, Asked, Given};
    let given = reports(&[(9, 0, 0), (0, 4, 1), (2, 0, 0)]);
    let moves = |transfers: &[TransferRecord]| plan(&sale(3, 1), &given, transfers);
    assert_eq!(moves(&[]), [wish(0, 1, 4)]);
    // Who gives to one gives to nobody else, and what it was asked for is counted on for a while.
    assert_eq!(moves(&[transfer(Asked, Some(0), Some(1), 4)]), []);
    assert_eq!(moves(&[transfer(Asked, Some(0), Some(1), 1)]), [wish(2, 1, 2)]);
    let old = TransferRecord { create_ms: 0, ..transfer(Asked, Some(0), Some(1), 4) };
    let late = Seen {
        sale: &sale(3, 1),
        reports: &given,
        transfers: &[old],
        aside: &BTreeSet::new(),
        now_ms: ANSWER_MS,
    };
    assert_eq!(wishes(late), [wish(2, 1, 2)]);
    for state in [Given, Accepted] {
        assert_eq!(moves(&[transfer(state, Some(0), Some(1), 3)]), [wish(2, 1, 1)], "{state:?}");
    }
    // What the merchant takes back and adds counts as well.
    assert_eq!(moves(&[transfer(Asked, Some(0), None, 9)]), [wish(2, 1, 2)]);
    assert_eq!(moves(&[transfer(Given, None, Some(1), 4)]), []);
    assert_eq!(moves(&[transfer(Given, None, Some(0), 4)]), [wish(2, 1, 2)]);
    // A bucket that gives takes nothing.
    assert_eq!(moves(&[transfer(Asked, Some(1), None, 1)]), []);
    let aside = BTreeSet::from([0]);
    let seen =
        Seen { sale: &sale(3, 1), reports: &given, transfers: &[], aside: &aside, now_ms: 0 };
    assert_eq!(wishes(seen), [wish(2, 1, 2)]);
}
