//! Reports of buckets at rest. Whoever kept one reports once that it rests, and may die over that, or be overtaken by what
//! an earlier report says; and units that come late change what it was granted. So each process looks again and again,
//! until a sale is settled, whether what stands in etcd of its buckets at rest is what stands in Postgres, and corrects it.

use super::Archive;
use crate::failpoint::{self, Failpoint};
use crate::keeper::Ports;
use crate::ledger::{self, BucketRef, LedgerError, Rested};
use crate::sales::Sales;
use etcd_client::{Client, Compare, CompareOp, KeyValue, PutOptions, Txn, TxnOp};
use prost::Message;
use proto::keys;
use proto::limits::RESTED_REPORTS_MAX;
use proto::wire::cell::{BucketReport, sale_record::State};
use runtime::etcd::{EtcdError, connect, within};
use sqlx::PgPool;
use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(2);

/// Why something could not be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Etcd(#[from] EtcdError),
}

/// What the reports are made with.
#[derive(Debug)]
pub(crate) struct RestedReports {
    pub(crate) ports: Arc<Ports>,
    pub(crate) pool: PgPool,
    pub(crate) sales: Sales,
    pub(crate) etcd: Vec<String>,
}

/// A bucket's sale and number.
type Key = (Box<str>, u32);

/// Which buckets are looked at next.
#[derive(Debug, Default)]
struct Turn {
    /// The last that was looked at.
    after: Option<Key>,
    /// Sales that are settled, and stay so.
    settled: HashSet<Box<str>>,
}

/// Looks after the reports of buckets at rest until `end` is cancelled.
pub(crate) async fn rested_reports(reports: Arc<RestedReports>, end: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turn = Turn::default();
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = tick.tick() => {}
        }
        let is_awaited = |sale: &str| Some(reports.sales.record(sale)?.state() != State::Settled);
        let next = turn.next(&reports.ports.archive, is_awaited);
        if let Err(error) = reports.round(&next).await {
            tracing::warn!(%error, "cannot look after the reports of buckets at rest");
        }
    }
}

impl RestedReports {
    /// Reports one bucket at rest as Postgres has it now. Returns whether that stands in etcd.
    pub(super) async fn tell_of(
        &self,
        sale: &str,
        number: u32,
        bucket: BucketRef,
    ) -> Result<bool, Failed> {
        let mut etcd = connect(&self.etcd).await?;
        self.correct(&mut etcd, (sale, number), bucket).await
    }

    async fn round(&self, next: &[(Key, BucketRef)]) -> Result<(), Failed> {
        if next.is_empty() {
            return Ok(());
        }
        let mut etcd = connect(&self.etcd).await?;
        for ((sale, number), bucket) in next {
            self.correct(&mut etcd, (sale, *number), *bucket).await?;
        }
        Ok(())
    }

    async fn correct(
        &self,
        etcd: &mut Client,
        (sale, number): (&str, u32),
        bucket: BucketRef,
    ) -> Result<bool, Failed> {
        let key = keys::report(sale, number);
        let got = within("read a report", etcd.get(key.as_str(), None)).await?;
        let stands = got.kvs().first();
        let revision = stands.map_or(0, KeyValue::mod_revision);
        let stands = stands.and_then(|kv| BucketReport::decode(kv.value()).ok());
        // Postgres is read after etcd, and etcd written if nobody has since: so the newer never gives way to the older.
        let Some(rested) = ledger::rested(&self.pool, bucket).await? else { return Ok(false) };
        let stands = stands.unwrap_or_default();
        if says(&stands, &rested) {
            return Ok(true);
        }
        let now_us = self.ports.time.now_us().unwrap_or(0);
        let report = BucketReport {
            sale: sale.into(),
            bucket: number,
            process: self.ports.process.to_string(),
            at_ms: u64::try_from(now_us / 1_000).unwrap_or(0),
            ..of(stands, rested)
        };
        let as_seen = Compare::mod_revision(key.as_str(), CompareOp::Equal, revision);
        let put = TxnOp::put(key.as_str(), report.encode_to_vec(), None::<PutOptions>);
        let call = etcd.txn(Txn::new().when([as_seen]).and_then([put]));
        let told = within("report", call);
        let is_told = failpoint::reply(Failpoint::RestedReported, told).await?.succeeded();
        if is_told {
            tracing::info!(sale, bucket = number, "corrected the report of a bucket at rest");
        }
        Ok(is_told)
    }
}

