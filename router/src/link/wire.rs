//! One stream of calls to one process: calls gather while the last frame is under way, answers find their callers.

use prost::Message;
use proto::fault::{Fault, Reason};
use proto::limits::{BATCH_CALLS_MAX, FRAME_BYTES_MAX, LINK_CALLS_WAITING_MAX};
use proto::wire::cell::{Answers, Call, Frame, answer};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// When a caller may try again whose stream broke or was full.
const AGAIN_MS: u32 = 200;

/// A stream's callers. It outlives the connection: after a break calls gather for the next one.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    inner: Mutex<Inner>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    up: bool,
    next_id: u64,
    gathered: Vec<Call>,
    callers: HashMap<u64, oneshot::Sender<answer::Kind>>,
}

/// Forgets a call that nobody waits for any more.
struct Waiting<'a> {
    wire: &'a Wire,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.wire.lock().callers.remove(&self.id);
    }
}

impl Wire {
    /// Sends a call and waits for its answer until `deadline`.
    pub(crate) async fn call(
        &self,
        mut call: Call,
        deadline: Instant,
    ) -> Result<answer::Kind, Fault> {
        let (answer, answered) = oneshot::channel();
        let waiting = {
            let mut inner = self.lock();
            if !inner.up {
                return Err(Fault::later(Reason::BucketMoving, AGAIN_MS));
            }
            if inner.callers.len() >= LINK_CALLS_WAITING_MAX {
                return Err(Fault::later(Reason::Overloaded, AGAIN_MS));
            }
            let id = inner.next_id;
            inner.next_id += 1;
            call.id = id;
            let was_empty = inner.gathered.is_empty();
            inner.gathered.push(call);
            inner.callers.insert(id, answer);
            drop(inner);
            if was_empty {
                self.ready.notify_one();
            }
            Waiting { wire: self, id }
        };
        let answered = tokio::time::timeout_at(deadline, answered).await;
        drop(waiting);
        match answered {
            Ok(Ok(answer)) => Ok(answer),
            // The stream broke: it may have been carried out, and the same request finds out.
            Ok(Err(_)) => Err(Fault::later(Reason::BucketMoving, AGAIN_MS)),
            Err(_) => Err(Reason::DeadlinePassed.into()),
        }
    }

    /// Whether calls are taken.
    pub(crate) fn is_up(&self) -> bool {
        self.lock().up
    }

    /// A connection is there.
    pub(crate) fn rise(&self) {
        self.lock().up = true;
    }

    /// The connection broke: everybody who waits is refused.
    pub(crate) fn fall(&self) {
        let (gathered, callers) = {
            let mut inner = self.lock();
            inner.up = false;
            (std::mem::take(&mut inner.gathered), std::mem::take(&mut inner.callers))
        };
        // Dropping the senders is the refusal.
        drop((gathered, callers));
    }

    /// The next frame: what has gathered, at most a batch and a frame's bytes. Waits when there is nothing.
    pub(crate) async fn frame(self: Arc<Self>) -> Frame {
        loop {
            {
                let mut inner = self.lock();
                if !inner.gathered.is_empty() {
                    let count = fitting(&inner.gathered);
                    let rest = inner.gathered.split_off(count);
                    let calls = std::mem::replace(&mut inner.gathered, rest);
                    return Frame { calls };
                }
            }
            self.ready.notified().await;
        }
    }

    /// Hands answers to their callers.
    pub(crate) fn hand_out(&self, answers: Answers) {
        let mut inner = self.lock();
        for answer in answers.answers {
            // Whoever stopped waiting is not there any more.
            if let (Some(caller), Some(kind)) = (inner.callers.remove(&answer.id), answer.kind) {
                drop(caller.send(kind));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many of the gathered calls fit into a frame: at least one, which alone is never too large.
fn fitting(calls: &[Call]) -> usize {
    let mut bytes = 0;
    let fits = calls.iter().take(BATCH_CALLS_MAX).take_while(|call| {
        bytes += call.encoded_len();
        bytes <= FRAME_BYTES_MAX
    });
    fits.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::wire::cell::{Answer, Probe, Reserve, call};
    use std::time::Duration;

    fn probe() -> Call {
        Call { kind: Some(call::Kind::Probe(Probe::default())), ..Call::default() }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test(start_paused = true)]
    async fn answers_find_their_callers_in_any_order() {
        let wire = Arc::new(Wire::default());
        wire.rise();
        let ask = |text: &'static str| {
            let wire = wire.clone();
            tokio::spawn(async move {
                let payload = text.into();
                let kind = Some(call::Kind::Probe(Probe { payload }));
                wire.call(Call { kind, ..Call::default() }, soon()).await
            })
        };
        let (first, second) = (ask("first"), ask("second"));
        tokio::task::yield_now().await;
        let frame = wire.clone().frame().await;
        assert_eq!(frame.calls.len(), 2);
        let answers = frame.calls.into_iter().rev().map(|call| {
            let Some(call::Kind::Probe(probe)) = call.kind else { panic!() };
            Answer { id: call.id, kind: Some(answer::Kind::Probe(probe)) }
        });
        wire.hand_out(Answers { answers: answers.collect() });
        for (task, text) in [(first, "first"), (second, "second")] {
            let Ok(answer::Kind::Probe(probe)) = task.await.unwrap() else { panic!() };
            assert_eq!(probe.payload, text);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_break_refuses_and_nothing_is_kept_for_the_next_connection() {
        let wire = Arc::new(Wire::default());
        assert_eq!(wire.call(probe(), soon()).await.unwrap_err().reason, Reason::BucketMoving);
        wire.rise();
        let caller = tokio::spawn({
            let wire = wire.clone();
            async move { wire.call(probe(), soon()).await }
        });
        tokio::task::yield_now().await;
        wire.fall();
        assert_eq!(caller.await.unwrap().unwrap_err().reason, Reason::BucketMoving);
        wire.rise();
        assert!(wire.lock().gathered.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn late_calls_are_refused_and_forgotten() {
        let wire = Arc::new(Wire::default());
        wire.rise();
        let refused = wire.call(probe(), Instant::now() + Duration::from_millis(10)).await;
        assert_eq!(refused.unwrap_err().reason, Reason::DeadlinePassed);
        assert!(wire.lock().callers.is_empty());
    }

    #[test]
    fn frames_are_bounded_by_calls_and_bytes() {
        assert_eq!(fitting(&vec![probe(); 1_000]), BATCH_CALLS_MAX);
        let large = |bytes: usize| Call {
            kind: Some(call::Kind::Reserve(Reserve {
                ticket: "t".repeat(bytes),
                ..Reserve::default()
            })),
            ..Call::default()
        };
        assert_eq!(fitting(&vec![large(FRAME_BYTES_MAX / 4); 9]), 3);
        assert_eq!(fitting(&[large(FRAME_BYTES_MAX * 2)]), 1);
    }
}
