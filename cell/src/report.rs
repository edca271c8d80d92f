//! Reports to the control plane: a bucket is warm, a bucket is at rest, its ledger has come so far, and what is free and
//! asked for in between. News, not permission: the sale goes on whether or not etcd can be told.

use crate::keeper::{Book, Keeper};
use etcd_client::PutOptions;
use prost::Message;
use proto::keys;
use proto::wire::cell::{BucketReport, sale_record::State};
use proto::wire::storefront::sale_state::Phase;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_millis(200);
/// Between two attempts when etcd does not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// How often a bucket says what has changed while its units run out, and while there are plenty.
const SCARCE: Duration = Duration::from_millis(500);
const PLENTY: Duration = Duration::from_secs(5);
/// A bucket's units run out when no more than this part of them is free.
const SCARCE_PART: u32 = 10;

/// What etcd is still to be told: at most one report a bucket.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    waiting: Mutex<HashMap<String, BucketReport>>,
    /// What was said last of buckets that are kept here, and when.
    said: Mutex<HashMap<String, (Instant, BucketReport)>>,
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
        let is_known =
            keeper.book().open || lock(&self.told).get(&key).is_some_and(|told| told.settled);
        lock(&self.told).entry(key).or_default().head = head;
        // While nothing is known for sure, the next report brings it along.
        if is_known {
            self.add(keeper, false);
        }
    }

    /// A bucket sells, and what the control plane may move units by is perhaps not what it was: what is free, and what
    /// the line asks for. A bucket that shares its sale with nobody has nothing to say.
    pub(crate) fn selling(&self, keeper: &Keeper, now_us: i64) {
        let report = {
            let book = keeper.book();
            let record = &book.terms.record;
            let sells = matches!(book.terms.phase(now_us), Phase::Open | Phase::Paused);
            if !sells || book.terms.is_standard() || record.buckets.len() < 2 {
                return;
            }
            report(keeper, &book)
        };
        let is_scarce = report.wanted > report.free || report.free <= report.granted / SCARCE_PART;
        let pause = if is_scarce { SCARCE } else { PLENTY };
        let key = keys::report(&keeper.place.sale, keeper.place.number);
        let is_due = |(at, before): &(Instant, BucketReport)| {
            at.elapsed() >= pause
                && BucketReport { at_ms: before.at_ms, ..report.clone() } != *before
        };
        if lock(&self.said).get(&key).is_none_or(is_due) {
            self.say(key, report);
        }
    }

    /// Units were moved.
    pub(crate) fn changed(&self, keeper: &Keeper) {
        let report = report(keeper, &keeper.book());
        self.say(keys::report(&keeper.place.sale, keeper.place.number), report);
    }

    /// A bucket is no longer kept here. That it is at rest is told all the same.
    pub(crate) fn leave(&self, sale: &str, number: u32) {
        let key = keys::report(sale, number);
        lock(&self.said).remove(&key);
        let mut waiting = lock(&self.waiting);
        if waiting.get(&key).is_some_and(|report| !report.settled) {
            waiting.remove(&key);
        }
    }

    /// Nothing further is told of a bucket.
    pub(crate) fn forget(&self, sale: &str, number: u32) {
        lock(&self.told).remove(&keys::report(sale, number));
    }

    fn add(&self, keeper: &Keeper, settled: bool) {
        let report = BucketReport { settled, ..report(keeper, &keeper.book()) };
        self.say(keys::report(&keeper.place.sale, keeper.place.number), report);
    }

    fn say(&self, key: String, report: BucketReport) {
        lock(&self.said).insert(key.clone(), (Instant::now(), report.clone()));
        // What is at rest stays at rest, and no report overtakes another.
        let mut told = lock(&self.told);
        let known = told.entry(key.clone()).or_default();
        known.settled |= report.settled;
        let report = BucketReport { settled: known.settled, head: known.head.clone(), ..report };
        lock(&self.waiting).insert(key, report);
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
            if lock(&self.waiting).is_empty() {
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
            lock(&self.waiting).iter().map(|(key, report)| (key.clone(), report.clone())).collect();
        for (key, report) in waiting {
            let put = client.put(key.clone(), report.encode_to_vec(), None::<PutOptions>);
            runtime::etcd::within("report", put).await?;
            let mut waiting = lock(&self.waiting);
            if waiting.get(&key) == Some(&report) {
                waiting.remove(&key);
            }
        }
        Ok(())
    }
}

fn report(keeper: &Keeper, book: &Book) -> BucketReport {
    let wanted = book.gate.wanted(book.joined);
    let now_us = keeper.now_us().unwrap_or(0);
    BucketReport {
        sale: keeper.place.sale.to_string(),
        bucket: keeper.place.number,
        epoch: book.epoch.cast_unsigned(),
        warm: true,
        settled: false,
        granted: book.granted,
        paid: book.paid,
        process: keeper.ports.process.to_string(),
        free: book.obtainable(),
        live: book.live(),
        wanted: u32::try_from(wanted.units).unwrap_or(u32::MAX),
        wanted_min: wanted.least,
        at_ms: u64::try_from(now_us / 1_000).unwrap_or(0),
        head: String::new(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
