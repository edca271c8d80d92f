//! How a process stops: everything that runs was spawned here, is told, and is waited for.
//!
//! Two steps lead to the end. [`Drain::announce`] makes the process unready, so that balancers look
//! elsewhere while it still takes new work; [`Drain::begin`] tells all tasks to finish what they
//! have and end. [`Drain::finish`] waits for them. A task that panics is logged by its name, counted,
//! and leaves the process unready: it lives on, but something that should run no longer does.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;

use crate::metric::{Counters, Metrics};
use crate::readiness::Readiness;

/// The tasks of a process and the signal for them to end. Clones share both.
#[derive(Clone, Debug, Default)]
pub struct Drain(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    announced: CancellationToken,
    token: CancellationToken,
    tracker: TaskTracker,
    running: Mutex<BTreeMap<&'static str, usize>>,
    panics: Mutex<Option<Counters>>,
    readiness: Readiness,
    behind: OnceLock<Drain>,
}

/// The grace ran out before every task had ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{count} tasks still run after {grace:?} ({names}); give a longer grace or end them harder"
)]
pub struct Overrun {
    /// How many tasks still ran.
    pub count: usize,
    /// Their names with how many of each, for people.
    pub names: String,
    /// The grace that ran out.
    pub grace: Duration,
}

impl Drain {
    /// Nothing runs and nothing has been told to end.
    pub fn new() -> Self {
        Self::default()
    }

    /// The drain of those whom the tasks of this one still need to finish what they have: it begins when these have
    /// ended, or when their grace is over. There is one, however often it is asked for.
    pub fn behind(&self) -> Drain {
        let behind = self.0.behind.get_or_init(|| {
            let panics = self.0.panics.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let (panics, readiness) = (Mutex::new(panics), self.readiness());
            Drain(Arc::new(Shared { panics, readiness, ..Shared::default() }))
        });
        behind.clone()
    }

    /// Runs a task that ends by itself once the drain begins. `name` stands in logs and metrics.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.track(None, name, task, spoil(name));
    }

    /// As [`Drain::spawn`], on the threads of `workers` instead of the caller's.
    pub fn spawn_on<F>(&self, workers: &Handle, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.track(Some(workers), name, task, spoil(name));
    }

    /// As [`Drain::spawn`], for what is done on behalf of one caller. If it panics the caller has
    /// lost it, but the process is as ready as before: nobody shall stop it with an odd request.
    pub fn spawn_call<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.track(None, name, task, |_| ());
    }

    /// As [`Drain::spawn_call`], on the threads of `workers` instead of the caller's.
    pub fn spawn_call_on<F>(&self, workers: &Handle, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.track(Some(workers), name, task, |_| ());
    }

    fn track<F>(
        &self,
        workers: Option<&Handle>,
        name: &'static str,
        task: F,
        spoil: impl FnOnce(&Self) + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = tracked(self, name, task, spoil);
        drop(match workers {
            Some(workers) => self.0.tracker.spawn_on(task, workers),
            None => self.0.tracker.spawn(task),
        });
    }

    /// The token that is cancelled when the drain begins.
    pub fn token(&self) -> CancellationToken {
        self.0.token.clone()
    }

    /// Waits until the drain begins.
    pub fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        self.0.token.cancelled()
    }

    /// Whether the drain has begun.
    pub fn has_begun(&self) -> bool {
        self.0.token.is_cancelled()
    }

    /// Waits until the end has been announced or the drain has begun.
    pub fn announced(&self) -> WaitForCancellationFuture<'_> {
        self.0.announced.cancelled()
    }

    /// Makes the process unready, for good; work goes on.
    pub fn announce(&self) {
        self.0.readiness.set("draining", false);
        self.0.announced.cancel();
    }

    /// Tells every task to end.
    pub fn begin(&self) {
        self.announce();
        self.0.token.cancel();
    }

    /// Begins the drain if nobody did, and waits at most `grace` for all tasks to end, and then for those
    /// [`Drain::behind`]. The error says who still runs; those tasks are left running.
    pub async fn finish(&self, grace: Duration) -> Result<(), Overrun> {
        let until = Instant::now() + grace;
        let mut running = self.end(until).await;
        if let Some(behind) = self.0.behind.get() {
            running.extend(behind.end(until).await);
        }
        if running.is_empty() {
            return Ok(());
        }
        let names: Vec<_> =
            running.iter().map(|(name, count)| format!("{name}: {count}")).collect();
        Err(Overrun { count: running.values().sum(), names: names.join(", "), grace })
    }

    /// Begins the drain and waits for its tasks; the answer is who still runs then.
    async fn end(&self, until: Instant) -> BTreeMap<&'static str, usize> {
        self.begin();
        self.0.tracker.close();
        match timeout_at(until, self.0.tracker.wait()).await {
            Ok(()) => BTreeMap::new(),
            Err(_) => self.running().clone(),
        }
    }

    /// The readiness that this drain spoils when it is announced or when a task panics.
    pub fn readiness(&self) -> Readiness {
        self.0.readiness.clone()
    }

    /// Counts panics in `floodgate_task_panics_total{task}` of `metrics` from now on.
    pub fn count_panics(&self, metrics: &Metrics) {
        let panics = Counters::new(
            metrics,
            "floodgate_task_panics_total",
            "Tasks of this process that panicked and are gone",
        );
        *self.0.panics.lock().unwrap_or_else(PoisonError::into_inner) = Some(panics);
    }

    fn count_panic(&self, name: &'static str) {
        tracing::error!(task = name, "a task panicked and is gone");
        let panics = self.0.panics.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(panics) = panics {
            panics.with(&[("task", name)]).add(1);
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<&'static str, usize>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that is counted while it runs. An async block would keep the task's memory twice: as it was taken and as it is
/// awaited.
fn tracked<F>(
    drain: &Drain,
    name: &'static str,
    task: F,
    spoil: impl FnOnce(&Drain) + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static
where
    F: Future<Output = ()> + Send + 'static,
{
    let running = Running::enter(drain.clone(), name);
    AssertUnwindSafe(task).catch_unwind().map(move |ended| {
        if ended.is_err() {
            running.drain.count_panic(name);
            spoil(&running.drain);
        }
        drop(running);
    })
}

/// What the panic of a task does to its process.
fn spoil(name: &'static str) -> impl FnOnce(&Drain) + Send + 'static {
    move |drain| drain.0.readiness.set(format!("task {name}"), false)
}

/// The signals that tell the process to stop: SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on these signals no longer kill the process; they wait for [`Signals::obey`].
    pub fn catch() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { terminate, interrupt })
    }

    /// Waits for a signal, announces the drain, and begins it after `notice` or at the second
    /// signal. Returns when the drain has begun, by whomever.
    pub async fn obey(mut self, drain: &Drain, notice: Duration) {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            () = drain.cancelled() => return,
        };
        let notice_ms = u64::try_from(notice.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(signal = name, notice_ms, "told to stop");
        drain.announce();
        tokio::select! {
            () = tokio::time::sleep(notice) => {}
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = drain.cancelled() => {}
        }
        drain.begin();
    }
}

/// Counts a task under its name for as long as it lives, however it ends.
struct Running {
    drain: Drain,
    name: &'static str,
}

impl Running {
    fn enter(drain: Drain, name: &'static str) -> Self {
        *drain.running().entry(name).or_default() += 1;
        Self { drain, name }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.drain.running();
        if let Some(count) = running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
