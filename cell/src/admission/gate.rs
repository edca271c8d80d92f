//! The gate: two numbers that only rise. A ticket may reserve while `tail <= rank < cursor`.
//!
//! The cursor moves at the sale's rate, and only so far that everyone admitted could get a unit that is free; it stands
//! while nothing is free and moves on when a unit returns. The tail follows once an admitted ticket has been kept for
//! the sale's keeping time, whose clock stands while nothing is free, so that nobody's turn passes in vain.
//!
//! A step is proposed here, committed by the caller, and only then taken.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

/// How fast a gate may move now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Tickets of this bucket per 1000 s.
    pub(crate) per_1000_s: u64,
    /// How far ahead of its rate it may run, in microseconds of that rate.
    pub(crate) burst_us: i64,
    /// How long an admitted ticket is kept.
    pub(crate) keeping_us: i64,
    /// Everybody is admitted at once and for good.
    pub(crate) always_open: bool,
}

/// Where the gate goes next, to be committed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) tail: u64,
    pub(crate) cursor: u64,
    /// Up to here the rate is used up, in microseconds since 1970.
    pub(crate) used_us: i64,
}

/// A bucket's gate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    tail: u64,
    cursor: u64,
    used_us: i64,
    /// Time during which something was free, and the instant up to which it was counted.
    kept_us: i64,
    counted_us: i64,
    /// How far the cursor was at which kept time.
    marks: VecDeque<(i64, u64)>,
    /// Ranks from the tail on whose tickets are spent.
    spent: BTreeSet<u64>,
    /// Ranks that were committed before a take-over and perhaps never given to anybody.
    ghosts: Vec<Range<u64>>,
}

impl Gate {
    /// The gate as it was committed. `ghosts` are ranks that nobody may have.
    pub(crate) fn new(step: Step, spent: &[u64], ghosts: Range<u64>) -> Gate {
        let spent = spent.iter().copied().filter(|rank| *rank >= step.tail).collect();
        Gate {
            tail: step.tail,
            cursor: step.cursor,
            used_us: step.used_us,
            // What was admitted before is kept for the whole keeping time again.
            marks: VecDeque::from([(0, step.cursor)]),
            spent,
            ghosts: vec![ghosts],
            ..Gate::default()
        }
    }

    /// A ticket with a lower rank came too late.
    pub(crate) fn tail(&self) -> u64 {
        self.tail
    }

    /// A ticket with a lower rank than this may reserve.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// A ticket was spent.
    pub(crate) fn spend(&mut self, rank: u64) {
        if rank >= self.tail {
            self.spent.insert(rank);
        }
    }

    /// Admitted tickets that may still come and ask for a unit.
    fn outstanding(&self) -> u64 {
        let admitted = self.cursor - self.tail;
        let is_ghost = |rank: &u64| self.ghosts.iter().any(|range| range.contains(rank));
        let spent = self.spent.range(..self.cursor).filter(|rank| !is_ghost(rank)).count() as u64;
        let ghosts: u64 = self
            .ghosts
            .iter()
            .map(|range| range.end.min(self.cursor).saturating_sub(range.start.max(self.tail)))
            .sum();
        admitted.saturating_sub(spent + ghosts)
    }

    /// Where to go at `now_us` with `free` units and ranks given out up to `joined`. None: stay.
    pub(crate) fn plan(
        &mut self,
        now_us: i64,
        free: u32,
        joined: u64,
        pace: &Pace,
    ) -> Option<Step> {
        if pace.always_open {
            let step = Step { tail: self.tail, cursor: joined, used_us: self.used_us };
            return (joined > self.cursor).then_some(step);
        }
        if self.counted_us > 0 && free > 0 {
            self.kept_us += (now_us - self.counted_us).max(0);
        }
        self.counted_us = now_us;

        let expired =
            self.marks.iter().take_while(|(kept_us, _)| kept_us + pace.keeping_us <= self.kept_us);
        let tail = expired.last().map_or(self.tail, |(_, cursor)| (*cursor).max(self.tail));

        let used_us = self.used_us.max(now_us - pace.burst_us);
        let rate = u128::from(pace.per_1000_s.max(1));
        let elapsed_us = u128::try_from(now_us - used_us).unwrap_or(0);
        let allowed = u64::try_from(elapsed_us * rate / 1_000_000_000).unwrap_or(u64::MAX);
        let useful = u64::from(free).saturating_sub(self.outstanding());
        let admitted = allowed.min(useful).min(joined.saturating_sub(self.cursor));
        let spent_us =
            i64::try_from(u128::from(admitted) * 1_000_000_000 / rate).unwrap_or(i64::MAX);

        let step = Step {
            tail,
            cursor: self.cursor + admitted,
            used_us: used_us.saturating_add(spent_us),
        };
        (step.tail != self.tail || step.cursor != self.cursor).then_some(step)
    }

