//! A process of a cell, as a router knows it: its streams, when it was last heard of, whether it is asked at all.

use super::concurrency::Concurrency;
use super::health::{Health, Siblings};
use super::metrics::LinkMetrics;
use super::nature::nature;
use super::repeat::{Budget, may_repeat};
use super::wire::{Asking, Miss, Wire};
use crate::directory::ProcessEntry;
use proto::fault::{Fault, Reason};
use proto::limits::EJECT_PATIENCE_MS;
use proto::wire::cell::{Call, answer};
use rand::RngExt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What a stream is for. Each has its own, so that joins cannot hold back buying, nor a flash sale everyday commerce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Joining lines of FLASH sales.
    Join,
    /// Buying in FLASH sales.
    Flash,
    /// All calls to STANDARD sales.
    Standard,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) entry: ProcessEntry,
    wires: [Arc<Wire>; 3],
    metrics: LinkMetrics,
    siblings: Arc<Siblings>,
    begin: Instant,
    /// Milliseconds since `begin` at which it was last heard of, plus one; 0 for never.
    heard_ms: AtomicU64,
    /// The same of when it could be asked last, as far as is known.
    fell_ms: AtomicU64,
    draining: AtomicBool,
    out: AtomicBool,
    /// Called when it was taken out.
    taken_out: Notify,
    /// Calls that were lost with streams that broke since that was last looked at.
    lost: AtomicUsize,
    guarded: Mutex<Guarded>,
}

/// A caller's patience. Who gave up after long enough, at their deadline or by going away, speaks against the process.
struct Patience<'a> {
    process: &'a Process,
    began: Instant,
    /// Whether it was not tried, or is that of somebody who pays.
    says_nothing: bool,
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        if !self.says_nothing && self.began.elapsed() >= Duration::from_millis(EJECT_PATIENCE_MS) {
            self.process.failed();
        }
    }
}

#[derive(Debug)]
struct Guarded {
    health: Health,
    budget: Budget,
    /// Whether it was given up.
    gone: bool,
}

impl Process {
    /// A process that was not reached yet, among others of its cell.
    pub(super) fn new(
        entry: ProcessEntry,
        siblings: Arc<Siblings>,
        metrics: &LinkMetrics,
    ) -> Process {
        let class = |class| {
            let (limit, under_way) = metrics.levels(&entry, class);
            Arc::new(Concurrency::new(limit, under_way, metrics.lateness.clone()))
        };
        let (flash, standard) = (class("flash"), class("standard"));
        let wires = [flash.clone(), flash, standard].map(|class| Arc::new(Wire::new(class)));
        siblings.come();
        Process {
            entry,
            wires,
            metrics: metrics.clone(),
            siblings,
            begin: Instant::now(),
            heard_ms: AtomicU64::new(0),
            fell_ms: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            out: AtomicBool::new(false),
            taken_out: Notify::new(),
            lost: AtomicUsize::new(0),
            guarded: Mutex::new(Guarded {
                health: Health::default(),
                budget: Budget::new(0),
                gone: false,
            }),
        }
    }

    /// Sends a call and waits for its answer. A refusal by the process is an answer like any other.
    pub(crate) async fn call(&self, kind: Kind, asking: Asking<'_>) -> Result<answer::Kind, Miss> {
        let nature = nature(asking.call.kind.as_ref());
        let began = Instant::now();
        let mut patience = Patience { process: self, began, says_nothing: nature.pays };
        let answered = self.wire(kind).call(asking, began).await;
        patience.says_nothing |= !matches!(
            &answered,
            Err(Miss::Refused(fault)) if fault.reason == Reason::DeadlinePassed
        );
        match answered {
            Ok(answer::Kind::Refusal(refusal)) => {
                let reason = Reason::from_number(refusal.reason).unwrap_or(Reason::Internal);
                let retry_after_ms = refusal.retry_after_ms;
                Err(Miss::Refused(Fault { reason, retry_after_ms, field: None }))
            }
            Err(Miss::Refused(fault)) => {
                if fault.reason == Reason::Overloaded {
                    self.metrics.refused(nature.worth);
                }
                Err(Miss::Refused(fault))
            }
            answered => answered,
        }
    }

    /// Whether a call may be sent once more that was lost here: it is safe, and within the budget.
    pub(crate) fn may_repeat(&self, call: &Call, sent: bool) -> bool {
        if !may_repeat(nature(call.kind.as_ref()).again, sent) {
            return false;
        }
        let asked = self.wires.iter().map(|wire| wire.asked()).sum();
        let now_ms = self.now_ms();
        self.guarded().budget.take(asked, now_ms)
    }

