//! Pace: how many calls of one class may be under way at one process, decided purely from how long round trips take.
//!
//! The limit is looked at in windows. When more than half of a window's answers came later than is fine, or none came
//! for as long, there are more calls under way than the process is worth: the limit falls to what was answered in the
//! time of a fine round trip (Little's law), but by no more than half in a window. When they came in time and the limit
//! was used, it rises: little at first, for what a rise does is seen only a round trip later, and by half from the
//! fourth window on. So it falls from its most to its least, and rises back, within two seconds.
//!
//! What is fine is measured: a multiple of the least round trip that was seen, within bounds. The least is forgotten
//! only while there is room, for under load even the fastest answer waits. A call waits for its turn in this router
//! before it is sent, and its answer before it is heard; how long that takes says nothing about the process, so twice
//! that is fine besides. Without it a router that is short of processor time would let through next to nothing.

use proto::limits::{
    LINK_LATE_MS_MAX, LINK_LEAST_MS, LINK_ROUND_TRIP_MS, LINK_ROUND_TRIP_TIMES, LINK_UNDER_WAY,
    LINK_WINDOW_MS,
};

const WINDOW_US: u64 = LINK_WINDOW_MS * 1_000;
const FINE_US: (u64, u64) = (LINK_ROUND_TRIP_MS.0 * 1_000, LINK_ROUND_TRIP_MS.1 * 1_000);

/// The part of the limit by which it rises first after it fell, and at most: as powers of a half.
const RISE: (u32, u32) = (4, 1);

/// What was seen of some answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) answers: u64,
    /// Those that came later than is fine.
    pub(super) slow: u64,
    /// The fastest one's round trip.
    pub(super) least_us: u64,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen { answers: 0, slow: 0, least_us: u64::MAX }
    }
}

impl Seen {
    /// One more answer.
    pub(super) fn add(&mut self, round_trip_us: u64, fine_us: u64) {
        self.answers += 1;
        self.slow += u64::from(round_trip_us > fine_us);
        self.least_us = self.least_us.min(round_trip_us);
    }

    fn merge(&mut self, other: Seen) {
        self.answers += other.answers;
        self.slow += other.slow;
        self.least_us = self.least_us.min(other.least_us);
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    limit: u32,
    /// By which part of it it rises next: a power of a half.
    rise: u32,
    /// The least round trip of this time and of the time before.
    least_us: [u64; 2],
    least_since_us: u64,
    window_since_us: u64,
    window: Seen,
    /// The most that were under way in this window.
    peak: u32,
    /// How many were under way when it began.
    first: u32,
    /// For how long there were calls under way and no answers.
    silent_us: u64,
    /// How late we are ourselves.
    late_us: u64,
}

impl Pace {
    /// Nothing was seen yet.
    pub(super) fn new(now_us: u64) -> Pace {
        Pace {
            limit: LINK_UNDER_WAY.1,
            rise: RISE.1,
            least_us: [u64::MAX; 2],
            least_since_us: now_us,
            window_since_us: now_us,
            window: Seen::default(),
            peak: 0,
            first: 0,
            silent_us: 0,
            late_us: 0,
        }
    }

    /// How many may be under way.
    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// Up to what a round trip is fine: as long as may be while nothing was seen.
    pub(super) fn fine_us(&self) -> u64 {
        let least_us = self.least_us[0].min(self.least_us[1]);
        least_us.saturating_mul(LINK_ROUND_TRIP_TIMES).clamp(FINE_US.0, FINE_US.1)
            + 2 * self.late_us
    }

    /// So long calls and answers wait for their turn in this router.
    pub(super) fn late(&mut self, late_us: u64) {
        self.late_us = late_us.min(LINK_LATE_MS_MAX * 1_000);
    }

    /// When this window ends.
    pub(super) fn ends_us(&self) -> u64 {
        self.window_since_us + WINDOW_US
    }

    /// Answers came, or it is time to look; so many calls are under way now.
    pub(super) fn see(&mut self, seen: Seen, under_way: u32, now_us: u64) {
        self.window.merge(seen);
        self.least_us[0] = self.least_us[0].min(seen.least_us);
        let before = under_way.saturating_add(u32::try_from(seen.answers).unwrap_or(u32::MAX));
        self.peak = self.peak.max(before);
        if now_us >= self.ends_us() {
            self.close(under_way, now_us);
        }
    }

    fn close(&mut self, under_way: u32, now_us: u64) {
        let took_us = now_us - self.window_since_us;
        let Seen { answers, slow, .. } = self.window;
        let silent = answers == 0 && self.first > 0;
        self.silent_us = if silent { self.silent_us + took_us } else { 0 };
        if slow * 2 > answers || self.silent_us >= self.fine_us() {
            let worth = answers * self.fine_us() / took_us.max(1);
            let worth = u32::try_from(worth).unwrap_or(u32::MAX);
            self.limit = (self.limit / 2).max(worth).clamp(LINK_UNDER_WAY.0, self.limit);
            self.rise = RISE.0;
        } else if answers > 0 && self.peak >= self.limit / 2 {
            let more = (self.limit >> self.rise) + LINK_UNDER_WAY.0;
            self.limit = (self.limit + more).min(LINK_UNDER_WAY.2);
            self.rise = RISE.1.max(self.rise - 1);
        } else if now_us - self.least_since_us >= LINK_LEAST_MS * 1_000 {
            self.least_us = [u64::MAX, self.least_us[0]];
            self.least_since_us = now_us;
        }
        self.window = Seen::default();
        self.window_since_us = now_us;
        (self.first, self.peak) = (under_way, under_way);
    }
}

#[cfg(test)]
mod tests;
