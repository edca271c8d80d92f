//! How a process stops: everything that runs was spawned here, is told, and is waited for.
//!
//! Two steps lead to the end. [`Drain::announce`] makes the process unready, so that balancers look
//! elsewhere while it still takes new work; [`Drain::begin`] tells all tasks to finish what they
//! have and end. [`Drain::finish`] waits for them. A task that panics is logged by its name, counted,
//! and leaves the process unready: it lives on, but something that should run no longer does.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
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
        let running = Running::enter(self.clone(), name);
        // An async block would keep the task's memory twice: as it was taken and as it is awaited.
        let task = AssertUnwindSafe(task).catch_unwind().map(move |ended| {
            if ended.is_err() {
                running.drain.count_panic(name);
                spoil(&running.drain);
            }
            drop(running);
        });
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

    /// Begins the drain if nobody did, and waits at most `grace` for all tasks to end. The error
    /// says who still runs; those tasks are left running.
    pub async fn finish(&self, grace: Duration) -> Result<(), Overrun> {
        self.begin();
        self.0.tracker.close();
        if timeout(grace, self.0.tracker.wait()).await.is_ok() {
            return Ok(());
        }
        let running = self.running();
        let names: Vec<_> =
            running.iter().map(|(name, count)| format!("{name}: {count}")).collect();
        Err(Overrun { count: running.values().sum(), names: names.join(", "), grace })
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
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn finish_waits_for_tasks_that_obey() {
        let drain = Drain::new();
        let (done, ended) = tokio::sync::oneshot::channel();
        let token = drain.token();
        drain.spawn("obedient", async move {
            token.cancelled().await;
            done.send(()).unwrap();
        });
        drain.finish(GRACE).await.unwrap();
        ended.await.unwrap();
        assert!(!drain.readiness().is_ready());
    }

    #[tokio::test]
    async fn finish_waits_for_tasks_on_other_threads() {
        let others = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("others")
            .enable_all()
            .build()
            .unwrap();
        let drain = Drain::new();
        let (say, said) = tokio::sync::oneshot::channel();
        let token = drain.token();
        drain.spawn_on(others.handle(), "obedient", async move {
            token.cancelled().await;
            say.send(std::thread::current().name().map(str::to_owned)).unwrap();
        });
        drain.spawn_call_on(others.handle(), "clumsy", async { panic!("on purpose") });
        drain.finish(GRACE).await.unwrap();
        assert_eq!(said.await.unwrap().as_deref(), Some("others"));
        assert_eq!(drain.readiness().missing(), ["draining"], "a call's panic spoils nothing");
        others.shutdown_background();
    }

    #[tokio::test]
    async fn finish_names_those_who_overrun() {
        let drain = Drain::new();
        drain.spawn("deaf", std::future::pending());
        drain.spawn("deaf", std::future::pending());
        drain.spawn("obedient", async {});
        let grace = Duration::from_millis(50);
        let overrun = drain.finish(grace).await.unwrap_err();
        assert_eq!(overrun, Overrun { count: 2, names: "deaf: 2".to_owned(), grace });
    }

    #[tokio::test]
    async fn a_panic_is_counted_and_spoils_readiness() {
        let metrics = Metrics::new("test", "0").unwrap();
        let drain = Drain::new();
        drain.count_panics(&metrics);
        drain.spawn("clumsy", async { panic!("on purpose") });
        let mut ready = drain.readiness().watch();
        ready.wait_for(|ready| !ready).await.unwrap();
        assert_eq!(drain.readiness().missing(), ["task clumsy"]);
        drain.finish(GRACE).await.unwrap();
        let text = metrics.text().unwrap();
        assert!(text.contains(r#"floodgate_task_panics_total{task="clumsy"} 1"#), "{text}");
    }

    #[tokio::test]
    async fn an_announced_process_is_unready_but_works_on() {
        let drain = Drain::new();
        drain.announce();
        drain.announced().await;
        assert!(!drain.has_begun());
        assert_eq!(drain.readiness().missing(), ["draining"]);
    }
}
