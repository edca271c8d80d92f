//! Fair shares of a stream: every org has a queue of its own, and a frame is filled from all of them in turn.
//!
//! Deficit round robin: an org sends calls until its credit is used up, is given more, and goes to the end of the line. So
//! each of those who want more than there is gets the same part of every frame, however long its queue, in bytes or in
//! calls, whichever a frame has less room for. Nothing here depends on how many orgs or calls there are, and one org alone
//! costs no allocation a call.

use proto::limits::{
    BATCH_CALLS_MAX, CALL_BYTES_MAX, FRAME_BYTES_MAX, LINK_CALLS_WAITING_MAX, ORG_ROOM_TIMES,
};
use std::collections::{HashMap, VecDeque};

/// What a call costs at least: its part of a frame's calls.
const LEAST_BYTES: usize = FRAME_BYTES_MAX / BATCH_CALLS_MAX;
/// What an org may send in one turn: as much as the largest call, so that every turn sends something.
const TURN_BYTES: usize = CALL_BYTES_MAX;
/// Room for calls that an org's queue keeps while nobody uses it.
const KEPT_CALLS: usize = BATCH_CALLS_MAX;

/// An org's place here, for as long as it has calls under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lane(usize);

/// See the module. `T` is a call that waits for a frame.
#[derive(Debug)]
pub(super) struct Shares<T> {
    queues: Vec<Queue<T>>,
    /// The queues of orgs that have calls under way.
    of: HashMap<u64, usize>,
    /// Queues of nobody.
    spare: Vec<usize>,
    /// Queues that are not empty, the next one in front.
    turns: VecDeque<usize>,
    /// The queue that was asked for last: most often it is the next one, too.
    last: usize,
    /// Calls that wait for a frame, those included whose callers have gone.
    waiting: usize,
}

#[derive(Debug)]
struct Queue<T> {
    org: u64,
    /// What waits for a frame, and what it costs.
    waiting: VecDeque<(T, usize)>,
    credit_bytes: usize,
    /// Calls that were let in and have not left.
    under_way: usize,
}

impl<T> Default for Shares<T> {
    fn default() -> Shares<T> {
        Shares {
            queues: Vec::new(),
            of: HashMap::new(),
            spare: Vec::new(),
            turns: VecDeque::new(),
            last: 0,
            waiting: 0,
        }
    }
}

impl<T> Shares<T> {
    /// Lets a call of an org in, when there is `room` for so many calls. None: this org has its part already.
    pub(super) fn enter(&mut self, org: u64, room: usize) -> Option<Lane> {
        let known = self.queues.get(self.last).filter(|last| last.under_way > 0 && last.org == org);
        let at = match known {
            Some(_) => Some(self.last),
            None => self.of.get(&org).copied(),
        };
        let has = at.map_or(0, |at| {
            let queue = &self.queues[at];
            queue.under_way.max(queue.waiting.len())
        });
        let room = room.min(LINK_CALLS_WAITING_MAX.saturating_sub(self.waiting));
        if has >= room.saturating_mul(ORG_ROOM_TIMES) {
            return None;
        }
        let at = at.unwrap_or_else(|| self.open(org));
        self.queues[at].under_way += 1;
        self.last = at;
        Some(Lane(at))
    }

    /// Queues a call that was let in. Returns whether nothing waited before.
    pub(super) fn push(&mut self, lane: Lane, call: T, bytes: usize) -> bool {
        let was_empty = self.turns.is_empty();
        let queue = &mut self.queues[lane.0];
        if queue.waiting.is_empty() {
            queue.credit_bytes = TURN_BYTES;
            self.turns.push_back(lane.0);
        }
        queue.waiting.push_back((call, bytes));
        self.waiting += 1;
        was_empty
    }

    /// A call that was let in is under way no more.
    pub(super) fn leave(&mut self, lane: Lane) {
        let queue = &mut self.queues[lane.0];
        queue.under_way -= 1;
        self.close_if_idle(lane.0);
    }

    /// Fills a frame: `send` takes a call, or says that nobody waits for it any more.
    pub(super) fn fill(&mut self, mut send: impl FnMut(T) -> bool) {
        let (mut calls, mut bytes) = (0, 0);
        while calls < BATCH_CALLS_MAX
            && let Some(&at) = self.turns.front()
        {
            let queue = &mut self.queues[at];
            let Some(&(_, size)) = queue.waiting.front() else {
                self.turns.pop_front();
                continue;
            };
            // One call alone is never too large.
            if calls > 0 && bytes + size > FRAME_BYTES_MAX {
                return;
            }
            let cost = size.max(LEAST_BYTES);
            if queue.credit_bytes < cost {
                queue.credit_bytes += TURN_BYTES.max(cost);
                self.turns.rotate_left(1);
                continue;
            }
            let Some((call, _)) = queue.waiting.pop_front() else { continue };
            self.waiting -= 1;
            if send(call) {
                queue.credit_bytes -= cost;
                (calls, bytes) = (calls + 1, bytes + size);
            }
            if queue.waiting.is_empty() {
                self.turns.pop_front();
                self.close_if_idle(at);
            }
        }
    }

    /// Whether nothing waits for a frame.
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Calls that wait for a frame.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Shares::default();
    }

    fn open(&mut self, org: u64) -> usize {
        let at = self.spare.pop().unwrap_or_else(|| {
            // Whoever has a queue has a call in it or under way, and those are bounded.
            let waiting = VecDeque::new();
            self.queues.push(Queue { org, waiting, credit_bytes: 0, under_way: 0 });
            self.queues.len() - 1
        });
        self.queues[at].org = org;
        self.of.insert(org, at);
        at
    }

    fn close_if_idle(&mut self, at: usize) {
        let queue = &mut self.queues[at];
        if queue.under_way == 0 && queue.waiting.is_empty() {
            queue.waiting.shrink_to(KEPT_CALLS);
            self.of.remove(&queue.org);
            self.spare.push(at);
        }
    }
}

#[cfg(test)]
mod tests;
