//! Whether a connection still moves: what its parts tell, and what follows from that.
//!
//! A peer may hold a place and memory without an end: with the first half of a frame, a request that never ends, a
//! window that never opens, or a socket that it does not read. So every connection is looked at now and then, by one
//! timer and without a clock on the way of calls: what waited at one look and the next, while nothing of its kind moved
//! in between, stands still. Others' slow calls are not meant: an answer waits here only once it is there.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use super::frames::{Flood, Frames};

/// Looks in the time that something may stand still: it was seen at one, and had not moved at the others.
const LOOKS: u32 = 3;

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// No TLS was agreed on in time, or with somebody else.
    Handshake,
    /// It said nothing, or not what is understood here.
    Preface,
    /// What it began to say did not come to an end.
    Frame,
    /// None of its requests came to an end.
    Request,
    /// None of its answers were taken: it opens no window.
    Answer,
    /// Nothing that was written arrived.
    Write,
    /// Too much of what is not calls, or no room for answers.
    Flood(Flood),
    /// It was told to go, and did not.
    Age,
    /// It waited too long to be read, because there is too much to do.
    Crowded,
}

impl Why {
    pub(super) const ALL: [Why; 13] = [
        Why::Handshake,
        Why::Preface,
        Why::Frame,
        Why::Request,
        Why::Answer,
        Why::Write,
        Why::Flood(Flood::Asks),
        Why::Flood(Flood::Resets),
        Why::Flood(Flood::Others),
        Why::Flood(Flood::Narrow),
        Why::Flood(Flood::Requests),
        Why::Age,
        Why::Crowded,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Why::Handshake => "handshake",
            Why::Preface => "preface",
            Why::Frame => "frame",
            Why::Request => "request",
            Why::Answer => "answer",
            Why::Write => "write",
            Why::Flood(Flood::Asks) => "flood_of_asks",
            Why::Flood(Flood::Resets) => "flood_of_resets",
            Why::Flood(Flood::Others) => "flood_of_frames",
            Why::Flood(Flood::Narrow) => "narrow_window",
            Why::Flood(Flood::Requests) => "flood_of_requests",
            Why::Age => "age",
            Why::Crowded => "crowded",
        }
    }
}

/// What the parts of one connection tell. All of it is relaxed: who looks is content with a moment ago.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    turn: AtomicU32,
    owes: AtomicBool,
    done: AtomicU32,
    calls: AtomicU32,
    ends: AtomicU32,
    ready: AtomicU32,
    taken: AtomicU32,
    blocked: AtomicBool,
    written: AtomicU32,
}

impl Pulse {
    /// The number of the while in which frames are counted.
    pub(super) fn turn(&self) -> u32 {
        self.turn.load(Relaxed)
    }

    /// The frames so far.
    pub(super) fn read(&self, frames: &Frames) {
        self.owes.store(frames.owes(), Relaxed);
        self.done.store(frames.done(), Relaxed);
        self.calls.store(frames.calls(), Relaxed);
        self.ends.store(frames.ends(), Relaxed);
    }

