//! Answers on their way back: whatever became known while the last frame was under way goes into the next one.

use proto::fault::{Fault, Reason};
use proto::limits::BATCH_CALLS_MAX;
use proto::wire::cell::{Answer, Answers, Refusal, answer::Kind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;
use tracing::Span;

/// When a caller whose keeper went away may try again.
const MOVING_MS: u32 = 200;

/// The answers of one stream. It holds at most as many as calls are open.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    answers: Mutex<Vec<Answer>>,
    ready: Notify,
    /// Calls taken in and not yet answered to the transport.
    open: AtomicUsize,
}

impl Outbox {
    /// How many calls are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Answers a call at once.
    pub(crate) fn answer(&self, id: u64, kind: Kind) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.push(Answer { id, kind: Some(kind) });
    }

    /// Refuses a call at once.
    pub(crate) fn refuse(&self, id: u64, fault: &Fault) {
        self.answer(id, refusal(fault));
    }

    /// Adds the answer to a call that is open.
    fn push(&self, answer: Answer) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = answers.is_empty();
        answers.push(answer);
        drop(answers);
        if was_empty {
            self.ready.notify_one();
        }
    }

    /// Waits for answers and takes them, at most a frame of them.
    pub(crate) async fn take(&self) -> Answers {
        let answers = self.gathered().await;
        self.open.fetch_sub(answers.answers.len(), Ordering::Relaxed);
        answers
    }

    async fn gathered(&self) -> Answers {
        loop {
            {
                let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
                if answers.len() > BATCH_CALLS_MAX {
                    let rest = answers.split_off(BATCH_CALLS_MAX);
                    let full = std::mem::replace(&mut *answers, rest);
                    self.ready.notify_one();
                    return Answers { answers: full };
                }
                if !answers.is_empty() {
                    return Answers { answers: std::mem::take(&mut *answers) };
                }
            }
            self.ready.notified().await;
        }
    }
}

/// The duty to answer one call, which is open until then. Dropped unused, it says that the bucket is changing hands: the call may or may not have
/// been carried out, and the same request finds out.
#[derive(Debug)]
pub(crate) struct Reply {
    outbox: Option<Arc<Outbox>>,
    id: u64,
    deadline: Instant,
    /// Ends when the call is answered.
    span: Span,
}

impl Reply {
    /// The duty to answer call `id` of a stream by `deadline`.
    pub(crate) fn new(outbox: Arc<Outbox>, id: u64, deadline: Instant) -> Reply {
        outbox.open.fetch_add(1, Ordering::Relaxed);
        Reply { outbox: Some(outbox), id, deadline, span: Span::none() }
    }

    /// Keeps a trace's span until the call is answered.
    pub(crate) fn traced(mut self, span: Span) -> Reply {
        self.span = span;
        self
    }

    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// When nobody waits any more.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Answers.
    pub(crate) fn send(mut self, kind: Kind) {
        self.answer(kind);
    }

    /// Refuses.
    pub(crate) fn refuse(mut self, fault: &Fault) {
        self.answer(refusal(fault));
    }

    fn answer(&mut self, kind: Kind) {
        if let Some(outbox) = self.outbox.take() {
            outbox.push(Answer { id: self.id, kind: Some(kind) });
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.answer(refusal(&Fault::later(Reason::BucketMoving, MOVING_MS)));
    }
}

fn refusal(fault: &Fault) -> Kind {
    Kind::Refusal(Refusal { reason: fault.reason as u32, retry_after_ms: fault.retry_after_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_hold_what_has_gathered_and_no_more_than_a_batch() {
        let outbox = Arc::new(Outbox::default());
        for id in 0..300 {
            Reply::new(outbox.clone(), id, Instant::now()).refuse(&Reason::SoldOut.into());
        }
        assert_eq!(outbox.open(), 300);
        assert_eq!(outbox.take().await.answers.len(), BATCH_CALLS_MAX);
        assert_eq!(outbox.take().await.answers.len(), 300 - BATCH_CALLS_MAX);
        assert_eq!(outbox.open(), 0);
    }

    #[tokio::test]
    async fn a_call_that_is_forgotten_is_answered_all_the_same() {
        let outbox = Arc::new(Outbox::default());
        drop(Reply::new(outbox.clone(), 7, Instant::now()));
        let answers = outbox.take().await.answers;
        let Some(Kind::Refusal(refusal)) = &answers[0].kind else { panic!("{answers:?}") };
        assert_eq!((answers[0].id, refusal.reason), (7, Reason::BucketMoving as u32));
    }
}