    /// Goes where a committed step says.
    pub(crate) fn take(&mut self, step: Step) {
        if step.cursor > self.cursor {
            self.marks.push_back((self.kept_us, step.cursor));
        }
        while self.marks.front().is_some_and(|(_, cursor)| *cursor <= step.tail) {
            self.marks.pop_front();
        }
        self.tail = step.tail;
        self.cursor = step.cursor;
        self.used_us = step.used_us;
        self.spent = self.spent.split_off(&step.tail);
        self.ghosts.retain(|range| range.end > step.tail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: i64 = 1_000_000_000;
    const PACE: Pace = Pace {
        per_1000_s: 100_000,
        burst_us: 1_000_000,
        keeping_us: 2_000_000,
        always_open: false,
    };

    fn gate() -> Gate {
        Gate::new(Step { tail: 0, cursor: 0, used_us: START }, &[], 0..0)
    }

    fn tick(gate: &mut Gate, at_ms: i64, free: u32, joined: u64) -> (u64, u64) {
        if let Some(step) = gate.plan(START + at_ms * 1_000, free, joined, &PACE) {
            gate.take(step);
        }
        (gate.tail(), gate.cursor())
    }

    #[test]
    fn it_moves_at_its_rate_and_stands_when_nothing_is_free() {
        let mut gate = gate();
        assert_eq!(tick(&mut gate, 0, 1_000, 1_000), (0, 0));
        assert_eq!(tick(&mut gate, 250, 1_000, 1_000), (0, 25));
        assert_eq!(tick(&mut gate, 500, 0, 1_000), (0, 25), "nothing is free");
        assert_eq!(tick(&mut gate, 750, 26, 1_000), (0, 26), "25 may still come");
        assert_eq!(tick(&mut gate, 1_000, 1_000, 30), (0, 30), "nobody else waits");
    }

    #[test]
    fn the_tail_follows_after_the_keeping_time_in_which_something_was_free() {
        let mut gate = gate();
        tick(&mut gate, 0, 10, 100);
        assert_eq!(tick(&mut gate, 100, 10, 100), (0, 10));
        for at_ms in 2..60 {
            assert_eq!(tick(&mut gate, at_ms * 100, 0, 100).0, 0, "nothing is free");
        }
        tick(&mut gate, 7_000, 10, 100);
        assert_eq!(tick(&mut gate, 8_900, 10, 100).0, 10);
        assert_eq!(tick(&mut gate, 9_000, 10, 100), (10, 20), "others get their turn");
    }

    #[test]
    fn spent_tickets_make_room() {
        let mut gate = gate();
        tick(&mut gate, 0, 2, 100);
        assert_eq!(tick(&mut gate, 100, 2, 100), (0, 2));
        gate.spend(0);
        gate.spend(1);
        assert_eq!(tick(&mut gate, 200, 1, 100), (0, 3), "a unit returned");
    }

    #[test]
    fn ghosts_are_not_waited_for() {
        let mut gate = Gate::new(Step { tail: 0, cursor: 0, used_us: START }, &[], 0..50);
        tick(&mut gate, 0, 1, 100);
        assert_eq!(tick(&mut gate, 400, 1, 100).1, 1);
        assert_eq!(tick(&mut gate, 800, 1, 100).1, 2);
    }

    #[test]
    fn a_ghost_that_comes_all_the_same_counts_once() {
        let mut gate = Gate::new(Step { tail: 0, cursor: 10, used_us: START }, &[3], 0..5);
        assert_eq!(gate.outstanding(), 5);
        gate.spend(4);
        gate.spend(7);
        assert_eq!(gate.outstanding(), 4);
    }

    #[test]
    fn standard_sales_admit_everybody() {
        let pace = Pace { always_open: true, ..PACE };
        let mut gate = gate();
        let step = gate.plan(START, 0, 7, &pace);
        assert_eq!(step, Some(Step { tail: 0, cursor: 7, used_us: START }));
    }

    proptest! {
        // INV-12, over restarts too: a gate that begins anew from what was committed.
        #[test]
        fn it_never_admits_more_than_its_rate_and_burst(
            steps in prop::collection::vec((1_i64..2_000, 0_u32..500, 0_u64..400, prop::bool::weighted(0.1)), 1..60),
        ) {
            let mut gate = gate();
            let mut seen = vec![(0_i64, 0_u64)];
            let (mut at_ms, mut joined) = (0, 0);
            for (wait_ms, free, more, restart) in steps {
                at_ms += wait_ms;
                joined += more;
                if restart {
                    let step = Step { tail: gate.tail, cursor: gate.cursor, used_us: gate.used_us };
                    gate = Gate::new(step, &[], 0..0);
                }
                let before = gate.clone();
                tick(&mut gate, at_ms, free, joined);
                prop_assert!(gate.cursor >= before.cursor && gate.tail >= before.tail);
                prop_assert!(gate.tail <= gate.cursor && gate.cursor <= joined);
                if free == 0 {
                    prop_assert_eq!(gate.cursor, before.cursor);
                }
                seen.push((at_ms, gate.cursor));
                for (from_ms, from) in &seen {
                    let most = (at_ms - from_ms) * 100 / 1_000 + 100 + 1;
                    prop_assert!(i64::try_from(gate.cursor - from).unwrap() <= most);
                }
            }
        }
    }
}