impl Turn {
    /// At most [`RESTED_REPORTS_MAX`] buckets at rest of sales whose settling is awaited, in turn.
    fn next(
        &mut self,
        archive: &Archive,
        is_awaited: impl Fn(&str) -> Option<bool>,
    ) -> Vec<(Key, BucketRef)> {
        let resting = archive.all();
        let mut waiting: BTreeMap<&Key, BucketRef> = BTreeMap::new();
        for (key, bucket) in &*resting {
            if self.settled.contains(&key.0) {
                continue;
            }
            match is_awaited(&key.0) {
                Some(true) => drop(waiting.insert(key, *bucket)),
                Some(false) => drop(self.settled.insert(key.0.clone())),
                None => {}
            }
        }
        let known: HashSet<&str> = resting.keys().map(|(sale, _)| &**sale).collect();
        self.settled.retain(|sale| known.contains(&**sale));
        let behind = match &self.after {
            Some(after) => (Bound::Excluded(after), Bound::Unbounded),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        let first = waiting.range::<Key, _>(behind);
        let both = first.chain(waiting.iter()).take(RESTED_REPORTS_MAX.min(waiting.len()));
        let next: Vec<_> = both.map(|(key, bucket)| ((*key).clone(), *bucket)).collect();
        self.after = next.last().map(|(key, _)| key.clone());
        next
    }
}

/// Whether a report says what is so.
fn says(report: &BucketReport, rested: &Rested) -> bool {
    report.settled
        && (report.epoch, report.granted, report.paid)
            == (rested.epoch.cast_unsigned(), rested.granted, rested.paid)
        && rested.head.as_ref().is_none_or(|head| *head == report.head)
}

/// What is so, in the place of what stands. Nothing is live any more, and nobody waits.
fn of(stands: BucketReport, rested: Rested) -> BucketReport {
    BucketReport {
        epoch: rested.epoch.cast_unsigned(),
        warm: true,
        settled: true,
        granted: rested.granted,
        paid: rested.paid,
        free: rested.granted.saturating_sub(rested.paid),
        live: 0,
        wanted: 0,
        wanted_min: 0,
        head: rested.head.unwrap_or(stands.head),
        ..BucketReport::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_their_turn_and_settled_sales_none() {
        let archive = Archive::new();
        let count = u32::try_from(RESTED_REPORTS_MAX).unwrap() + 3;
        for number in 0..count {
            let bucket = BucketRef { org: 1, sale: 1, bucket: number.cast_signed() };
            archive.add("open", number, bucket);
        }
        archive.add("settled", 0, BucketRef { org: 1, sale: 2, bucket: 0 });
        archive.add("unknown", 0, BucketRef { org: 1, sale: 3, bucket: 0 });
        let is_awaited = |sale: &str| match sale {
            "unknown" => None,
            sale => Some(sale == "open"),
        };
        let mut turn = Turn::default();
        let mut numbers = Vec::new();
        for _ in 0..2 {
            let next = turn.next(&archive, is_awaited);
            assert_eq!(next.len(), RESTED_REPORTS_MAX);
            assert!(next.iter().all(|((sale, _), _)| &**sale == "open"));
            numbers.extend(next.into_iter().map(|((_, number), _)| number));
        }
        assert_eq!(numbers[..count as usize], (0..count).collect::<Vec<_>>());
        assert_eq!(numbers[count as usize..][..3], [0, 1, 2], "and from the beginning");
        assert_eq!(turn.settled.len(), 1);
        assert!(turn.next(&archive, |_| Some(false)).is_empty());
    }

    #[test]
    fn a_report_is_corrected_in_all_that_is_read_of_it() {
        let rested = Rested { epoch: 3, granted: 9, paid: 4, head: Some("new".into()) };
        let right = of(BucketReport::default(), rested.clone());
        assert!(says(&right, &rested));
        assert_eq!((right.free, right.live, right.wanted), (5, 0, 0));
        for wrong in [
            BucketReport::default(),
            BucketReport { settled: false, ..right.clone() },
            BucketReport { epoch: 2, ..right.clone() },
            BucketReport { granted: 8, ..right.clone() },
            BucketReport { paid: 3, ..right.clone() },
            BucketReport { head: "old".into(), ..right.clone() },
        ] {
            assert!(!says(&wrong, &rested), "{wrong:?}");
            assert_eq!(of(wrong, rested.clone()), right);
        }
        // A head that is not found here is nobody's to take away.
        let unsigned = Rested { head: None, ..rested };
        assert!(says(&right, &unsigned));
        assert_eq!(of(right, unsigned).head, "new");
    }
}
