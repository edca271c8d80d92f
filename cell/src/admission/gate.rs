//! The gate: two numbers that only rise. A ticket may reserve while `tail <= rank < cursor`.
//!
//! The cursor moves at the sale's rate, and only so far that everyone admitted could get a unit that is free; it stands
//! while nothing is free and moves on when a unit returns. A ticket that asked for more units than were free is waited
//! for only while there are so many: until then what is free is for those behind it. The tail follows once an admitted
//! ticket has been kept for the sale's keeping time, whose clock stands while nothing is free, so that nobody's turn
//! passes in vain.
//!
//! A step is proposed here, committed by the caller, and only then taken. Proposing one does not walk the line: it takes
//! as long as a ticket may ask for different numbers of units.

use proto::limits::STANDARD_TICKETS_KEPT;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

/// When a ticket that was left unmet may ask again: the shortest time and the longest, and how much longer for each other
/// one. What comes back is kept for them, so a few ask soon; many do so no more often than once a second.
const UNMET_MS: (u32, u32) = (300, 1_000);
const UNMET_MS_A_TICKET: u32 = 20;

/// How fast a gate may move now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Tickets of this bucket per 1000 s.
    pub(crate) per_1000_s: u64,
    /// How far ahead of its rate it may run, in microseconds of that rate.
    pub(crate) burst_us: i64,
    /// How long an admitted ticket is kept.
    pub(crate) keeping_us: i64,
}

/// Where the gate goes next, to be committed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) tail: u64,
    pub(crate) cursor: u64,
    /// Up to here the rate is used up, in microseconds since 1970.
    pub(crate) used_us: i64,
}

/// What those who are still to be served ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Units: one for each ticket that may yet come, and what a ticket asked for that was left unmet.
    pub(crate) units: u64,
    /// The fewest that would serve anybody; 0 when nobody waits.
    pub(crate) least: u32,
}

/// A bucket's gate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    tail: u64,
    cursor: u64,
    used_us: i64,
    /// Everybody is admitted at once and for good, so nobody is waited for.
    always_open: bool,
    /// Time during which something was free, and the instant up to which it was counted.
    kept_us: i64,
    counted_us: i64,
    /// How far the cursor was at which kept time.
    marks: VecDeque<(i64, u64)>,
    /// Admitted ranks whose tickets are spent, without ghosts.
    spent: BTreeSet<u64>,
    /// Admitted ranks whose tickets asked for more units than were free, and how many; without ghosts.
    unmet: BTreeMap<u64, u32>,
    /// How many of these asked for how many units.
    wanted: BTreeMap<u32, u64>,
    /// Ranks that were committed before a take-over and perhaps never given to anybody.
    ghosts: Range<u64>,
}

impl Gate {
    /// The gate as it was committed. `ghosts` are ranks that nobody may have.
    pub(crate) fn new(step: Step, spent: &[u64], ghosts: Range<u64>) -> Gate {
        let mut gate = Gate {
            tail: step.tail,
            cursor: step.cursor,
            used_us: step.used_us,
            // What was admitted before is kept for the whole keeping time again.
            marks: VecDeque::from([(0, step.cursor)]),
            ghosts,
            ..Gate::default()
        };
        gate.spent = spent.iter().copied().filter(|rank| gate.is_waited_for(*rank)).collect();
        gate
    }

    /// The gate of a sale that admits everybody at once, until so many have come later that a take-over would have to read
    /// the past. It remembers nothing of anybody.
    pub(crate) fn always_open(step: Step) -> Gate {
        let Step { tail, cursor, used_us } = step;
        Gate { tail, cursor, used_us, always_open: true, ..Gate::default() }
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
        if self.is_waited_for(rank) {
            if let Some(units) = self.unmet.remove(&rank) {
                self.want_less(units);
            }
            self.spent.insert(rank);
        }
    }

    /// A ticket asked for `units` and fewer were free. It stays good, and should ask again after the returned time, in
    /// milliseconds.
    pub(crate) fn leave_unmet(&mut self, rank: u64, units: u32) -> u32 {
        if self.is_waited_for(rank) && !self.spent.contains(&rank) {
            if let Some(before) = self.unmet.insert(rank, units) {
                self.want_less(before);
            }
            *self.wanted.entry(units).or_default() += 1;
        }
        let others = u32::try_from(self.unmet.len()).unwrap_or(u32::MAX).saturating_sub(1);
        let longer_ms = others.saturating_mul(UNMET_MS_A_TICKET);
        UNMET_MS.0.saturating_add(longer_ms).min(UNMET_MS.1)
    }

