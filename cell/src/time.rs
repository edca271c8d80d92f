//! The cell's time: its Postgres' clock, which alone decides openings, deadlines and ends.
//!
//! Between two looks at it, a process counts on by its own monotonic clock. An estimate serves to decide early; what it
//! decides is checked by Postgres again when it is committed.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// An estimate of Postgres' clock.
#[derive(Debug)]
pub(crate) struct CellTime(Mutex<Option<Seen>>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    us: i64,
    at: Instant,
    took: Duration,
}

/// By how much a look grows less sure with every second that it is old: more than clocks drift apart.
const FADES_PER_S: Duration = Duration::from_millis(1);

impl CellTime {
    /// Time that nobody has seen yet.
    pub(crate) fn new() -> CellTime {
        CellTime(Mutex::new(None))
    }

    /// Postgres said `us` (microseconds since 1970) to a question that was asked at `asked` and took `took`. A slow answer
    /// says less than a quick one of a moment ago.
    pub(crate) fn saw(&self, us: i64, asked: Instant, took: Duration) {
        let mut seen = self.lock();
        let is_surer = seen.is_none_or(|seen| {
            let age_s = u32::try_from(seen.at.elapsed().as_secs()).unwrap_or(u32::MAX);
            took <= seen.took.saturating_add(FADES_PER_S.saturating_mul(age_s))
        });
        if is_surer {
            *seen = Some(Seen { us, at: asked + took / 2, took });
        }
    }

    /// Microseconds since 1970 by Postgres' clock. None before it was seen.
    pub(crate) fn now_us(&self) -> Option<i64> {
        let seen = *self.lock();
        seen.map(|seen| {
            seen.us.saturating_add(i64::try_from(seen.at.elapsed().as_micros()).unwrap_or(i64::MAX))
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Seen>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Default for CellTime {
    fn default() -> CellTime {
        CellTime::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_does_not_replace_a_quick_one() {
        let time = CellTime::new();
        assert_eq!(time.now_us(), None);
        let began = Instant::now();
        time.saw(1_000_000_000, began, Duration::from_millis(2));
        time.saw(5_000_000_000, began, Duration::from_secs(3));
        let now_us = time.now_us().unwrap();
        assert!((999_000_000..2_000_000_000).contains(&now_us), "{now_us}");
        time.saw(3_000_000_000, began, Duration::from_millis(1));
        assert!(time.now_us().unwrap() >= 2_999_000_000);
    }
}