    /// The stream of a kind.
    pub(super) fn wire(&self, kind: Kind) -> &Arc<Wire> {
        let [join, flash, standard] = &self.wires;
        match kind {
            Kind::Join => join,
            Kind::Flash => flash,
            Kind::Standard => standard,
        }
    }

    /// Whether any stream is up.
    pub(super) fn is_up(&self) -> bool {
        self.wires.iter().any(|wire| wire.is_up())
    }

    /// Whether it may be asked: it can be reached and answers.
    pub(crate) fn takes(&self, kind: Kind) -> bool {
        self.wire(kind).is_up() && !self.out.load(Ordering::Relaxed)
    }

    /// Whether it has said that it is about to stop.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// It gave a sign of life.
    pub(super) fn heard(&self, draining: bool) {
        self.heard_ms.store(self.now_ms() + 1, Ordering::Relaxed);
        self.draining.store(draining, Ordering::Relaxed);
    }

    /// For how long it has been silent.
    pub(crate) fn silence(&self) -> Duration {
        self.since(&self.heard_ms)
    }

    /// For how long it could not be asked.
    pub(crate) fn away(&self) -> Duration {
        if self.is_up() && !self.out.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        self.since(&self.fell_ms).min(self.begin.elapsed())
    }

    /// It answered calls.
    pub(super) fn answered(&self, count: usize) {
        let now_ms = self.now_ms();
        self.guarded().health.answered(u32::try_from(count).unwrap_or(u32::MAX), now_ms);
    }

    /// A stream broke with so many calls on it.
    pub(super) fn fell(&self, lost: usize) {
        self.fell_ms.store(self.now_ms() + 1, Ordering::Relaxed);
        self.lost.fetch_add(lost, Ordering::Relaxed);
    }

    /// All of its streams are down: one failure, however many calls were on them; none if there were none.
    pub(super) fn broke(&self) {
        if self.lost.swap(0, Ordering::Relaxed) > 0 {
            self.failed();
        }
    }

    /// It is given up: it is no process of its cell any more.
    pub(super) fn give_up(&self) {
        let mut guarded = self.guarded();
        if !std::mem::replace(&mut guarded.gone, true) {
            let was_out = self.out.swap(false, Ordering::Relaxed);
            self.siblings.go(was_out);
            self.metrics.out(&self.entry.cell, -i64::from(was_out));
        }
    }

    fn failed(&self) {
        let now_ms = self.now_ms();
        let mut guarded = self.guarded();
        if guarded.health.failed(now_ms) && !guarded.gone && self.siblings.take_out() {
            let pause_ms = guarded.health.take_out(now_ms, rand::rng().random_range(0..=1_000));
            self.out.store(true, Ordering::Relaxed);
            drop(guarded);
            self.fell_ms.store(now_ms + 1, Ordering::Relaxed);
            let ProcessEntry { cell, process, .. } = &self.entry;
            tracing::warn!(%cell, %process, pause_ms, "calls fail; the process is asked no more until it answers a probe");
            self.metrics.out(cell, 1);
            self.taken_out.notify_one();
        }
    }

    /// Waits until it is to be probed: never while it is asked.
    pub(super) async fn until_probe(&self) {
        loop {
            let pause_ms = self.guarded().health.probe_in_ms(self.now_ms());
            match pause_ms {
                None => self.taken_out.notified().await,
                Some(0) => return,
                Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            }
        }
    }

    /// It answered a probe, or did not.
    pub(super) fn probed(&self, answered: bool) {
        let now_ms = self.now_ms();
        let mut guarded = self.guarded();
        if !answered {
            guarded.health.take_out(now_ms, rand::rng().random_range(0..=1_000));
            return;
        }
        guarded.health.bring_back(now_ms);
        let was_out = self.out.swap(false, Ordering::Relaxed);
        drop(guarded);
        if was_out {
            let ProcessEntry { cell, process, .. } = &self.entry;
            tracing::info!(%cell, %process, "the process answers again");
            self.siblings.back();
            self.metrics.out(cell, -1);
        }
    }

    fn since(&self, at: &AtomicU64) -> Duration {
        match at.load(Ordering::Relaxed) {
            0 => Duration::MAX,
            at_ms => Duration::from_millis(self.now_ms().saturating_sub(at_ms - 1)),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn guarded(&self) -> MutexGuard<'_, Guarded> {
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Process {
    /// A process of a cell that nobody else belongs to.
    pub(crate) fn alone(entry: ProcessEntry) -> Process {
        let metrics = runtime::metric::Metrics::new("test", "0").unwrap();
        Process::new(
            entry,
            Arc::default(),
            &LinkMetrics::new(&metrics, runtime::server::Lateness::default()),
        )
    }
}

#[cfg(test)]
mod tests;
