//! What this process keeps, told to every router: all of it first, then what changes, at most four times a second, and
//! a sign of life when nothing does.

use proto::limits::{BUCKETS_KEPT_MAX, STATES_PER_S};
use proto::wire::cell::{BucketState, BucketStates};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Changes that a router may lag behind before it is told everything anew.
const CHANGES_MAX: usize = 16;
/// Buckets in one message.
const BUCKETS_A_MESSAGE: usize = 512;
/// Ticks without a change after which a sign of life is given.
const QUIET_TICKS: u32 = 2;

/// The states of the buckets that this process keeps.
#[derive(Debug)]
pub(crate) struct States {
    process: Box<str>,
    all: Mutex<HashMap<(Box<str>, u32), Told>>,
    changes: broadcast::Sender<BucketStates>,
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
        States { process: process.into(), all: Mutex::default(), changes }
    }

    /// Remembers a bucket's state, to be told with the next tick.
    pub(crate) fn set(&self, state: BucketState) {
        let mut all = self.lock();
        if all.len() < BUCKETS_KEPT_MAX
            || all.contains_key(&(state.sale.as_str().into(), state.bucket))
        {
            all.insert((state.sale.as_str().into(), state.bucket), Told { state, changed: true });
        }
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

    /// Tells what changes until the token is cancelled.
    pub(crate) async fn tell(&self, token: CancellationToken) {
        let mut tick =
            tokio::time::interval(Duration::from_millis(1_000 / u64::from(STATES_PER_S)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut quiet = 0;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = token.cancelled() => return,
            }
            let changed: Vec<_> = self
                .lock()
                .values_mut()
                .filter_map(|told| std::mem::take(&mut told.changed).then(|| told.state.clone()))
                .collect();
            quiet = if changed.is_empty() { quiet + 1 } else { 0 };
            if !changed.is_empty() || quiet >= QUIET_TICKS {
                quiet = 0;
                for message in self.messages(&changed) {
                    // Nobody listening is no reason to stop.
                    drop(self.changes.send(message));
                }
            }
        }
    }

    fn messages(&self, states: &[BucketState]) -> Vec<BucketStates> {
        let message = |buckets: &[BucketState]| BucketStates {
            process: self.process.to_string(),
            buckets: buckets.to_vec(),
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
