//! How a sale's units flowed, as its ledgers say it: how long those that came back lay free, for how long the whole sale
//! stood still although units were free, and how many had to move to where buyers were.
//!
//! Buckets of two cells are put in order by the clocks of their Postgres, which must agree.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message;
use proto::wire::events::ledger_entry::Kind;
use proto::wire::events::{LedgerBatch, LedgerEntry};

use crate::judge::Bucket;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Flow {
    /// For each unit that came back and was held again: how long it lay free.
    pub(super) waits: Vec<Duration>,
    /// The longest time in which units were free, or on their way, and none was held.
    pub(super) standstill: Duration,
    /// Transfers that brought units, and how many units.
    pub(super) transfers: u32,
    pub(super) moved: u64,
    /// When the last unit was paid for, unix microseconds.
    pub(super) last_paid_us: Option<u64>,
}

impl Flow {
    /// Of a sale with these buckets, from `start_us` (unix microseconds) on.
    pub(super) fn of(buckets: &[Bucket], start_us: u64) -> Flow {
        let rows = buckets.iter().flat_map(|bucket| &bucket.rows);
        let mut rows: Vec<(u64, LedgerBatch)> = rows
            .map(|row| {
                // A row that cannot be read is the judge's to complain about.
                let batch = LedgerBatch::decode(row.entries.as_slice()).unwrap_or_default();
                (u64::try_from(row.at_us).unwrap_or(0), batch)
            })
            .collect();
        rows.sort_by_key(|(at_us, _)| *at_us);
        let mut flow = Flow::default();
        let mut state = State { free: 0, since_us: start_us, returned_us: HashMap::new() };
        for (at_us, batch) in rows {
            for entry in &batch.entries {
                flow.add(at_us, entry, &mut state);
            }
        }
        flow
    }

    fn add(&mut self, at_us: u64, entry: &LedgerEntry, state: &mut State) {
        let count = i64::try_from(entry.units.len()).unwrap_or(i64::MAX);
        match entry.kind() {
            Kind::Held => {
                if state.free > 0 {
                    let still = Duration::from_micros(at_us.saturating_sub(state.since_us));
                    self.standstill = self.standstill.max(still);
                }
                state.free -= count;
                state.since_us = state.since_us.max(at_us);
                let back = entry.units.iter().filter_map(|unit| state.returned_us.remove(unit));
                let waits = back.map(|us| Duration::from_micros(at_us.saturating_sub(us)));
                self.waits.extend(waits);
            }
            Kind::Expired | Kind::Cancelled | Kind::Refunded => {
                state.come(at_us, count);
                state.returned_us.extend(entry.units.iter().map(|unit| (*unit, at_us)));
            }
            Kind::Granted => state.come(at_us, units_of(entry)),
            Kind::Accepted if entry.peer.is_none() => state.come(at_us, units_of(entry)),
            Kind::Accepted => {
                self.transfers += 1;
                self.moved += units_of(entry).unsigned_abs();
            }
            Kind::Paid => self.last_paid_us = Some(at_us),
            _ => {}
        }
    }
}

/// What is so after some rows.
struct State {
    /// Free units of the whole sale, those on their way among them.
    free: i64,
    /// When something was held last, or became free after nothing was.
    since_us: u64,
    /// Units that came back and were not held since, and when they came.
    returned_us: HashMap<u32, u64>,
}

impl State {
    fn come(&mut self, at_us: u64, count: i64) {
        if self.free <= 0 {
            self.since_us = self.since_us.max(at_us);
        }
        self.free += count;
    }
}

/// Units of an entry that names them by ranges: first and last, in turn.
fn units_of(entry: &LedgerEntry) -> i64 {
    let ranges = entry.units.as_chunks::<2>().0.iter();
    ranges.map(|[first, last]| i64::from(*last) - i64::from(*first) + 1).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::LedgerRow;

    fn row(at_us: i64, kind: Kind, units: &[u32], peer: Option<u32>) -> LedgerRow {
        let entry =
            LedgerEntry { kind: kind.into(), units: units.to_vec(), peer, ..Default::default() };
        let entries = LedgerBatch { entries: vec![entry] }.encode_to_vec();
        LedgerRow { seq: 0, epoch: 1, at_us, entries, root: vec![], hash: vec![] }
    }

    fn bucket(rows: Vec<LedgerRow>) -> Bucket {
        Bucket { rows, ..Bucket::default() }
    }

    #[test]
    fn a_unit_is_followed_from_bucket_to_bucket() {
        let first = bucket(vec![
            row(10, Kind::Granted, &[0, 1], None),
            row(1_500, Kind::Held, &[0, 1], None),
            row(2_000, Kind::Cancelled, &[1], None),
            row(2_400, Kind::Paid, &[0], None),
            row(2_600, Kind::GivenUp, &[1, 1], Some(1)),
        ]);
        let second = bucket(vec![
            row(20, Kind::Granted, &[2, 2], None),
            row(1_100, Kind::Held, &[2], None),
            row(2_700, Kind::Accepted, &[1, 1], Some(0)),
            row(2_900, Kind::Held, &[1], None),
            row(3_500, Kind::Paid, &[1], None),
            row(3_600, Kind::Declined, &[2], None),
        ]);
        let micros = Duration::from_micros;
        let flow = Flow::of(&[first, second], 1_000);
        let expected = Flow {
            waits: vec![micros(900)],
            standstill: micros(900),
            transfers: 1,
            moved: 1,
            last_paid_us: Some(3_500),
        };
        assert_eq!(flow, expected);
    }

    #[test]
    fn a_sale_stands_still_only_while_units_are_free() {
        let rows = |free_from: i64| {
            bucket(vec![
                row(0, Kind::Granted, &[0, 0], None),
                row(1_200, Kind::Held, &[0], None),
                row(free_from, Kind::Expired, &[0], None),
                row(9_000, Kind::Held, &[0], None),
            ])
        };
        for (free_from, still) in [(8_950, 200), (4_000, 5_000)] {
            let flow = Flow::of(&[rows(free_from)], 1_000);
            assert_eq!(flow.standstill, Duration::from_micros(still));
        }
    }
}
