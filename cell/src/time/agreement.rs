//! Whether Postgres' clock, the monotonic clock and the wall clock agree: decided from looks, one after another.
//!
//! An answer was given some time between its question and its arrival, so a look says only that much: what a slow one
//! leaves open is no step, and a step that goes beyond it is seen in a slow one too.

use proto::limits::{CLOCK_AGREE_MS, CLOCK_STEP_MS_MAX};
use std::time::{Duration, Instant};

/// By how much a look grows less sure with every second that it is old: more than clocks drift apart.
const FADES_US_PER_S: i64 = 1_000;
/// A look that took longer than this is no sign that clocks agree.
const SLOW_US: i64 = 1_000_000;

/// An instant, by this process's clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// By the monotonic one.
    pub(crate) at: Instant,
    /// By the one on the wall, in microseconds since 1970.
    pub(crate) wall_us: i64,
}

/// One look at Postgres' clock: what it said, and between which moments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) us: i64,
    pub(crate) asked: Moment,
    pub(crate) answered: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agreement {
    Agree,
    /// They disagreed at the last look.
    Parted,
    /// They parted, and have agreed since then.
    Agreeing(Instant),
}

/// What is known of the clocks after some looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// The look that the estimate counts on from.
    seen: Look,
    first: Look,
    agreement: Agreement,
    offset_us: i64,
}

impl Look {
    fn took_us(&self) -> i64 {
        us(self.answered.at.saturating_duration_since(self.asked.at))
    }

    fn middle(&self) -> Instant {
        self.asked.at + self.answered.at.saturating_duration_since(self.asked.at) / 2
    }

    /// Postgres' clock at `at`, counted on from here.
    fn counted_on(&self, at: Instant) -> i64 {
        let ahead = us(at.saturating_duration_since(self.middle()));
        let behind = us(self.middle().saturating_duration_since(at));
        self.us.saturating_add(ahead).saturating_sub(behind)
    }

    /// How far the answer lies outside the time on the wall in which it was given.
    fn apart_us(&self) -> i64 {
        let (from, to) = (self.asked.wall_us, self.answered.wall_us);
        (self.us - from.max(to)).max(from.min(to) - self.us).max(0)
    }
}

impl Standing {
    /// Postgres' clock at `at`.
    pub(crate) fn now_us(&self, at: Instant) -> i64 {
        self.seen.counted_on(at)
    }

    /// Postgres' clock at `at` had it never been set since the first look.
    pub(crate) fn steady_us(&self, at: Instant) -> i64 {
        self.first.counted_on(at)
    }

    /// Whether the clocks agree, and have for long enough.
    pub(crate) fn is_sure(&self) -> bool {
        self.agreement == Agreement::Agree
    }

    /// How far Postgres' clock was ahead of the wall's at the last look.
    pub(crate) fn offset_us(&self) -> i64 {
        self.offset_us
    }
}

/// What is known after one more look.
pub(crate) fn after(before: Option<&Standing>, look: &Look) -> Standing {
    let limit_us = us(Duration::from_millis(CLOCK_STEP_MS_MAX));
    let offset_us = look.us - i64::midpoint(look.asked.wall_us, look.answered.wall_us);
    let is_apart = look.apart_us() > limit_us;
    let Some(before) = before else {
        let agreement = if is_apart { Agreement::Parted } else { Agreement::Agree };
        return Standing { seen: *look, first: *look, agreement, offset_us };
    };
    let seen = before.seen;
    let age_us = us(look.middle().saturating_duration_since(seen.middle()));
    let faded_us = age_us / 1_000_000 * FADES_US_PER_S;
    let unsure_us = look.took_us() / 2 + seen.took_us() / 2 + faded_us;
    let beyond_us = (look.us - seen.counted_on(look.middle())).abs() - unsure_us;
    let agrees = beyond_us <= limit_us && !is_apart;
    let agreement = match before.agreement {
        _ if !agrees => Agreement::Parted,
        Agreement::Agree => Agreement::Agree,
        parted if look.took_us() > SLOW_US => parted,
        Agreement::Parted => Agreement::Agreeing(look.middle()),
        Agreement::Agreeing(since) => {
            let agreed = look.middle().saturating_duration_since(since);
            let is_enough = agreed >= Duration::from_millis(CLOCK_AGREE_MS);
            if is_enough { Agreement::Agree } else { Agreement::Agreeing(since) }
        }
    };
    // A quick answer says more than a slow one of a moment ago, and one that contradicts says that the clock was set.
    let is_surer = look.took_us() <= seen.took_us() + faded_us;
    let seen = if is_surer || beyond_us > 0 { *look } else { seen };
    Standing { seen, first: before.first, agreement, offset_us }
}

