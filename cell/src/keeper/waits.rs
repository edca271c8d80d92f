//! For how long a keeper has been waiting: for its bucket, and for Postgres to commit what its stages have under way. Who
//! would only wait along is refused at once and told when to ask again, instead of standing in a queue until the call's
//! time is over.
//!
//! What needs no commit goes on: orders are shown, states are told, places in line are given from committed ranks.

use super::Queues;
use proto::fault::{Fault, Reason};
use proto::limits::{
    BUCKET_CLOSED_MS, BUCKET_CLOSED_RETRY_MS, WRITER_SLOW_MS, WRITER_SLOW_RETRY_MS,
};
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Receiver;

/// How often calls are refused that came in while nothing could be done about them.
const REFUSE_EVERY: Duration = Duration::from_millis(50);

/// Who waits for Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Units that are held.
    Hold,
    /// Orders that move on.
    Settle,
    /// Ranks to give out.
    Join,
    /// The gate.
    Gate,
    /// Orders that are looked up, which commits nothing and stands last.
    Look,
}

const STAGES: usize = 5;

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// An open bucket.
    Bucket,
    /// Ranks, which are committed in blocks.
    Rank,
    /// A commit behind those under way: they all take the bucket's row.
    Commit,
    /// A look into the ledger.
    Look,
}

/// Since when is waited for what.
#[derive(Clone, Copy, Debug)]
struct Since {
    closed: Option<Instant>,
    stages: [Option<Instant>; STAGES],
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Waits(Mutex<Since>);

/// Something that Postgres was asked for and has not answered, as long as it lives.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    waits: &'a Waits,
    stage: Stage,
}

impl Waits {
    /// Of a keeper that waits for its bucket.
    pub(crate) fn new() -> Waits {
        Waits(Mutex::new(Since { closed: Some(Instant::now()), stages: [None; STAGES] }))
    }

    /// The bucket is open, or closed from now on.
    pub(super) fn set_open(&self, is_open: bool) {
        let mut since = self.lock();
        since.closed = if is_open { None } else { since.closed.or_else(|| Some(Instant::now())) };
    }

    /// A stage waits for Postgres until the answer is dropped.
    pub(crate) fn begin(&self, stage: Stage) -> Waiting<'_> {
        self.lock().stages[stage as usize] = Some(Instant::now());
        Waiting { waits: self, stage }
    }

    /// Why a call that needs `need` would only wait, if so.
    pub(crate) fn refusal(&self, need: Need) -> Option<Fault> {
        let since = *self.lock();
        refusal(need, &since, Instant::now())
    }

    /// Refuses what waits for a commit from when that is too slow on; ends only by being dropped.
    pub(crate) async fn refuse_while_slow<T>(
        &self,
        need: Need,
        queue: &mut Receiver<T>,
        refuse: impl Fn(T, &Fault),
    ) -> Infallible {
        loop {
            while let Some(fault) = self.refusal(need)
                && let Ok(asked) = queue.try_recv()
            {
                refuse(asked, &fault);
            }
            tokio::time::sleep(REFUSE_EVERY).await;
        }
    }

    /// Refuses what waits for the bucket from when that takes too long on; ends only by being dropped.
    pub(super) async fn refuse_while_closed(&self, queues: &mut Queues) -> Infallible {
        loop {
            if let Some(fault) = self.refusal(Need::Bucket) {
                refuse_all(queues, &fault);
            }
            tokio::time::sleep(REFUSE_EVERY).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Since> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waits.lock().stages[self.stage as usize] = None;
    }
}

/// Nothing is known for sure at the moment. What was asked of the epoch before is void.
pub(super) fn refuse_all(queues: &mut Queues, fault: &Fault) {
    while let Ok(asked) = queues.joins.try_recv() {
        asked.reply.refuse(fault);
    }
    while let Ok(asked) = queues.holds.try_recv() {
        asked.reply.refuse(fault);
    }
    while let Ok(asked) = queues.lookups.try_recv() {
        asked.reply.refuse(fault);
    }
    while queues.moves.try_recv().is_ok() {}
}

