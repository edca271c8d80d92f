//! When a waiting buyer should ask again: a pure function of where they stand.
//!
//! - Whoever is admitted in the meantime hears of it within a third of the sale's keeping time, so that no turn passes
//!   because its buyer was told to sleep.
//! - The nearer the turn, the sooner. A line that moves fast says when the turn comes. In any other the place stands in
//!   for it: a unit can come back at any moment, and whoever is next should not sleep then because the line was slow
//!   before, nor should a long line ask as one each second.
//! - Whoever has as many others before them as there are units left cannot be next, and asks less often.
//! - Never at the same moment as everybody else.

/// The shortest time, and the longest.
const PAUSE_MS: (u64, u64) = (300, 60_000);
/// The longest time as a part of the keeping time.
const KEEPING_PARTS: u64 = 3;
/// For the first in line: how much longer than the shortest time for each place.
const FIRST_MS_A_PLACE: u64 = 30;
/// For those behind them: how long, and how much longer for each place. A hundred places a second.
const LATER_MS: u64 = 1_000;
/// See [`LATER_MS`].
const LATER_MS_A_PLACE: u64 = 10;
/// How many times longer it takes who cannot be next.
const BEYOND_TIMES: u64 = 4;

/// Where a waiting ticket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    /// Tickets before it.
    pub(super) place: u64,
    /// How long it will take by the line's speed. None: the line stands still.
    pub(super) estimate_ms: Option<u64>,
    /// Units of the whole sale that nobody has paid for.
    pub(super) left: u64,
    /// 0 once the sale has begun.
    pub(super) until_start_ms: u64,
    /// How long an admitted ticket is kept.
    pub(super) keeping_ms: u64,
}

impl Wait {
    /// The time after which to ask again, in milliseconds. `jitter` spreads it, from 0 to 1,000.
    pub(super) fn ask_again_ms(self, jitter: u64) -> u64 {
        let most_ms = (self.keeping_ms / KEEPING_PARTS).clamp(PAUSE_MS.0, PAUSE_MS.1);
        let by_place_ms = |least_ms: u64, a_place_ms| {
            least_ms.saturating_add(self.place.saturating_mul(a_place_ms))
        };
        let first_ms = by_place_ms(PAUSE_MS.0, FIRST_MS_A_PLACE);
        let place_ms = first_ms.min(by_place_ms(LATER_MS, LATER_MS_A_PLACE));
        let times = if self.place < self.left { 1 } else { BEYOND_TIMES };
        let place_ms = place_ms.saturating_mul(times);
        let turn_ms = self.estimate_ms.map_or(place_ms, |ms| place_ms.min(ms / 2));
        // Nobody is admitted before the start.
        let after_start_ms = spread(turn_ms, most_ms, jitter);
        let whole_ms = self.until_start_ms.saturating_add(after_start_ms);
        if whole_ms > PAUSE_MS.1 { spread(PAUSE_MS.1, PAUSE_MS.1, jitter) } else { whole_ms }
    }
}

