//! Open-loop load: a call is made when it is due, whatever became of those before. What is offered is planned before
//! and does not become less because answers are late; how much of the plan was kept is counted.

use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout_at};

/// Calls of one such time come together.
const EVERY: Duration = Duration::from_millis(1);
/// tokio wakes at whole milliseconds of its own; who counts from this long before one is woken hardly later than planned.
const PHASE: Duration = Duration::from_micros(200);
/// A call that begins so much later than it was due was not offered as planned: we were too slow, not the platform.
const LATE: Duration = Duration::from_millis(50);

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With what it asked for.
    Done,
    /// With a refusal.
    Refused,
    /// With a refusal because it was too late, or with nothing when we gave up.
    Late,
    /// The connection broke.
    Broken,
}

/// A call that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    /// When it was due, since the begin.
    pub(crate) due: Duration,
    /// Whether it began when it was due.
    pub(crate) kept: bool,
    /// From when it was due to its end.
    pub(crate) took: Duration,
    pub(crate) end: End,
}

/// So many calls a second for a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) per_s: f64,
    pub(crate) lasts: Duration,
}

/// Makes one step's calls after the other's, gives up those that take longer than `patience`, and waits for all.
/// `call` makes the next one; without one the load ends.
pub(crate) async fn offer<Call>(
    steps: &[Step],
    patience: Duration,
    mut call: impl FnMut() -> Option<Call>,
) -> Vec<Made>
where
    Call: Future<Output = End> + Send + 'static,
{
    let mut calls = JoinSet::new();
    tokio::time::sleep(EVERY).await;
    let began = Instant::now() - PHASE;
    let mut tick = interval_at(began + EVERY, EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut now = began;
    for due in schedule(steps) {
        // Those before have a chance to be sent, however many are due.
        while now < began + due {
            now = tick.tick().await;
        }
        let Some(call) = call() else { break };
        calls.spawn(async move {
            let kept = began + due + LATE > Instant::now();
            let end = timeout_at(began + due + patience, call).await.unwrap_or(End::Late);
            let took = began.elapsed().saturating_sub(due);
            Made { due, kept, took, end }
        });
    }
    let mut all = Vec::with_capacity(calls.len());
    while let Some(made) = calls.join_next().await {
        // A call that panicked was not made.
        all.extend(made);
    }
    all
}

/// When calls are due, since the begin.
fn schedule(steps: &[Step]) -> impl Iterator<Item = Duration> {
    let begins = steps.iter().scan(Duration::ZERO, |begin, step| {
        let now = *begin;
        *begin += step.lasts;
        Some((now, *step))
    });
    begins.flat_map(|(begin, step)| {
        let each = Duration::from_secs_f64(1.0 / step.per_s.max(f64::MIN_POSITIVE));
        let dues = (0_u32..).map(move |number| each.checked_mul(number));
        dues.map_while(move |due| due.filter(|due| *due < step.lasts)).map(move |due| begin + due)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn calls_are_due_evenly_within_each_step() {
        let steps = [Step { per_s: 4.0, lasts: ms(1_000) }, Step { per_s: 1.0, lasts: ms(2_000) }];
        let dues: Vec<Duration> = schedule(&steps).collect();
        assert_eq!(dues, [0, 250, 500, 750, 1_000, 2_000].map(ms));
        assert_eq!(schedule(&[]).count(), 0);
        assert_eq!(schedule(&[Step { per_s: 30_000.0, lasts: ms(500) }]).count(), 15_001);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_answers_do_not_slow_the_load() {
        let made = Arc::new(AtomicU64::new(0));
        let steps = [Step { per_s: 100.0, lasts: ms(1_000) }];
        let all = offer(&steps, ms(3_000), || {
            let number = made.fetch_add(1, Ordering::Relaxed);
            Some(async move {
                // Every tenth is never answered, the others after two seconds.
                let takes = if number.is_multiple_of(10) { ms(60_000) } else { ms(2_000) };
                tokio::time::sleep(takes).await;
                if number % 10 == 1 { End::Refused } else { End::Done }
            })
        })
        .await;
        let count = |end| all.iter().filter(|made| made.end == end).count();
        assert_eq!((count(End::Done), count(End::Refused), count(End::Late)), (80, 10, 10));
        assert!(all.iter().all(|made| made.kept));
        let near = |took: Duration, want: Duration| took.abs_diff(want) < ms(5);
        let took = |end| all.iter().find(|made| made.end == end).map(|made| made.took);
        assert!(took(End::Done).is_some_and(|took| near(took, ms(2_000))));
        assert!(took(End::Late).is_some_and(|took| near(took, ms(3_000))));
    }

    #[tokio::test(start_paused = true)]
    async fn without_callers_the_load_ends() {
        let mut left = 3;
        let steps = [Step { per_s: 100.0, lasts: ms(1_000) }];
        let all = offer(&steps, ms(10), || {
            left -= 1;
            (left >= 0).then(|| std::future::ready(End::Done))
        })
        .await;
        assert_eq!(all.len(), 3);
    }
}
