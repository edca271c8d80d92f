//! One stream of calls to one process: calls gather while the last frame is under way, every org in a queue of its own,
//! and answers find their callers.

mod packed;

use super::callers::{Caller, Callers, End};
use super::concurrency::Concurrency;
use super::nature::{Nature, nature};
use super::pace::Seen;
use super::shares::Shares;
use packed::Packed;
use proto::fault::{Fault, Reason};
use proto::frame::Frame;
use proto::limits::BATCH_CALLS_MAX;
use proto::wire::cell::{Answers, Call, answer};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// When a caller may try again for whom there was no room.
const FULL_MS: u32 = 250;

/// A call, and whose turn it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    /// Everything but its id and the time that is left.
    pub(crate) call: &'a Call,
    /// The org, as a number.
    pub(crate) org: u64,
    /// When its caller stops waiting.
    pub(crate) deadline: Instant,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Miss {
    /// There is no link, and nothing was sent.
    Down,
    /// The link broke. Sent: it may have been carried out.
    Lost { sent: bool },
    /// It was not let in, or nobody answered in time.
    Refused(Fault),
}

/// A stream's callers. It outlives the connection: ids go on, and whoever comes meanwhile is told that it is down.
#[derive(Debug)]
pub(crate) struct Wire {
    class: Arc<Concurrency>,
    up: AtomicBool,
    /// Calls that were let in so far.
    asked: AtomicU64,
    inner: Mutex<Inner>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    callers: Callers,
    shares: Shares<Waiting>,
}

/// A call that waits for a frame.
#[derive(Debug)]
struct Waiting {
    id: u64,
    packed: Packed,
    deadline: Instant,
}

/// Forgets a call that nobody waits for any more.
struct Left<'a> {
    wire: &'a Wire,
    id: u64,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.wire.lock().forget(self.id, &self.wire.class);
    }
}

impl Inner {
    fn forget(&mut self, id: u64, class: &Concurrency) -> Option<Caller> {
        let caller = self.callers.remove(id)?;
        self.shares.leave(caller.lane);
        class.leave(caller.nature);
        Some(caller)
    }
}

impl Wire {
    /// A stream that is down, of a class whose calls are counted together.
    pub(super) fn new(class: Arc<Concurrency>) -> Wire {
        Wire {
            class,
            up: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            inner: Mutex::default(),
            ready: Notify::new(),
        }
    }

    /// Sends a call and waits for its answer until its deadline.
    pub(super) async fn call(
        &self,
        asking: Asking<'_>,
        now: Instant,
    ) -> Result<answer::Kind, Miss> {
        if !self.is_up() {
            return Err(Miss::Down);
        }
        let packed = Packed::new(asking.call).ok_or_else(|| refused(Reason::MessageTooLarge))?;
        let (end, ended) = oneshot::channel();
        let nature = nature(asking.call.kind.as_ref());
        let room = self.class.room(nature, now);
        let left = self.let_in(asking, (nature, room, now), packed, end)?;
        let ended = tokio::time::timeout_at(asking.deadline, ended).await;
        if ended.is_ok() {
            // Whoever ended it has forgotten it.
            std::mem::forget(left);
        }
        match ended {
            Ok(Ok(End::Answered(answer))) => Ok(answer),
            Ok(Ok(End::Lost { sent })) => Err(Miss::Lost { sent }),
            // The stream is gone with its callers: only when this process ends.
            Ok(Err(_)) => Err(Miss::Lost { sent: true }),
            Err(_) => Err(refused(Reason::DeadlinePassed)),
        }
    }

    fn let_in(
        &self,
        asking: Asking<'_>,
        (nature, room, since): (Nature, usize, Instant),
        packed: Packed,
        end: oneshot::Sender<End>,
    ) -> Result<Left<'_>, Miss> {
        let Asking { org, deadline, .. } = asking;
        let mut inner = self.lock();
        // Under the lock: who comes after a break is not among those who are told of it.
        if !self.is_up() {
            return Err(Miss::Down);
        }
        let Some(lane) = inner.shares.enter(org, room) else {
            return Err(full());
        };
        let Some(id) = inner.callers.add(Caller { end, lane, nature, since, sent: false }) else {
            inner.shares.leave(lane);
            return Err(full());
        };
        self.class.enter(nature);
        let bytes = packed.bytes();
        let was_empty = inner.shares.push(lane, Waiting { id, packed, deadline }, bytes);
        drop(inner);
        if was_empty {
            self.ready.notify_one();
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(Left { wire: self, id })
    }

    /// Whether calls are taken.
    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Calls that were let in so far.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// A connection is there.
    pub(super) fn rise(&self) {
        let _inner = self.lock();
        self.up.store(true, Ordering::Relaxed);
    }

    /// The connection broke: everybody who waits is told. Returns how many calls were under way.
    pub(super) fn fall(&self) -> usize {
        let callers = {
            let mut inner = self.lock();
            self.up.store(false, Ordering::Relaxed);
            inner.shares.clear();
            inner.callers.take_all()
        };
        let count = callers.iter().filter(|caller| caller.sent).count();
        for Caller { end, nature, sent, .. } in callers {
            self.class.leave(nature);
            // Whoever stopped waiting at this moment needs no word.
            drop(end.send(End::Lost { sent }));
        }
        count
    }

    /// The next frame: what has gathered, in fair shares. Waits when there is nothing.
    pub(super) async fn frame(self: Arc<Self>) -> Frame {
        loop {
            let calls = self.gathered();
            if !calls.is_empty() {
                return Frame { calls };
            }
            self.ready.notified().await;
        }
    }

    fn gathered(&self) -> Vec<bytes::Bytes> {
        let mut inner = self.lock();
        let Inner { callers, shares } = &mut *inner;
        if shares.is_empty() {
            return Vec::new();
        }
        let now = Instant::now();
        let mut calls = Vec::with_capacity(shares.waiting().min(BATCH_CALLS_MAX));
        shares.fill(|Waiting { id, packed, deadline }| {
            let left = deadline.saturating_duration_since(now);
            match callers.get_mut(id) {
                Some(caller) if !left.is_zero() => {
                    caller.sent = true;
                    calls.push(packed.sealed(id, left));
                    true
                }
                // It came too late, or nobody waits: it takes no place of another's.
                _ => false,
            }
        });
        calls
    }

    /// Hands answers to their callers. Returns how many there were.
    pub(super) fn hand_out(&self, answers: Answers) -> usize {
        let count = answers.answers.len();
        let now = Instant::now();
        let (mut seen, fine_us) = (Seen::default(), self.class.fine_us());
        let mut inner = self.lock();
        for answer in answers.answers {
            // Whoever stopped waiting is not there any more.
            let Some(caller) = inner.forget(answer.id, &self.class) else { continue };
            if !caller.nature.pays {
                let took_us = now.saturating_duration_since(caller.since).as_micros();
                seen.add(u64::try_from(took_us).unwrap_or(u64::MAX), fine_us);
            }
            if let Some(kind) = answer.kind {
                drop(caller.end.send(End::Answered(kind)));
            }
        }
        drop(inner);
        if seen.answers > 0 {
            self.class.saw(seen, now);
        }
        count
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn full() -> Miss {
    Miss::Refused(Fault::later(Reason::Overloaded, FULL_MS))
}

fn refused(reason: Reason) -> Miss {
    Miss::Refused(reason.into())
}

#[cfg(test)]
mod tests;
