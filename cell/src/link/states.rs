//! What this process keeps, told to every router: all of it first, then what changes, soon after a keeper says so, which
//! it does at most four times a second; and a sign of life when nothing does. A process that is about to stop says so.

use proto::limits::BUCKETS_KEPT_MAX;
use proto::wire::cell::{BucketState, BucketStates};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
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

/// The states of the buckets that this process keeps.
#[derive(Debug)]
pub(crate) struct States {
    process: Box<str>,
    all: Mutex<HashMap<(Box<str>, u32), Told>>,
    changes: broadcast::Sender<BucketStates>,
    more: Notify,
    /// Whether this process is about to stop.
    draining: AtomicBool,
}

#[derive(Debug)]
struct Told {
    state: BucketState,
    changed: bool,
}

impl States {
    /// Nothing is kept yet.
    pub(crate) fn new(process: &str) -> States {
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        States {
            process: process.into(),
            all: Mutex::default(),
            changes,
            more: Notify::new(),
            draining: AtomicBool::new(false),
        }
    }

    /// Remembers a bucket's state, to be told soon if it is another than before.
    pub(crate) fn set(&self, state: BucketState) {
        let key = (state.sale.as_str().into(), state.bucket);
        let mut all = self.lock();
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
        self.lock().remove(&(sale.into(), bucket));
    }

    /// A receiver of changes, and everything as of now.
    pub(crate) fn watch(&self) -> (Vec<BucketStates>, broadcast::Receiver<BucketStates>) {
        let changes = self.changes.subscribe();
        let states: Vec<_> = self.lock().values().map(|told| told.state.clone()).collect();
        (self.messages(&states), changes)
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
            let changed: Vec<_> = self
                .lock()
                .values_mut()
                .filter_map(|told| std::mem::take(&mut told.changed).then(|| told.state.clone()))
                .collect();
            for message in self.messages(&changed) {
                // Nobody listening is no reason to stop.
                drop(self.changes.send(message));
            }
        }
    }

    fn messages(&self, states: &[BucketState]) -> Vec<BucketStates> {
        let message = |buckets: &[BucketState]| BucketStates {
            process: self.process.to_string(),
            buckets: buckets.to_vec(),
            draining: self.draining.load(Ordering::Relaxed),
        };
        if states.is_empty() {
            return vec![message(&[])];
        }
        states.chunks(BUCKETS_A_MESSAGE).map(message).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(Box<str>, u32), Told>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
