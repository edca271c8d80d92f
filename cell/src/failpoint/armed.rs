//! The failpoints of a build for drills: how each is armed, who waits there, and how often it was reached and hit.
//!
//! They belong to the process, as its death does. A failpoint that is armed for `n` times is hit by the next `n` that
//! reach it; whoever is held there waits until it is released.

use super::Failpoint;
use crate::inventory::InventoryError;
use crate::ledger::LedgerError;
use crate::payment::ProviderError;
use runtime::etcd::EtcdError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// What happens to whoever reaches an armed failpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It waits until it is released.
    Pause,
    /// The process aborts.
    Crash,
    /// The reply that came is lost.
    Lose,
    /// It waits so long.
    Delay(Duration),
}

/// One failpoint's state.
#[derive(Debug)]
pub(super) struct Point {
    plan: Mutex<Plan>,
    wake: Notify,
    reached: AtomicU64,
    hits: AtomicU64,
}

#[derive(Debug)]
struct Plan {
    /// What happens next, and to how many.
    armed: Option<(Action, u32)>,
    waiting: u32,
    /// How often it was released: whoever waits, waits for the next time.
    releases: u64,
}

/// What can be told of a failpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) reached: u64,
    pub(super) hits: u64,
    pub(super) waiting: u32,
}

static POINTS: [Point; Failpoint::ALL.len()] = [const { Point::new() }; Failpoint::ALL.len()];

impl Point {
    const fn new() -> Point {
        Point {
            plan: Mutex::new(Plan { armed: None, waiting: 0, releases: 0 }),
            wake: Notify::const_new(),
            reached: AtomicU64::new(0),
            hits: AtomicU64::new(0),
        }
    }

    pub(super) fn of(point: Failpoint) -> &'static Point {
        // The list and the enum come from one macro, in one order.
        &POINTS[point as usize]
    }

    /// The next `times` that reach it are hit.
    pub(super) fn arm(&self, action: Action, times: u32) {
        self.plan().armed = (times > 0).then_some((action, times));
    }

    /// Lets go whoever waits, and hits nobody any more.
    pub(super) fn release(&self) {
        let mut plan = self.plan();
        plan.armed = None;
        plan.waiting = 0;
        plan.releases += 1;
        drop(plan);
        self.wake.notify_waiters();
    }

    /// Cuts a wait short, or the next one.
    pub(super) fn hurry(&self) {
        self.wake.notify_one();
    }

    pub(super) fn seen(&self) -> Seen {
        let waiting = self.plan().waiting;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Seen { reached: count(&self.reached), hits: count(&self.hits), waiting }
    }

    /// What happens to whoever is here now; for a pause, with the number of releases before its own.
    fn take(&self) -> Option<(Action, u64)> {
        let mut plan = self.plan();
        let (action, times) = plan.armed?;
        plan.armed = (times > 1).then_some((action, times - 1));
        plan.waiting += u32::from(action == Action::Pause);
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some((action, plan.releases))
    }

    async fn wait(&self, before: u64) {
        loop {
            let woken = self.wake.notified();
            tokio::pin!(woken);
            // Enlisted first and looked after that, so that no release falls between.
            woken.as_mut().enable();
            if self.plan().releases > before {
                return;
            }
            woken.await;
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the reply is lost.
async fn pass(point: Failpoint) -> bool {
    let here = Point::of(point);
    here.reached.fetch_add(1, Ordering::Relaxed);
    let Some((action, releases)) = here.take() else { return false };
    tracing::warn!(failpoint = point.name(), ?action, "a failpoint is hit");
    match action {
        Action::Crash => std::process::abort(),
        Action::Pause => here.wait(releases).await,
        Action::Delay(delay) => tokio::time::sleep(delay).await,
        Action::Lose => return true,
    }
    false
}

/// A place between two steps.
pub(crate) async fn reach(point: Failpoint) {
    pass(point).await;
}

/// A reply, which is lost where a drill says so.
pub(crate) async fn reply<T, E: Lost>(
    point: Failpoint,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let reply = call.await;
    if pass(point).await { Err(E::lost()) } else { reply }
}

/// A wait that only a drill cuts short.
pub(crate) async fn hurried(point: Failpoint) {
    let here = Point::of(point);
    here.reached.fetch_add(1, Ordering::Relaxed);
    here.wake.notified().await;
    here.hits.fetch_add(1, Ordering::Relaxed);
}

/// An error that leaves the outcome unknown.
pub(crate) trait Lost {
    /// Says so.
    fn lost() -> Self;
}

const WHY: &str = "a failpoint lost the reply";

impl Lost for InventoryError {
    fn lost() -> Self {
        InventoryError::Unknown(WHY.into())
    }
}

impl Lost for LedgerError {
    fn lost() -> Self {
        LedgerError::Unknown(sqlx::Error::Io(std::io::Error::other(WHY)))
    }
}

impl Lost for ProviderError {
    fn lost() -> Self {
        ProviderError::Unknown(WHY.into())
    }
}

impl Lost for EtcdError {
    fn lost() -> Self {
        EtcdError::TimedOut { what: WHY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_armed_is_hit_so_many_times_and_held_until_it_is_released() {
        static HERE: Point = Point::new();
        assert_eq!(HERE.take(), None);
        HERE.arm(Action::Lose, 2);
        assert_eq!(HERE.take().map(|(action, _)| action), Some(Action::Lose));
        assert_eq!(HERE.take().map(|(action, _)| action), Some(Action::Lose));
        assert_eq!(HERE.take(), None);

        HERE.arm(Action::Pause, 1);
        let (_, releases) = HERE.take().unwrap();
        let held = tokio::spawn(HERE.wait(releases));
        let seen = HERE.seen();
        assert_eq!((seen.hits, seen.waiting), (3, 1));
        tokio::task::yield_now().await;
        assert!(!held.is_finished());
        HERE.release();
        held.await.unwrap();
        assert_eq!(HERE.seen().waiting, 0);
        // A release that comes first is not lost.
        HERE.arm(Action::Pause, 1);
        let (_, releases) = HERE.take().unwrap();
        HERE.release();
        HERE.wait(releases).await;
    }

    #[test]
    fn names_are_unique_and_every_point_has_its_own_state() {
        let names: std::collections::BTreeSet<_> =
            Failpoint::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Failpoint::ALL.len());
        for (place, &point) in Failpoint::ALL.iter().enumerate() {
            assert_eq!(point as usize, place);
            assert!(["step", "reply", "wait"].contains(&point.kind()), "{point:?}");
            assert!(point.needs().is_none_or(|needs| needs.kind() == "reply"), "{point:?}");
            assert!(point.sentence().ends_with('.'), "{point:?}");
        }
    }
}
