//! Health: whether a process is asked at all, decided purely from what became of the calls that it was asked.
//!
//! A process is taken out when, within one window, enough calls failed and more than were answered, or none was answered
//! for a while; a refusal is an answer. It is probed after a time that doubles with every time that it was taken out, and comes back when it answers.
//! Only a part of a cell's processes may be out: when most seem to fail it is rather us, or there is nobody better.

use proto::limits::{
    EJECT_FAILURES_MIN, EJECT_MS, EJECT_PATIENCE_MS, EJECT_WINDOW_MS, EJECTED_PERMILLE_MAX,
};
use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module. Times are the caller's, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Health {
    window_since_ms: u64,
    answered: u32,
    failed: u32,
    answered_at_ms: u64,
    /// Until when it is asked no more; then it is probed.
    out_until_ms: Option<u64>,
    /// How often it was taken out, or failed a probe, since it was well for long.
    times: u32,
    back_since_ms: u64,
}

impl Health {
    /// It answered.
    pub(super) fn answered(&mut self, count: u32, now_ms: u64) {
        self.turn(now_ms);
        self.answered = self.answered.saturating_add(count);
        self.answered_at_ms = now_ms;
    }

    /// A call failed: its link broke, or nobody answered. Returns whether it should be taken out.
    pub(super) fn failed(&mut self, now_ms: u64) -> bool {
        self.turn(now_ms);
        self.failed = self.failed.saturating_add(1);
        let silent = now_ms.saturating_sub(self.answered_at_ms) >= EJECT_PATIENCE_MS;
        self.out_until_ms.is_none()
            && self.failed >= EJECT_FAILURES_MIN
            && (self.failed > self.answered || silent)
    }

    /// It is asked no more, or its probe failed: it is probed in so many milliseconds. `jitter` spreads that, from 0 to
    /// 1,000.
    pub(super) fn take_out(&mut self, now_ms: u64, jitter: u64) -> u64 {
        let (first_ms, longest_ms) = EJECT_MS;
        if self.out_until_ms.is_none() && now_ms.saturating_sub(self.back_since_ms) > longest_ms {
            self.times = 0;
        }
        let base_ms = first_ms.saturating_mul(1 << self.times.min(20)).min(longest_ms);
        let pause_ms = base_ms / 2 + base_ms / 2 * jitter.min(1_000) / 1_000;
        self.times = self.times.saturating_add(1);
        self.out_until_ms = Some(now_ms.saturating_add(pause_ms));
        pause_ms
    }

    /// It answered a probe: it is asked again.
    pub(super) fn bring_back(&mut self, now_ms: u64) {
        self.out_until_ms = None;
        self.back_since_ms = now_ms;
        (self.answered, self.failed, self.window_since_ms) = (0, 0, now_ms);
    }

    /// How long until it is to be probed. None: it is not out.
    pub(super) fn probe_in_ms(&self, now_ms: u64) -> Option<u64> {
        self.out_until_ms.map(|until_ms| until_ms.saturating_sub(now_ms))
    }

    fn turn(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.window_since_ms) >= EJECT_WINDOW_MS {
            (self.answered, self.failed, self.window_since_ms) = (0, 0, now_ms);
        }
    }
}

/// A cell's processes as far as this router knows: how many, and how many of them are out.
#[derive(Debug, Default)]
pub(super) struct Siblings {
    all: AtomicUsize,
    out: AtomicUsize,
}

impl Siblings {
    /// One process more.
    pub(super) fn come(&self) {
        self.all.fetch_add(1, Ordering::Relaxed);
    }

    /// One process less.
    pub(super) fn go(&self, was_out: bool) {
        self.all.fetch_sub(1, Ordering::Relaxed);
        if was_out {
            self.back();
        }
    }

    /// Whether one more may be taken out; then it is.
    pub(super) fn take_out(&self) -> bool {
        let all = self.all.load(Ordering::Relaxed);
        let one_more = |out| may_take_out(all, out).then_some(out + 1);
        self.out.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    /// One is back.
    pub(super) fn back(&self) {
        self.out.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether one more of a cell's processes may be taken out.
fn may_take_out(all: usize, out: usize) -> bool {
    (out + 1) * 1_000 <= all * EJECTED_PERMILLE_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_more_than_it_answers_is_taken_out() {
        // At which time: so many answers, then so many failures; whether the last one takes it out.
        type Row = (&'static str, &'static [(u64, u32, u32)], bool);
        let rows: [Row; 9] = [
            ("a few failures", &[(0, 0, 4)], false),
            ("enough", &[(0, 0, 5)], true),
            ("fewer than it answered", &[(0, 100, 100)], false),
            ("more than it answered", &[(0, 100, 101)], true),
            ("a great many answers, a moment ago", &[(0, 9_999, 0), (999, 0, 9)], false),
            ("a great many answers, and then none", &[(0, 9_999, 0), (1_000, 0, 5)], true),
            ("spread over time", &[(0, 0, 4), (5_000, 0, 4), (10_000, 0, 4)], false),
            ("within one window", &[(0, 0, 2), (4_999, 0, 3)], true),
            ("answers of long ago do not count", &[(0, 1_000, 0), (5_000, 0, 5)], true),
        ];
        for (what, events, wanted) in rows {
            let mut health = Health::default();
            let mut out = false;
            for &(at_ms, answers, failures) in events {
                if answers > 0 {
                    health.answered(answers, at_ms);
                }
                (0..failures).for_each(|_| out = health.failed(at_ms));
            }
            assert_eq!(out, wanted, "{what}");
        }
    }

    #[test]
    fn each_time_it_is_out_for_longer_until_it_was_well_for_long() {
        let mut health = Health::default();
        let mut now_ms = 100_000;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            pauses.push(health.take_out(now_ms, 1_000));
            assert!(!health.failed(now_ms), "it is out already");
            assert_eq!(health.probe_in_ms(now_ms + 100), Some(pauses.last().unwrap() - 100));
            now_ms += pauses.last().unwrap();
            health.bring_back(now_ms);
            assert_eq!(health.probe_in_ms(now_ms), None);
        }
        assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(health.take_out(now_ms + 30_001, 0), 500, "well for long, and spread");
        // A probe that fails makes the next pause longer.
        assert_eq!(health.take_out(now_ms + 31_000, 1_000), 2_000);
    }

    #[test]
    fn never_more_than_a_part_of_a_cell() {
        for (all, most) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (9, 4)] {
            let siblings = Siblings::default();
            (0..all).for_each(|_| siblings.come());
            let out = (0..10).filter(|_| siblings.take_out()).count();
            assert_eq!(out, most, "of {all}");
            if out > 0 {
                siblings.back();
                assert!(siblings.take_out() && !siblings.take_out(), "of {all}");
            }
        }
        // One that is gone for good makes no room for another.
        let siblings = Siblings::default();
        (0..4).for_each(|_| siblings.come());
        assert!(siblings.take_out() && siblings.take_out());
        siblings.go(true);
        assert!(!siblings.take_out(), "one of three is out");
    }
}
