//! How long a bucket took to grant again, as its ledger says it.

use std::time::Duration;

use prost::Message;
use proto::wire::events::LedgerBatch;
use proto::wire::events::ledger_entry::Kind;

use crate::judge::Bucket;

/// From when on a hold was made of the new state, and not before the blow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fresh {
    /// It was committed under a newer epoch than the last one before the blow.
    Epoch,
    /// It was committed after this moment (unix microseconds).
    After(u64),
}

/// Whether a bucket granted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// So long after what is said.
    After(Duration, &'static str),
    /// It had nothing to grant.
    NothingFree,
    /// It did not, although units were free from this moment on (unix microseconds).
    Never(u64),
}

/// What a row of the ledger did to a bucket's free units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Step {
    at_us: u64,
    epoch: i64,
    /// Units that became free, or ceased to be.
    free: i64,
    holds: u32,
}

/// How long a bucket took from `since_us` to its first hold of the new state, and since when: from then, or from when
/// units were free again if all of them were held. Fewer units than `cap` count as none.
pub(super) fn granting_again(bucket: &Bucket, cap: u32, since_us: u64, fresh: Fresh) -> Again {
    let steps: Vec<Step> = bucket.rows.iter().map(step).collect();
    let old = epoch_at(&steps, since_us);
    let is_fresh = |step: &Step| match fresh {
        Fresh::Epoch => step.epoch > old,
        Fresh::After(us) => step.at_us > us,
    };
    let (mut free, mut granted) = (0, false);
    let mut free_since_us: Option<(u64, _)> = None;
    for step in &steps {
        if step.holds > 0 && step.at_us > since_us && is_fresh(step) {
            if let Some((from_us, since)) = free_since_us {
                let took = Duration::from_micros(step.at_us.saturating_sub(from_us));
                return Again::After(took, since);
            }
            // Of the last few units: how long whoever wanted more had to wait says nothing.
            granted = true;
        }
        free += step.free;
        if free < i64::from(cap) {
            free_since_us = None;
        } else if free_since_us.is_none() {
            free_since_us = Some(if step.at_us <= since_us {
                (since_us, "the blow")
            } else {
                (step.at_us, "units returned; all were held")
            });
        }
    }
    match free_since_us {
        Some((from_us, _)) if !granted => Again::Never(from_us),
        _ => Again::NothingFree,
    }
}

/// How many batches of holds were committed under the old epoch after a moment (unix microseconds).
pub(super) fn old_batches_after(bucket: &Bucket, struck_us: u64, after_us: u64) -> usize {
    let steps: Vec<Step> = bucket.rows.iter().map(step).collect();
    let old = epoch_at(&steps, struck_us);
    let is_old = |step: &&Step| step.holds > 0 && step.epoch <= old && step.at_us > after_us;
    steps.iter().filter(is_old).count()
}

/// The epoch of the last row until then.
fn epoch_at(steps: &[Step], us: u64) -> i64 {
    let before = steps.iter().rfind(|step| step.at_us <= us).or(steps.first());
    before.map_or(0, |step| step.epoch)
}

fn step(row: &crate::judge::LedgerRow) -> Step {
    let at_us = u64::try_from(row.at_us).unwrap_or(0);
    let mut step = Step { at_us, epoch: row.epoch, ..Step::default() };
    // A row that cannot be read is the judge's to complain about.
    let batch = LedgerBatch::decode(row.entries.as_slice()).unwrap_or_default();
    for entry in &batch.entries {
        let units = i64::try_from(entry.units.len()).unwrap_or(i64::MAX);
        let ranges = entry.units.as_chunks::<2>().0.iter();
        let ranges: i64 =
            ranges.map(|[first, last]| i64::from(*last) - i64::from(*first) + 1).sum();
        match entry.kind() {
            Kind::Held => {
                step.free -= units;
                step.holds += 1;
            }
            Kind::Expired | Kind::Cancelled | Kind::Refunded => step.free += units,
            Kind::Granted | Kind::Accepted => step.free += ranges,
            Kind::GivenUp => step.free -= ranges,
            _ => {}
        }
    }
    step
}

