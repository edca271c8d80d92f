//! Workers: the threads that a class of sales works on.
//!
//! FLASH sales work on the threads of the link, which bring their calls: a batch need not change threads. Everyday sales
//! have threads, timers and sockets of their own, so that a keeper of a flash sale who computes for long, or a rush that
//! keeps the link's threads busy, does not hold up their stages, payments and sweeps.

use runtime::metric::{Gauge, Gauges, Metrics};
use std::io;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often it is looked how busy workers are.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Workers {
    name: &'static str,
    handle: Handle,
    own: Option<Runtime>,
}

impl Workers {
    /// The threads that the caller runs on.
    pub(crate) fn shared(name: &'static str) -> Workers {
        Workers { name, handle: Handle::current(), own: None }
    }

    /// Threads of their own, which end when this is dropped. Whoever works here keeps it from being dropped.
    pub(crate) fn own(name: &'static str, threads: usize) -> io::Result<Workers> {
        let mut builder = Builder::new_multi_thread();
        let own = builder.worker_threads(threads).thread_name(name).enable_all().build()?;
        Ok(Workers { name, handle: own.handle().clone(), own: Some(own) })
    }

    /// What the class and its threads are called.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Where to spawn work.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if let Some(own) = self.own.take() {
            // Without waiting: the last to let go may be one of its own tasks.
            own.shutdown_background();
        }
    }
}

/// How busy one class's workers are.
struct Load {
    handle: Handle,
    tasks: Gauge,
    queue: Gauge,
    busy: Gauge,
    busy_before: Duration,
    looked: Instant,
}

/// Measures workers until `end` is cancelled.
pub(crate) async fn measure(
    all: [(&'static str, Handle); 2],
    metrics: Metrics,
    end: CancellationToken,
) {
    let gauges = |name, help| Gauges::new(&metrics, name, help);
    let tasks = gauges("floodgate_cell_workers_tasks", "Tasks that live on the threads of a class");
    let queue = gauges("floodgate_cell_workers_queue", "Tasks that wait for a thread of a class");
    let busy = gauges(
        "floodgate_cell_workers_busy_permille",
        "How much of the last second the threads of a class worked",
    );
    let mut loads = all.map(|(class, handle)| {
        let label = [("class", class)];
        Load {
            handle,
            tasks: tasks.with(&label),
            queue: queue.with(&label),
            busy: busy.with(&label),
            busy_before: Duration::ZERO,
            looked: Instant::now(),
        }
    });
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = tick.tick() => loads.iter_mut().for_each(Load::look),
        }
    }
}

impl Load {
    fn look(&mut self) {
        let metrics = self.handle.metrics();
        let threads = metrics.num_workers();
        let busy: Duration =
            (0..threads).map(|thread| metrics.worker_total_busy_duration(thread)).sum();
        let level = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.tasks.set(level(metrics.num_alive_tasks()));
        self.queue.set(level(metrics.global_queue_depth()));
        let over = self.looked.elapsed().as_millis() * threads as u128;
        let worked = busy.saturating_sub(self.busy_before).as_millis();
        self.busy.set(i64::try_from(worked * 1_000 / over.max(1)).unwrap_or(i64::MAX));
        (self.busy_before, self.looked) = (busy, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn threads_have_a_name_are_measured_and_end_with_the_last_who_works_there() {
        let workers = Arc::new(Workers::own("standard", 2).unwrap());
        let metrics = Metrics::new("test", "0").unwrap();
        let end = CancellationToken::new();
        let all = [("flash", Handle::current()), (workers.name, workers.handle().clone())];
        let measuring = workers.handle().spawn(measure(all, metrics.clone(), end.clone()));
        let kept = workers.clone();
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let working = workers.handle().spawn(async move {
            gone.await.ok();
            drop(kept);
            std::thread::current().name().map(str::to_owned)
        });
        drop(workers);
        let told = async {
            while !metrics.text().unwrap().contains(r#"workers_tasks{class="standard"} 2"#) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), told).await.unwrap();
        end.cancel();
        measuring.await.unwrap();
        go.send(()).unwrap();
        // The task drops the last of it in the middle of its work, and comes to its end or is cut off.
        match working.await {
            Ok(name) => assert_eq!(name.as_deref(), Some("standard")),
            Err(cut_off) => assert!(cut_off.is_cancelled(), "{cut_off}"),
        }
    }
}
