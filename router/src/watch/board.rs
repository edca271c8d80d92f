//! A sale's board: what was told last, and who is told.
//!
//! Watchers stand in groups, each with a channel that keeps nothing but the newest. A round goes from group to group, and
//! all rounds of a router share one pace: so many watchers are woken, and those who are due by then, watchers and calls,
//! are served before the next. To whoever comes during a round nothing is told twice: what is told has a number.

use super::view::View;
use bytes::Bytes;
use proto::limits::WATCHERS_SLICE_MAX;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::task::yield_now;

/// What was told, as all get it.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// Higher than that of what was told before.
    pub(super) number: u64,
    pub(super) frame: Bytes,
    /// Whether it says how long it was until the sale opens.
    pub(super) counts_down: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The last that was told; none while nobody tells.
    told: Option<Told>,
    groups: Vec<watch::Sender<Told>>,
    /// Nothing will be told any more.
    closed: bool,
}

/// Who has joined: what is so now, and what will be.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) told: Told,
    pub(super) changes: watch::Receiver<Told>,
    /// The first one here sees to it that a teller begins, from this.
    pub(super) begins: Option<View>,
}

/// How fast watchers are woken, those of all sales together.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Since others had their turn.
    woken: tokio::sync::Mutex<usize>,
}

impl Told {
    fn of(view: &View, number: u64) -> Told {
        Told { number, frame: view.frame(), counts_down: view.counts_down() }
    }
}

impl Board {
    /// One more watches; `look` is what the first one sees.
    pub(super) fn join(&self, look: impl FnOnce() -> View) -> Joined {
        let mut inner = self.lock();
        let mut begins = None;
        let told = inner.told.get_or_insert_with(|| {
            let view = look();
            let told = Told::of(&view, 0);
            begins = Some(view);
            told
        });
        let told = told.clone();
        if inner.closed {
            // Its sender is gone already, so that the stream ends after what is so now.
            let (_, changes) = watch::channel(told.clone());
            return Joined { told, changes, begins: None };
        }
        // Mostly in the last one, or where somebody has left.
        let has_room = |group: &&watch::Sender<Told>| group.receiver_count() < WATCHERS_SLICE_MAX;
        let room = inner.groups.iter().rev().find(has_room);
        let changes = match room {
            Some(group) => group.subscribe(),
            None => {
                let (group, changes) = watch::channel(told.clone());
                inner.groups.push(group);
                changes
            }
        };
        Joined { told, changes, begins }
    }

    /// Tells all who watch.
    pub(super) async fn tell(&self, view: &View, pace: &Pace) {
        let told = {
            let mut inner = self.lock();
            let number = inner.told.as_ref().map_or(0, |told| told.number) + 1;
            inner.told.insert(Told::of(view, number)).clone()
        };
        // Groups are only added, until the last watcher has left: to those that are new this is told already.
        for index in 0.. {
            let Some(group) = self.lock().groups.get(index).cloned() else { return };
            let wake = || drop(group.send_replace(told.clone()));
            pace.slice(group.receiver_count(), wake).await;
        }
    }

    /// Whether nobody watches any more; then whoever comes next is the first one again.
    pub(super) fn is_left(&self) -> bool {
        let mut inner = self.lock();
        let left = inner.groups.iter().all(|group| group.receiver_count() == 0);
        if left {
            inner.groups = Vec::new();
            inner.told = None;
        }
        left
    }

    /// Ends all streams.
    pub(super) async fn close(&self, pace: &Pace) {
        let groups = {
            let mut inner = self.lock();
            inner.closed = true;
            std::mem::take(&mut inner.groups)
        };
        for group in groups {
            pace.slice(group.receiver_count(), || drop(group)).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pace {
    /// Wakes so many watchers in their turn.
    async fn slice(&self, watchers: usize, wake: impl FnOnce()) {
        let mut woken = self.woken.lock().await;
        if *woken + watchers > WATCHERS_SLICE_MAX {
            // Tellers of other sales wait for this too.
            yield_now().await;
            *woken = 0;
        }
        *woken += watchers;
        wake();
    }
}

#[cfg(test)]
mod tests;