    /// Whether the ticket of this rank was admitted and may be expected to come.
    fn is_waited_for(&self, rank: u64) -> bool {
        !self.always_open
            && (self.tail..self.cursor).contains(&rank)
            && !self.ghosts.contains(&rank)
    }

    fn want_less(&mut self, units: u32) {
        if let Some(tickets) = self.wanted.get_mut(&units) {
            *tickets -= 1;
            if *tickets == 0 {
                self.wanted.remove(&units);
            }
        }
    }

    /// Admitted tickets that have not been heard of and may still come.
    fn silent(&self) -> u64 {
        let ghosts = self.ghosts_among(self.tail..self.cursor);
        let heard_of = ghosts + self.spent.len() as u64 + self.unmet.len() as u64;
        (self.cursor - self.tail).saturating_sub(heard_of)
    }

    fn ghosts_among(&self, ranks: Range<u64>) -> u64 {
        let Range { start, end } = self.ghosts;
        end.min(ranks.end).saturating_sub(start.max(ranks.start))
    }

    /// What the line still asks for, with ranks given out up to `joined`.
    pub(crate) fn wanted(&self, joined: u64) -> Wanted {
        if self.always_open {
            return Wanted::default();
        }
        let waiting = joined.saturating_sub(self.cursor);
        let waiting = waiting.saturating_sub(self.ghosts_among(self.cursor..joined));
        let ones = self.silent() + waiting;
        let unmet: u64 =
            self.wanted.iter().map(|(units, tickets)| u64::from(*units) * tickets).sum();
        let least = self.wanted.keys().next().copied().unwrap_or(0);
        Wanted { units: ones + unmet, least: if ones > 0 { 1 } else { least } }
    }

    /// Of `free` units, how many admitted tickets may still come and ask for: one each, and what they want of those that
    /// were left unmet, where it is to be had.
    fn outstanding(&self, free: u32) -> u64 {
        let silent = self.silent();
        let mut left = u64::from(free);
        for (&units, &tickets) in &self.wanted {
            let units = u64::from(units.max(1));
            if units > left {
                break;
            }
            left -= tickets.min(left / units) * units;
        }
        silent + u64::from(free) - left
    }

    /// Where to go at `now_us` with `free` units and ranks given out up to `joined`. None: stay.
    pub(crate) fn plan(
        &mut self,
        now_us: i64,
        free: u32,
        joined: u64,
        pace: &Pace,
    ) -> Option<Step> {
        if self.always_open {
            let tail = self.tail.max(joined.saturating_sub(STANDARD_TICKETS_KEPT));
            let step = Step { tail, cursor: joined, used_us: self.used_us };
            return (joined > self.cursor).then_some(step);
        }
        if self.counted_us > 0 && free > 0 {
            self.kept_us += (now_us - self.counted_us).max(0);
        }
        self.counted_us = now_us;

        let expired =
            self.marks.iter().take_while(|(kept_us, _)| kept_us + pace.keeping_us <= self.kept_us);
        let tail = expired.last().map_or(self.tail, |(_, cursor)| (*cursor).max(self.tail));

        // What lies ahead of now was used up by a clock that has been set back since: it counts as used up until now.
        self.used_us = self.used_us.min(now_us);
        let used_us = self.used_us.max(now_us - pace.burst_us);
        let rate = u128::from(pace.per_1000_s.max(1));
        let elapsed_us = u128::try_from(now_us - used_us).unwrap_or(0);
        let allowed = u64::try_from(elapsed_us * rate / 1_000_000_000).unwrap_or(u64::MAX);
        let useful = u64::from(free).saturating_sub(self.outstanding(free));
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
        if step.cursor > self.cursor && !self.always_open {
            self.marks.push_back((self.kept_us, step.cursor));
        }
        while self.marks.front().is_some_and(|(_, cursor)| *cursor <= step.tail) {
            self.marks.pop_front();
        }
        self.tail = step.tail;
        self.cursor = step.cursor;
        self.used_us = step.used_us;
        // One by one: to split the sets would count all that stays.
        while self.spent.first().is_some_and(|rank| *rank < step.tail) {
            self.spent.pop_first();
        }
        while let Some(first) = self.unmet.first_entry()
            && *first.key() < step.tail
        {
            let units = first.remove();
            self.want_less(units);
        }
    }
}

#[cfg(test)]
mod tests;
