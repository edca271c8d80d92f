//! Which reports are too old to plan with: those that were made before the bucket's last transfer had its effect.
//!
//! A bucket of which a transfer was asked for is set aside until it has reported anew since, or for [`WAIT_MS`]. Reports
//! are told apart by the clock of the bucket's own Postgres and not compared with ours: clocks differ. A giver that gave
//! nothing is so not asked again and again for what it does not have, and whoever has reported nothing new, because
//! nothing changed or because the news was lost, is only waited for a while. This is memory of one leader; the next one
//! begins without it, which costs a useless wish at most.

use std::collections::{BTreeMap, BTreeSet};

use proto::wire::cell::BucketReport;

/// How long a bucket that reports nothing new is set aside after its transfer.
const WAIT_MS: u64 = 2_000;

/// What is remembered of one sale's buckets.
#[derive(Clone, Debug, Default)]
pub struct Fresh {
    /// By bucket: the time of the report on which a transfer of it was asked for last.
    asked_on: BTreeMap<u32, u64>,
    /// By bucket: that time, and until when to wait for another report.
    waiting: BTreeMap<u32, (u64, u64)>,
}

impl Fresh {
    /// A transfer was asked for in view of these reports.
    pub fn asked(&mut self, bucket: u32, reports: &[BucketReport]) {
        if let Some(report) = reports.iter().find(|report| report.bucket == bucket) {
            self.asked_on.insert(bucket, report.at_ms);
        }
    }

    /// A transfer of this bucket is over.
    pub fn over(&mut self, bucket: u32, now_ms: u64) {
        if let Some(at_ms) = self.asked_on.remove(&bucket) {
            self.waiting.insert(bucket, (at_ms, now_ms.saturating_add(WAIT_MS)));
        }
    }

    /// The buckets whose reports are not to be used.
    pub fn aside(&mut self, reports: &[BucketReport], now_ms: u64) -> BTreeSet<u32> {
        let same = |bucket: u32, at_ms: u64| {
            reports.iter().any(|report| report.bucket == bucket && report.at_ms == at_ms)
        };
        self.waiting
            .retain(|bucket, (at_ms, until_ms)| now_ms < *until_ms && same(*bucket, *at_ms));
        self.waiting.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(bucket: u32, at_ms: u64) -> BucketReport {
        BucketReport { bucket, at_ms, ..BucketReport::default() }
    }

    #[test]
    fn a_bucket_is_set_aside_until_it_reports_anew() {
        let mut fresh = Fresh::default();
        let before = [report(0, 50), report(1, 90)];
        fresh.asked(0, &before);
        fresh.asked(1, &before);
        assert!(fresh.aside(&before, 100).is_empty(), "open transfers are seen by themselves");
        fresh.over(0, 100);
        fresh.over(1, 100);
        fresh.over(2, 100);
        assert_eq!(fresh.aside(&before, 101), BTreeSet::from([0, 1]));
        // Its clock may even have been set back.
        let after = [report(0, 40), report(1, 90)];
        assert_eq!(fresh.aside(&after, 102), BTreeSet::from([1]));
        assert_eq!(fresh.aside(&before, 103), BTreeSet::from([1]), "once is enough");
        assert!(fresh.aside(&before, 100 + WAIT_MS).is_empty(), "nobody is waited for for ever");
    }
}
