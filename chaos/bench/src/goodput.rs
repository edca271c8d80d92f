//! Goodput: how many calls a second ended well and in time, of how many that were offered. Pure.

use crate::open::{End, Made};
use crate::stats::quantile;
use std::time::Duration;

/// A point at which less of its plan was kept says nothing.
const KEPT_LEAST: f64 = 0.95;
/// Goodput after a drop is looked at in windows of this length, ...
const LOOK: Duration = Duration::from_millis(500);
/// ... so far apart.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What counts as recovered, of the peak.
const RECOVERED: f64 = 0.9;

/// What became of the calls of a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Point {
    pub(crate) planned_per_s: f64,
    /// Of these, begun when they were due.
    pub(crate) achieved_per_s: f64,
    /// Done within the deadline.
    pub(crate) good_per_s: f64,
    pub(crate) refused_per_s: f64,
    /// Neither done nor refused in time.
    pub(crate) late_per_s: f64,
    pub(crate) broken: usize,
    /// Of all that were done, in time or not.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Point {
    /// Of the calls that were planned at `per_s` and due between `from` and `until`.
    pub(crate) fn of(
        made: &[Made],
        (from, until): (Duration, Duration),
        per_s: f64,
        deadline: Duration,
    ) -> Point {
        let seconds = until.saturating_sub(from).as_secs_f64().max(f64::MIN_POSITIVE);
        let within: Vec<&Made> =
            made.iter().filter(|made| (from..until).contains(&made.due)).collect();
        let count = |which: fn(&Made) -> bool| within.iter().filter(|made| which(made)).count();
        #[expect(clippy::cast_precision_loss, reason = "a count of calls is far below 2^53")]
        let rate = |count: usize| count as f64 / seconds;
        let mut done_ms: Vec<f64> = within
            .iter()
            .filter(|made| made.end == End::Done)
            .map(|made| made.took.as_secs_f64() * 1_000.0)
            .collect();
        let good = within.iter().filter(|made| is_good(made, deadline)).count();
        Point {
            planned_per_s: per_s,
            achieved_per_s: rate(count(|made| made.kept)),
            good_per_s: rate(good),
            refused_per_s: rate(count(|made| made.end == End::Refused)),
            late_per_s: rate(count(|made| made.end == End::Late) + done_ms.len() - good),
            broken: count(|made| made.end == End::Broken),
            p50_ms: quantile(&mut done_ms, 0.5),
            p99_ms: quantile(&mut done_ms, 0.99),
        }
    }

    /// Whether the plan was kept, so that the point says something.
    pub(crate) fn counts(&self) -> bool {
        self.achieved_per_s >= KEPT_LEAST * self.planned_per_s
    }
}

/// How long after the load dropped, at `drop`, calls that were due then ended well at nearly the peak's rate; none if they
/// never did until `end`.
pub(crate) fn recovered_after(
    made: &[Made],
    (drop, end): (Duration, Duration),
    peak_per_s: f64,
    deadline: Duration,
) -> Option<Duration> {
    let mut good: Vec<Duration> =
        made.iter().filter(|made| is_good(made, deadline)).map(|made| made.due).collect();
    good.sort();
    let mut from = drop;
    while from + LOOK <= end {
        let first = good.partition_point(|due| *due < from);
        let last = good.partition_point(|due| *due < from + LOOK);
        #[expect(clippy::cast_precision_loss, reason = "a count of calls is far below 2^53")]
        let per_s = (last - first) as f64 / LOOK.as_secs_f64();
        if per_s >= RECOVERED * peak_per_s {
            return Some(from - drop);
        }
        from += LOOK_EVERY;
    }
    None
}

fn is_good(made: &Made, deadline: Duration) -> bool {
    made.end == End::Done && made.took < deadline
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(1);

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn made(due_ms: u64, took_ms: u64, end: End) -> Made {
        Made { due: ms(due_ms), kept: true, took: ms(took_ms), end }
    }

    #[test]
    fn only_what_ends_well_in_time_is_goodput() {
        let all = [
            made(0, 5, End::Done),
            made(999, 5, End::Done),
            made(1_000, 10, End::Done),
            made(1_100, 999, End::Done),
            made(1_200, 1_000, End::Done),
            made(1_300, 1, End::Refused),
            made(1_400, 2_000, End::Late),
            Made { kept: false, ..made(1_500, 1, End::Broken) },
            made(3_000, 5, End::Done),
        ];
        let point = Point::of(&all, (ms(1_000), ms(3_000)), 3.0, DEADLINE);
        let expected = Point {
            planned_per_s: 3.0,
            achieved_per_s: 2.5,
            good_per_s: 1.0,
            refused_per_s: 0.5,
            late_per_s: 1.0,
            broken: 1,
            p50_ms: 999.0,
            p99_ms: 1_000.0,
        };
        assert_eq!(point, expected);
        assert_eq!(Point::of(&[], (ms(0), ms(0)), 0.0, DEADLINE), Point::default());
    }

    #[test]
    fn a_point_counts_when_its_plan_was_kept() {
        for (achieved_per_s, counts) in [(100.0, true), (95.0, true), (94.9, false), (0.0, false)] {
            let point = Point { planned_per_s: 100.0, achieved_per_s, ..Point::default() };
            assert_eq!(point.counts(), counts, "{achieved_per_s}");
        }
    }

    #[test]
    fn recovery_is_when_calls_end_well_again() {
        // A hundred calls a second; those due until 3.7 s are refused.
        let all = |well_from: u64| -> Vec<Made> {
            (0..600)
                .map(|number| {
                    let due_ms = number * 10;
                    let end = if due_ms >= well_from { End::Done } else { End::Refused };
                    made(due_ms, 20, end)
                })
                .collect()
        };
        let rows = [
            (0, Some(ms(0))),
            (2_000, Some(ms(0))),
            // Nine tenths of a window that begins a little earlier do.
            (3_700, Some(ms(1_700))),
            (3_750, Some(ms(1_700))),
            (3_760, Some(ms(1_800))),
            (5_700, None),
        ];
        for (well_from, expected) in rows {
            let found = recovered_after(&all(well_from), (ms(2_000), ms(6_000)), 100.0, DEADLINE);
            assert_eq!(found, expected, "well from {well_from} ms");
        }
        let slow: Vec<Made> = all(0).iter().map(|one| Made { took: DEADLINE, ..*one }).collect();
        assert_eq!(recovered_after(&slow, (ms(2_000), ms(6_000)), 100.0, DEADLINE), None);
    }
}
