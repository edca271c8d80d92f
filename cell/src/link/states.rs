//! What this process keeps, told to every router: all of it first, then what changes, soon after a keeper says so, which
//! it does at most four times a second; and a sign of life when nothing does. A process that is about to stop says so.
//! Lines before other cells' lines are told with these: at once where one begins, else with the next message.

use proto::limits::{BUCKETS_KEPT_MAX, LINES_MAX};
use proto::wire::cell::{BucketState, BucketStates, LineState};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, broadcast};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Messages that a router may lag behind before it is told everything anew.
const CHANGES_MAX: usize = 128;
/// Buckets in one message.
const BUCKETS_A_MESSAGE: usize = 512;
/// Changes that come this close together are told in one message.
const GATHER: Duration = Duration::from_millis(25);
/// After so long without a change a sign of life is given.
const QUIET: Duration = Duration::from_millis(500);

/// What is told, by the sale's id and the bucket's number.
type ByBucket<T> = Mutex<HashMap<(Box<str>, u32), Told<T>>>;

/// The states of the buckets that this process keeps.
#[derive(Debug)]
pub(crate) struct States {
    process: Box<str>,
    all: ByBucket<BucketState>,
    lines: ByBucket<LineState>,
    changes: broadcast::Sender<BucketStates>,
    more: Notify,
    /// Whether this process is about to stop.
    draining: AtomicBool,
}

#[derive(Debug)]
struct Told<T> {
    state: T,
    changed: bool,
}

impl States {
    /// Nothing is kept yet.
    pub(crate) fn new(process: &str) -> States {
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        States {
            process: process.into(),
            all: Mutex::default(),
            lines: Mutex::default(),
            changes,
            more: Notify::new(),
            draining: AtomicBool::new(false),
        }
    }

    /// Remembers a bucket's state, to be told soon if it is another than before.
    pub(crate) fn set(&self, state: BucketState) {
        let key = (state.sale.as_str().into(), state.bucket);
        let mut all = lock(&self.all);
        match all.get(&key) {
            Some(told) if told.state == state => return,
            None if all.len() >= BUCKETS_KEPT_MAX => return,
            _ => {}
        }
        all.insert(key, Told { state, changed: true });
        self.more.notify_one();
    }

    /// Forgets a bucket that is no longer kept. Its next keeper's higher epoch tells routers.
    pub(crate) fn forget(&self, sale: &str, bucket: u32) {
        lock(&self.all).remove(&(sale.into(), bucket));
    }

    /// Remembers the line before a bucket's line, to be told soon.
    pub(crate) fn set_line(&self, state: LineState) {
        let key = (state.sale.as_str().into(), state.bucket);
        let mut lines = lock(&self.lines);
        let stood = lines.get(&key).is_some_and(|told| told.state.given > told.state.window);
        if lines.len() < LINES_MAX || lines.contains_key(&key) {
            lines.insert(key, Told { state, changed: true });
        }
        drop(lines);
        if !stood {
            self.more.notify_one();
        }
    }

    /// Forgets a line whose tickets are void.
    pub(crate) fn forget_line(&self, sale: &str, bucket: u32) {
        lock(&self.lines).remove(&(sale.into(), bucket));
    }

    /// A receiver of changes, and everything as of now.
    pub(crate) fn watch(&self) -> (Vec<BucketStates>, broadcast::Receiver<BucketStates>) {
        let changes = self.changes.subscribe();
        let states: Vec<_> = lock(&self.all).values().map(|told| told.state.clone()).collect();
        let lines: Vec<_> = lock(&self.lines).values().map(|told| told.state.clone()).collect();
        (self.messages(&states, &lines), changes)
    }

    /// Tells what changes until `until` is cancelled; from when `stopping` is, also that this process is about to stop.
    pub(crate) async fn tell(&self, stopping: CancellationToken, until: CancellationToken) {
        let mut draining = false;
        loop {
            tokio::select! {
                more = timeout(QUIET, self.more.notified()) => if more.is_ok() {
                    tokio::time::sleep(GATHER).await;
                },
                () = stopping.cancelled(), if !draining => {
                    draining = true;
                    self.draining.store(true, Ordering::Relaxed);
                }
                () = until.cancelled() => return,
            }
            let (changed, lines) = (changed(&self.all), changed(&self.lines));
            for message in self.messages(&changed, &lines) {
                // Nobody listening is no reason to stop.
                drop(self.changes.send(message));
            }
        }
    }

    /// At least one message.
    fn messages(&self, states: &[BucketState], lines: &[LineState]) -> Vec<BucketStates> {
        let message = |buckets: &[BucketState], lines: &[LineState]| BucketStates {
            process: self.process.to_string(),
            buckets: buckets.to_vec(),
            lines: lines.to_vec(),
            draining: self.draining.load(Ordering::Relaxed),
        };
        if states.is_empty() && lines.is_empty() {
            return vec![message(&[], &[])];
        }
        let buckets = states.chunks(BUCKETS_A_MESSAGE).map(|states| message(states, &[]));
        buckets.chain(lines.chunks(BUCKETS_A_MESSAGE).map(|lines| message(&[], lines))).collect()
    }
}

/// What has changed since it was told last.
fn changed<T: Clone>(all: &ByBucket<T>) -> Vec<T> {
    let mut all = lock(all);
    let told = all.values_mut();
    told.filter_map(|told| std::mem::take(&mut told.changed).then(|| told.state.clone())).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn who_is_about_to_stop_says_so_at_once_and_to_whoever_comes() {
        let states = Arc::new(States::new("p1"));
        let (first, mut changes) = states.watch();
        assert!(!first[0].draining);
        let (stopping, until) = (CancellationToken::new(), CancellationToken::new());
        let (telling, tokens) = (states.clone(), (stopping.clone(), until.clone()));
        let task = tokio::spawn(async move { telling.tell(tokens.0, tokens.1).await });
        stopping.cancel();
        let said = async { while !changes.recv().await.unwrap().draining {} };
        timeout(Duration::from_secs(30), said).await.unwrap();
        assert!(states.watch().0[0].draining);
        until.cancel();
        task.await.unwrap();
    }
}