#[cfg(test)]
mod tests {
    use proto::wire::events::LedgerEntry;

    use super::*;
    use crate::judge::LedgerRow;

    fn row(at_us: i64, epoch: i64, kind: Kind, units: &[u32]) -> LedgerRow {
        let entry = LedgerEntry { kind: kind.into(), units: units.to_vec(), ..Default::default() };
        let entries = LedgerBatch { entries: vec![entry] }.encode_to_vec();
        LedgerRow { seq: 0, epoch, at_us, entries, root: vec![], hash: vec![] }
    }

    fn bucket(rows: &[LedgerRow]) -> Bucket {
        let mut all = vec![row(100, 1, Kind::Granted, &[0, 4])];
        all.extend_from_slice(rows);
        Bucket { rows: all, ..Bucket::default() }
    }

    #[test]
    fn granting_again_counts_from_when_it_could() {
        let hold = |at_us, epoch, units: &[u32]| row(at_us, epoch, Kind::Held, units);
        let back = |at_us, epoch, units: &[u32]| row(at_us, epoch, Kind::Expired, units);
        let after_blow = Again::After(Duration::from_micros(1_500), "the blow");
        let after_return =
            Again::After(Duration::from_micros(100), "units returned; all were held");
        let rows: [(&[LedgerRow], _); 5] = [
            // What was under way is committed under the old epoch still.
            (&[hold(500, 1, &[0, 1]), hold(1_900, 1, &[2]), hold(2_500, 2, &[3])], after_blow),
            (&[hold(500, 1, &[0, 1, 2, 3]), back(900, 1, &[0]), hold(2_500, 2, &[0])], after_blow),
            (
                &[hold(500, 1, &[0, 1, 2, 3]), back(2_400, 2, &[0]), hold(2_500, 2, &[0])],
                after_return,
            ),
            (&[hold(500, 1, &[0, 1, 2, 3])], Again::NothingFree),
            (&[hold(500, 1, &[0, 1, 2]), hold(900, 1, &[3])], Again::NothingFree),
        ];
        for (rows, expected) in rows {
            let found = granting_again(&bucket(rows), 2, 1_000, Fresh::Epoch);
            assert_eq!(found, expected, "{rows:?}");
        }
        let few = [hold(500, 1, &[0, 1, 2, 3]), hold(2_500, 2, &[4])];
        assert_eq!(granting_again(&bucket(&few), 2, 1_000, Fresh::Epoch), Again::NothingFree);
        let never = [hold(500, 1, &[0, 1])];
        let found = granting_again(&bucket(&never), 2, 1_000, Fresh::Epoch);
        assert_eq!(found, Again::Never(1_000));
        let back = [hold(500, 1, &[0, 1, 2, 3, 4]), back(2_400, 2, &[0, 1])];
        let found = granting_again(&bucket(&back), 2, 1_000, Fresh::Epoch);
        assert_eq!(found, Again::Never(2_400));
        let late = [hold(1_900, 1, &[0]), hold(2_500, 1, &[1])];
        let found = granting_again(&bucket(&late), 2, 1_000, Fresh::After(2_000));
        assert_eq!(found, after_blow);
    }

    #[test]
    fn batches_of_the_old_epoch_are_counted_from_the_moment_on() {
        let hold = |at_us, epoch| row(at_us, epoch, Kind::Held, &[0]);
        let bucket = bucket(&[hold(500, 1), hold(1_100, 1), hold(1_300, 1), hold(1_400, 2)]);
        assert_eq!(old_batches_after(&bucket, 1_000, 1_050), 2);
        assert_eq!(old_batches_after(&bucket, 1_000, 1_200), 1);
        assert_eq!(old_batches_after(&bucket, 1_000, 1_300), 0);
    }
}
