//! Reports to the control plane: a bucket is warm, a bucket is at rest, its ledger has come so far. News, not permission: the sale goes on whether
//! or not etcd can be told.

use crate::keeper::Keeper;
use etcd_client::PutOptions;
use prost::Message;
use proto::keys;
use proto::wire::cell::{BucketReport, sale_record::State};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_millis(200);
/// Between two attempts when etcd does not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// What etcd is still to be told: at most one report a bucket.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    waiting: Mutex<HashMap<String, BucketReport>>,
    told: Mutex<HashMap<String, Told>>,
}

/// What every further report of a bucket says.
#[derive(Debug, Default)]
struct Told {
    settled: bool,
    head: String,
}

impl Reports {
    /// A bucket's units are accepted and loaded. Of interest only while its sale is warming.
    pub(crate) fn warm(&self, keeper: &Keeper) {
        if keeper.book().terms.record.state() == State::Warming {
            self.add(keeper, false);
        }
    }

    /// A bucket is at rest.
    pub(crate) fn settled(&self, keeper: &Keeper) {
        self.add(keeper, true);
    }

    /// The newest signed head of a bucket's ledger.
    pub(crate) fn head(&self, keeper: &Keeper, head: String) {
        let key = keys::report(&keeper.place.sale, keeper.place.number);
        let is_known = keeper.book().open || {
            let told = self.told();
            told.get(&key).is_some_and(|told| told.settled)
        };
        self.told().entry(key).or_default().head = head;
        // While nothing is known for sure, the next report brings it along.
        if is_known {
            self.add(keeper, false);
        }
    }

    /// A bucket is nobody's here any more: nothing further is told of it.
    pub(crate) fn forget(&self, sale: &str, bucket: u32) {
        self.told().remove(&keys::report(sale, bucket));
    }

    fn add(&self, keeper: &Keeper, settled: bool) {
        let mut report = {
            let now_us = keeper.now_us().unwrap_or(0);
            let book = keeper.book();
            BucketReport {
                sale: keeper.place.sale.to_string(),
                bucket: keeper.place.number,
                epoch: book.epoch.cast_unsigned(),
                warm: true,
                settled,
                granted: book.granted,
                paid: book.paid,
                process: keeper.ports.process.to_string(),
                free: book.free(),
                at_ms: u64::try_from(now_us / 1_000).unwrap_or(0),
                ..BucketReport::default()
            }
        };
        let key = keys::report(&keeper.place.sale, keeper.place.number);
        // What is at rest stays at rest, and no report overtakes another.
        let mut told = self.told();
        let known = told.entry(key.clone()).or_default();
        known.settled |= settled;
        report.settled = known.settled;
        report.head.clone_from(&known.head);
        self.lock().insert(key, report);
    }

    /// Tells etcd until `end` is cancelled.
    pub(crate) async fn tell(&self, endpoints: Vec<String>, end: CancellationToken) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                _ = tick.tick() => {}
            }
            if self.lock().is_empty() {
                continue;
            }
            if let Err(error) = self.flush(&endpoints).await {
                tracing::warn!(%error, "cannot report to etcd yet");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    async fn flush(&self, endpoints: &[String]) -> Result<(), runtime::etcd::EtcdError> {
        let mut client = runtime::etcd::connect(endpoints).await?;
        let waiting: Vec<_> =
            self.lock().iter().map(|(key, report)| (key.clone(), report.clone())).collect();
        for (key, report) in waiting {
            let put = client.put(key.clone(), report.encode_to_vec(), None::<PutOptions>);
            runtime::etcd::within("report", put).await?;
            let mut waiting = self.lock();
            if waiting.get(&key) == Some(&report) {
                waiting.remove(&key);
            }
        }
        Ok(())
    }

    fn told(&self) -> MutexGuard<'_, HashMap<String, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, BucketReport>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