    /// The socket took bytes, or has no room.
    pub(super) fn wrote(&self, some: bool) {
        self.blocked.store(!some, Relaxed);
        if some {
            self.written.store(self.written.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    /// An answer's body is there.
    pub(super) fn answer_ready(&self) {
        self.ready.fetch_add(1, Relaxed);
    }

    /// The peer has a window for it, or it was given up.
    pub(super) fn answer_taken(&self) {
        self.taken.fetch_add(1, Relaxed);
    }

    fn reading(&self) -> Reading {
        Reading {
            owes: self.owes.load(Relaxed),
            done: self.done.load(Relaxed),
            calls: self.calls.load(Relaxed),
            ends: self.ends.load(Relaxed),
            ready: self.ready.load(Relaxed),
            taken: self.taken.load(Relaxed),
            blocked: self.blocked.load(Relaxed),
            written: self.written.load(Relaxed),
        }
    }
}

/// The times that a connection gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// To say what it speaks.
    pub(super) preface: Duration,
    /// To move on with a frame, an answer or a write.
    pub(super) stall: Duration,
    /// To move on with requests.
    pub(super) request: Duration,
}

/// Looks after a connection; the answer is why it has to be closed.
pub(super) async fn watch(pulse: &Pulse, patience: Patience) -> Why {
    let pause = patience.stall / LOOKS;
    tokio::time::sleep(pause).await;
    if pulse.reading().done == 0 {
        return Why::Preface;
    }
    let requests = patience.request.as_millis() / pause.as_millis().max(1);
    let mut looks = Looks::new(u32::try_from(requests).unwrap_or(u32::MAX));
    loop {
        if let Some(why) = looks.look(pulse.reading()) {
            return why;
        }
        pulse.turn.fetch_add(1, Relaxed);
        tokio::time::sleep(pause).await;
    }
}

/// What a pulse says at one look.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    owes: bool,
    done: u32,
    calls: u32,
    ends: u32,
    ready: u32,
    taken: u32,
    blocked: bool,
    written: u32,
}

/// What was seen so far.
#[derive(Debug)]
struct Looks {
    requests_max: u32,
    frame: Still,
    request: Still,
    answer: Still,
    write: Still,
}

/// For how many looks something has waited while nothing of its kind moved.
#[derive(Debug, Default)]
struct Still {
    looks: u32,
    moved: u32,
}

impl Still {
    fn look(&mut self, waits: bool, moved: u32) -> u32 {
        self.looks = match (waits, self.moved == moved) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => self.looks + 1,
        };
        self.moved = moved;
        self.looks
    }
}

impl Looks {
    fn new(requests_max: u32) -> Looks {
        let [frame, request, answer, write] = <[Still; 4]>::default();
        Looks { requests_max, frame, request, answer, write }
    }

    fn look(&mut self, now: Reading) -> Option<Why> {
        // While nothing can be written nothing is read: the rest of a frame may have come long ago.
        let frame = self.frame.look(now.owes && !now.blocked, now.done);
        let request = self.request.look(now.calls != now.ends, now.ends);
        let answer = self.answer.look(now.ready != now.taken, now.taken);
        let write = self.write.look(now.blocked, now.written);
        let stalls = [
            (frame, LOOKS, Why::Frame),
            (write, LOOKS, Why::Write),
            (answer, LOOKS, Why::Answer),
            (request, self.requests_max.max(LOOKS), Why::Request),
        ];
        stalls.into_iter().find(|(looks, max, _)| looks >= max).map(|(.., why)| why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of the look, counted from 1, at which a connection is given up.
    fn closed_at(reading: impl Fn(u32) -> Reading) -> Option<(u32, Why)> {
        let mut looks = Looks::new(10);
        (1..100).find_map(|number| Some((number, looks.look(reading(number))?)))
    }

    #[test]
    fn what_stands_still_is_given_up() {
        let idle = Reading { done: 5, calls: 4, ends: 4, ready: 3, taken: 3, ..Reading::default() };
        let frame = Reading { owes: true, ..idle };
        let write = Reading { blocked: true, ..idle };
        let both = Reading { owes: true, ..write };
        let answer = Reading { ready: 4, ..idle };
        let request = Reading { calls: 5, ..idle };
        for (what, reading, expected) in [
            ("an idle one", idle, None),
            ("half a frame", frame, Some((3, Why::Frame))),
            ("a full socket", write, Some((3, Why::Write))),
            ("a full socket, and half a frame", both, Some((3, Why::Write))),
            ("no window", answer, Some((3, Why::Answer))),
            ("no end of a request", request, Some((10, Why::Request))),
        ] {
            assert_eq!(closed_at(|_| reading), expected, "{what}");
        }
    }

    #[test]
    fn what_moves_or_stood_only_for_a_moment_is_not() {
        let busy = |n| Reading {
            owes: true,
            done: n,
            calls: n + 7,
            ends: n,
            ready: n + 7,
            taken: n,
            blocked: true,
            written: n,
        };
        assert_eq!(closed_at(busy), None, "much under way");
        // It stood at two looks of three.
        let now_and_then = |n| Reading { owes: n % 3 != 0, ..Reading::default() };
        assert_eq!(closed_at(now_and_then), None, "now and then");
        // It began to stand at the 20th.
        let late = |n: u32| Reading { owes: true, done: n.min(20), ..Reading::default() };
        assert_eq!(closed_at(late), Some((22, Why::Frame)));
    }
}
