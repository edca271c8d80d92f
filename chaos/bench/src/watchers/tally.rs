//! The tally: who watches, and when a change reached each of them.

use anyhow::{Result, ensure};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// What a watcher last saw of the sale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing yet.
    #[default]
    Unknown,
    Open,
    Paused,
    Other,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tally {
    seen: Mutex<Seen>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Seen {
    watching: usize,
    ended: usize,
    expected: Option<(Phase, Instant)>,
    arrived_us: Vec<u32>,
    /// How many are waited for.
    awaited: usize,
}

impl Tally {
    /// A watcher who last saw `last` sees `now`.
    pub(super) fn saw(&self, last: &mut Phase, now: Phase) {
        if now == *last {
            return;
        }
        let is_first = *last == Phase::Unknown;
        *last = now;
        let mut seen = self.lock();
        if is_first {
            seen.watching += 1;
        } else if let Some((phase, began)) = seen.expected
            && phase == now
        {
            let us = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
            seen.arrived_us.push(us);
        }
        if seen.watching.max(seen.arrived_us.len()) >= seen.awaited {
            self.changed.notify_one();
        }
    }

    /// A stream ended by itself.
    pub(super) fn end(&self) {
        self.lock().ended += 1;
        self.changed.notify_one();
    }

    /// How many streams ended by themselves.
    pub(super) fn ended(&self) -> usize {
        self.lock().ended
    }

    /// How many watch.
    pub(super) fn watching(&self) -> usize {
        self.lock().watching
    }

    /// From now on this is waited for.
    pub(super) fn expect(&self, phase: Phase) {
        let mut seen = self.lock();
        (seen.expected, seen.awaited) = (Some((phase, Instant::now())), seen.watching);
        seen.arrived_us = Vec::with_capacity(seen.watching);
    }

    /// Waits until so many have seen the sale.
    pub(super) async fn until_all_watch(&self, count: usize, patience: Duration) -> Result<()> {
        self.lock().awaited = count;
        let all = self.until(|seen| seen.watching >= count);
        let all = timeout(patience, all).await.is_ok();
        ensure!(all, "{} of {count} watch", self.watching());
        Ok(())
    }

    /// Waits until the change has reached all who watch. Returns after how long each, in microseconds.
    pub(super) async fn until_all_have_it(&self, patience: Duration) -> Result<Vec<u32>> {
        let all = timeout(patience, self.until(|seen| seen.arrived_us.len() >= seen.awaited));
        let all = all.await.is_ok();
        let mut seen = self.lock();
        let (got, of, ended) = (seen.arrived_us.len(), seen.awaited, seen.ended);
        ensure!(all && got == of && ended == 0, "{got} of {of} saw it, {ended} streams ended");
        Ok(std::mem::take(&mut seen.arrived_us))
    }

    async fn until(&self, is_so: impl Fn(&Seen) -> bool) {
        loop {
            let changed = self.changed.notified();
            if is_so(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