fn us(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_US: i64 = 1_800_000_000_000_000;

    /// A look at `at_ms` that took `took_ms`, by a server and a wall that are ahead of the truth by so much.
    struct Seen {
        at_ms: u64,
        took_ms: u64,
        server_ms: i64,
        wall_ms: i64,
    }

    const fn seen(at_ms: u64, took_ms: u64, server_ms: i64, wall_ms: i64) -> Seen {
        Seen { at_ms, took_ms, server_ms, wall_ms }
    }

    fn ms(ms: u64) -> i64 {
        i64::try_from(ms).unwrap() * 1_000
    }

    /// Whether all is sure after each look, and how far the estimate is ahead of the truth at the end, in ms.
    fn told(base: Instant, looks: &[Seen]) -> (Vec<bool>, i64) {
        let mut standing: Option<Standing> = None;
        let mut sure = Vec::new();
        for one in looks {
            let moment = |at_ms: u64| Moment {
                at: base + Duration::from_millis(at_ms),
                wall_us: START_US + ms(at_ms) + one.wall_ms * 1_000,
            };
            // The server reads its clock right when it is asked; the answer takes its time.
            let us = START_US + ms(one.at_ms) + one.server_ms * 1_000;
            let look =
                Look { us, asked: moment(one.at_ms), answered: moment(one.at_ms + one.took_ms) };
            standing = Some(after(standing.as_ref(), &look));
            sure.push(standing.unwrap().is_sure());
        }
        let end_ms = 1_000_000;
        let at = base + Duration::from_millis(end_ms);
        let ahead_us = standing.unwrap().now_us(at) - START_US - ms(end_ms);
        (sure, ahead_us / 1_000)
    }

    #[test]
    fn a_step_stops_the_sweep_and_a_slow_answer_does_not() {
        let (yes, no) = (true, false);
        let rows: [(&str, &[Seen], &[bool], i64); 14] = [
            ("quiet", &[seen(0, 2, 0, 0), seen(300, 2, 0, 0)], &[yes, yes], -1),
            ("a slow answer", &[seen(0, 2, 0, 0), seen(300, 9_000, 0, 0)], &[yes, yes], -1),
            ("a very slow one", &[seen(0, 2, 0, 0), seen(300, 60_000, 0, 0)], &[yes, yes], -1),
            ("a slow one first", &[seen(0, 9_000, 0, 0), seen(9_300, 2, 0, 0)], &[yes, yes], -1),
            // What is less than the limit is followed, and is no reason to doubt.
            ("a small step", &[seen(0, 2, 0, 0), seen(300, 2, 3_000, 0)], &[yes, yes], 2_999),
            (
                "a small step back",
                &[seen(0, 2, 0, 0), seen(300, 2, -3_000, 0)],
                &[yes, yes],
                -3_001,
            ),
            ("a step", &[seen(0, 2, 0, 0), seen(300, 2, 9_000, 0)], &[yes, no], 8_999),
            ("a step back", &[seen(0, 2, 0, 0), seen(300, 2, -9_000, 0)], &[yes, no], -9_001),
            // The estimate follows it, less the half that it took.
            (
                "a step in a slow answer",
                &[seen(0, 2, 0, 0), seen(300, 4_000, 60_000, 0)],
                &[yes, no],
                58_000,
            ),
            ("both stepped", &[seen(0, 2, 0, 0), seen(300, 2, 9_000, 9_000)], &[yes, no], 8_999),
            ("the wall stepped", &[seen(0, 2, 0, 0), seen(300, 2, 0, 9_000)], &[yes, no], -1),
            (
                "apart from the first",
                &[seen(0, 2, 9_000, 0), seen(300, 2, 9_000, 0)],
                &[no, no],
                8_999,
            ),
            (
                "agreeing again, and what is said too slowly does not count",
                &[
                    seen(0, 2, 0, 0),
                    seen(300, 2, 9_000, 0),
                    seen(600, 2, 0, 0),
                    seen(900, 2, 0, 0),
                    seen(60_800, 2, 0, 0),
                    seen(60_890, 1_500, 0, 0),
                    seen(60_910, 2, 0, 0),
                ],
                &[yes, no, no, no, no, no, yes],
                -1,
            ),
            (
                "a step in between begins it anew",
                &[
                    seen(0, 2, 0, 0),
                    seen(300, 2, 9_000, 9_000),
                    seen(600, 2, 9_000, 9_000),
                    seen(30_000, 2, 0, 0),
                    seen(61_000, 2, 0, 0),
                    seen(120_900, 2, 0, 0),
                    seen(121_100, 2, 0, 0),
                ],
                &[yes, no, no, no, no, no, yes],
                -1,
            ),
        ];
        let base = Instant::now();
        for (what, looks, sure, ahead_ms) in rows {
            let (said, ahead) = told(base, looks);
            assert_eq!(said, sure, "{what}");
            assert!((ahead - ahead_ms).abs() <= 1, "{what}: the estimate is {ahead} ms ahead");
        }
    }

    #[test]
    fn steady_time_knows_no_steps() {
        let base = Instant::now();
        let moment = |at_ms: u64| Moment {
            at: base + Duration::from_millis(at_ms),
            wall_us: START_US + ms(at_ms),
        };
        let look = |at_ms: u64, us: i64| Look { us, asked: moment(at_ms), answered: moment(at_ms) };
        let first = after(None, &look(0, START_US));
        let second = after(Some(&first), &look(1_000, START_US + 3_600_000_000));
        assert_eq!(second.now_us(moment(2_000).at), START_US + 3_601_000_000);
        assert_eq!(second.steady_us(moment(2_000).at), START_US + 2_000_000);
    }
}