/// Up to a quarter more than `base_ms`, and never more than `most_ms`.
fn spread(base_ms: u64, most_ms: u64, jitter: u64) -> u64 {
    let base_ms = base_ms.min(most_ms / 5 * 4).max(PAUSE_MS.0);
    (base_ms + base_ms / 4 * jitter.min(1_000) / 1_000).min(most_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const WAIT: Wait = Wait {
        place: 0,
        estimate_ms: None,
        left: u64::MAX,
        until_start_ms: 0,
        keeping_ms: 3_600_000,
    };

    #[test]
    fn the_table() {
        let still = |place| Wait { place, ..WAIT };
        let moves = |estimate_ms| Wait { estimate_ms: Some(estimate_ms), place: 9_999, ..WAIT };
        let next = |estimate_ms| Wait { estimate_ms: Some(estimate_ms), ..WAIT };
        let starts = |until_start_ms, place| Wait { until_start_ms, place, ..WAIT };
        let kept = |keeping_ms, wait| Wait { keeping_ms, ..wait };
        let left = |left, wait| Wait { left, ..wait };
        let rows = [
            ("next in a line that stands", still(0), 300, 375),
            ("tenth in a line that stands", still(10), 600, 750),
            ("near in a line that stands", still(50), 1_500, 1_875),
            ("farther back", still(1_000), 11_000, 13_750),
            ("next, and one unit is left", left(1, still(0)), 300, 375),
            ("second, and one unit is left", left(1, still(1)), 1_320, 1_650),
            ("near, and one unit is left", left(1, still(50)), 6_000, 7_500),
            ("the same, kept for 12 s", kept(12_000, left(1, still(50))), 3_200, 4_000),
            ("the same in a line that moves fast", left(1, moves(1_000)), 500, 625),
            ("far back", still(1_000_000), 48_000, 60_000),
            ("farther than can be counted", still(u64::MAX), 48_000, 60_000),
            ("far back, kept for 12 s", kept(12_000, still(1_000_000)), 3_200, 4_000),
            ("far back, kept for 1 s", kept(1_000, still(1_000_000)), 300, 333),
            ("the turn comes at once", moves(0), 300, 375),
            ("the turn comes in 4 s", moves(4_000), 2_000, 2_500),
            ("in a line that is slower than a hundred a second", moves(3_600_000), 48_000, 60_000),
            ("the same, kept for 12 s", kept(12_000, moves(3_600_000)), 3_200, 4_000),
            // One ticket was admitted in the last seconds; the next unit may come back now.
            ("next in a line that hardly moves", next(4_000), 300, 375),
            ("next in a line that moves fast", next(10), 300, 375),
            ("no keeping time at all", kept(0, moves(3_600_000)), 300, 300),
            ("first, 5 s before the start", starts(5_000, 0), 5_300, 5_375),
            ("in the middle, 5 s before the start", starts(5_000, 300), 9_000, 10_000),
            ("far back, kept for 12 s", kept(12_000, starts(5_000, 90_000)), 8_200, 9_000),
            ("first, an hour before the start", starts(3_600_000, 0), 48_000, 60_000),
        ];
        for (what, wait, least_ms, most_ms) in rows {
            let range = (wait.ask_again_ms(0), wait.ask_again_ms(1_000));
            assert_eq!(range, (least_ms, most_ms), "{what}");
            let middle = wait.ask_again_ms(500);
            assert!((least_ms..=most_ms).contains(&middle), "{what}: {middle}");
        }
    }

    #[test]
    fn nobody_sleeps_through_their_turn() {
        let keeping = [1_000, 2_000, 12_000, 60_000, 180_000, 3_600_000];
        let estimates = [None, Some(0), Some(1_500), Some(100_000), Some(u64::MAX)];
        for keeping_ms in keeping {
            for estimate_ms in estimates {
                for place in [0, 1, 99, 5_000, 10_000_000] {
                    for until_start_ms in [0, 1, 900, 59_000, 7_200_000] {
                        let wait = Wait { place, estimate_ms, left: 9, until_start_ms, keeping_ms };
                        let asleep_ms = wait.ask_again_ms(1_000).saturating_sub(until_start_ms);
                        assert!(asleep_ms <= keeping_ms / 3, "{wait:?}: {asleep_ms}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_long_line_that_stands_or_is_slow_asks_little() {
        let calls_per_s = |waiting: u64, slow: bool| -> f64 {
            let estimate_ms = |place| slow.then_some(place * 1_000);
            let wait = |place| Wait { place, estimate_ms: estimate_ms(place), ..WAIT };
            let pause_ms = |place| wait(place).ask_again_ms(0);
            let pause_s = |place| Duration::from_millis(pause_ms(place)).as_secs_f64();
            (0..waiting).map(|place| 1.0 / pause_s(place)).sum()
        };
        for slow in [false, true] {
            assert!(calls_per_s(100, slow) < 100.0);
            assert!(calls_per_s(1_000, slow) < 290.0);
            assert!(calls_per_s(10_000, slow) < 700.0);
            assert!(calls_per_s(1_000_000, slow) < 21_500.0);
        }
    }
}