fn refusal(need: Need, since: &Since, now: Instant) -> Option<Fault> {
    let lasted_ms = |since: Option<Instant>| {
        let lasted = now.saturating_duration_since(since?);
        Some(u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX))
    };
    if let Some(closed_ms) = lasted_ms(since.closed) {
        // The longer it has lasted, the longer it will.
        let (least_ms, most_ms) = BUCKET_CLOSED_RETRY_MS;
        let again_ms = u32::try_from(closed_ms).unwrap_or(u32::MAX).clamp(least_ms, most_ms);
        let fault = Fault::later(Reason::BucketMoving, again_ms);
        return (closed_ms >= BUCKET_CLOSED_MS).then_some(fault);
    }
    let oldest = match need {
        Need::Bucket => None,
        Need::Rank => since.stages[Stage::Join as usize],
        Need::Look => since.stages[Stage::Look as usize],
        Need::Commit => since.stages[..Stage::Look as usize].iter().flatten().min().copied(),
    };
    let is_slow = lasted_ms(oldest).is_some_and(|waited_ms| waited_ms >= WRITER_SLOW_MS);
    is_slow.then(|| Fault::later(Reason::Overloaded, WRITER_SLOW_RETRY_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_would_only_wait_is_refused_and_told_when_to_ask_again() {
        const NEEDS: [Need; 4] = [Need::Bucket, Need::Rank, Need::Look, Need::Commit];
        let moving = |ms| Some(Fault::later(Reason::BucketMoving, ms));
        let slow = || Some(Fault::later(Reason::Overloaded, WRITER_SLOW_RETRY_MS));
        let none = || NEEDS.map(|_| None);
        let all = |fault: Option<Fault>| NEEDS.map(|_| fault.clone());
        let one = |stage: Stage, ms| {
            let mut stages = [None; STAGES];
            stages[stage as usize] = Some(ms);
            stages
        };
        // For how many ms it has been closed; how long each stage has waited; what each need is told.
        let rows = [
            (None, [None; STAGES], none()),
            (Some(0), [None; STAGES], none()),
            (Some(299), [None; STAGES], none()),
            (Some(300), [None; STAGES], all(moving(300))),
            (Some(700), [None; STAGES], all(moving(700))),
            (Some(60_000), [Some(9_000); STAGES], all(moving(1_000))),
            (None, [Some(999); STAGES], none()),
            (None, one(Stage::Hold, 1_000), [None, None, None, slow()]),
            (None, one(Stage::Settle, 1_000), [None, None, None, slow()]),
            (None, one(Stage::Gate, 5_000), [None, None, None, slow()]),
            (None, one(Stage::Join, 1_000), [None, slow(), None, slow()]),
            (None, one(Stage::Look, 1_000), [None, None, slow(), None]),
        ];
        let now = Instant::now() + Duration::from_secs(100);
        let ago = |ms: Option<u64>| ms.map(|ms| now - Duration::from_millis(ms));
        for (closed_ms, stages_ms, told) in rows {
            let since = Since { closed: ago(closed_ms), stages: stages_ms.map(ago) };
            assert_eq!(NEEDS.map(|need| refusal(need, &since, now)), told, "{since:?}");
        }
    }

    #[test]
    fn what_was_answered_is_not_waited_for() {
        let waits = Waits::new();
        waits.set_open(true);
        let waiting = waits.begin(Stage::Hold);
        assert!(waits.lock().stages[Stage::Hold as usize].is_some());
        drop(waiting);
        assert_eq!(waits.lock().stages, [None; STAGES]);
        waits.set_open(false);
        let closed = waits.lock().closed;
        waits.set_open(false);
        assert_eq!(waits.lock().closed, closed, "it has been closed for as long as before");
    }
}
