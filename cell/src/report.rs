//! Reports to the control plane: a bucket is warm, a bucket is at rest, its ledger has come so far, and what is free and
//! asked for in between. News, not permission: the sale goes on whether or not etcd can be told.
//!
//! What a bucket could give or lacks is told at once when that begins or ends, and how much it is a little later: a unit
//! that lies where nobody waits is on its way as soon as the control plane knows.

use crate::keeper::{Book, Keeper};
use etcd_client::PutOptions;
use prost::Message;
use proto::keys;
use proto::wire::cell::{BucketReport, sale_record::State};
use proto::wire::storefront::sale_state::Phase;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Reports that come this close together are told over one connection.
const GATHER: Duration = Duration::from_millis(10);
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
    more: Notify,
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
        let key = keys::report(&keeper.place.sale, keeper.place.number);
        let due = |(at, before): &(Instant, BucketReport)| is_due(&report, before, at.elapsed());
        if lock(&self.said).get(&key).is_none_or(due) {
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
        self.more.notify_one();
    }

    /// Tells etcd until `end` is cancelled.
    pub(crate) async fn tell(&self, endpoints: Vec<String>, end: CancellationToken) {
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                () = self.more.notified() => tokio::time::sleep(GATHER).await,
            }
            while let Err(error) = self.flush(&endpoints).await {
                tracing::warn!(%error, "cannot report to etcd yet");
                tokio::select! {
                    () = end.cancelled() => return,
                    () = tokio::time::sleep(AGAIN) => {}
                }
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

/// Whether a report is to be made when the one `before` was made so long ago.
fn is_due(report: &BucketReport, before: &BucketReport, ago: Duration) -> bool {
    if side(report) != side(before) {
        return true;
    }
    let is_scarce = report.wanted > report.free || report.free <= report.granted / SCARCE_PART;
    let pause = if is_scarce { SCARCE } else { PLENTY };
    ago >= pause && BucketReport { at_ms: before.at_ms, ..report.clone() } != *before
}

/// What a bucket can be in a transfer: whether it has more than its line asks for, or less, and whether it can serve
/// anybody in its line.
fn side(report: &BucketReport) -> (std::cmp::Ordering, bool) {
    (report.free.cmp(&report.wanted), report.free < report.wanted_min)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wait_for_is_told_at_once() {
        // Granted, free, wanted, the fewest wanted.
        let made = |(granted, free, wanted, wanted_min): (u32, u32, u32, u32), at_ms| {
            BucketReport { granted, free, wanted, wanted_min, at_ms, ..BucketReport::default() }
        };
        let (now, soon, late) = (Duration::ZERO, SCARCE, PLENTY);
        let rows = [
            ("nothing but time has passed", (99, 9, 50, 1), (99, 9, 50, 1), None),
            ("plenty, with a line that is served", (99, 80, 9, 1), (99, 79, 9, 1), Some(late)),
            ("its last tenth", (99, 9, 2, 1), (99, 8, 2, 1), Some(soon)),
            ("its line is longer than what it has", (99, 20, 50, 1), (99, 19, 50, 1), Some(soon)),
            ("a unit came back and nobody is in line", (99, 0, 0, 0), (99, 1, 0, 0), Some(now)),
            ("the last in line was served", (99, 1, 1, 1), (99, 0, 0, 0), Some(soon)),
            ("somebody joined where nothing is free", (99, 0, 0, 0), (99, 0, 1, 1), Some(now)),
            ("one is free and two are wanted at least", (99, 2, 2, 2), (99, 1, 2, 2), Some(now)),
            ("one is free and wanted", (99, 0, 5, 1), (99, 1, 5, 1), Some(now)),
        ];
        for (what, before, after, due) in rows {
            let (before, after) = (made(before, 1), made(after, 2));
            let short = Duration::from_millis(1);
            let from =
                [now, short, soon, late].into_iter().find(|ago| is_due(&after, &before, *ago));
            assert_eq!(from, due, "{what}");
        }
    }
}
