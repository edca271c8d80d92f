//! The cell's time: its Postgres' clock, which alone decides openings, deadlines and ends.
//!
//! Between two looks at it, a process counts on by its own monotonic clock. An estimate serves to decide early; what it
//! decides is checked by Postgres again when it is committed.
//!
//! Clocks that jump are doubted. When Postgres' clock steps against the monotonic one, or differs from this process's wall
//! clock, by more than [`CLOCK_STEP_MS_MAX`], nothing is sure until both have agreed for [`CLOCK_AGREE_MS`]: nothing
//! expires meanwhile and no bucket comes to rest, while buyers go on by Postgres' clock as it is. [`agreement`] decides.

pub(crate) mod agreement;

use agreement::{Look, Moment, Standing};
use proto::limits::{CLOCK_AGREE_MS, CLOCK_STEP_MS_MAX};
use runtime::clock::Clock;
use runtime::metric::{Gauge, Metrics};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// An estimate of Postgres' clock.
#[derive(Debug)]
pub(crate) struct CellTime {
    wall: Clock,
    standing: Mutex<Option<Standing>>,
    parted: Gauge,
    offset_ms: Gauge,
}

impl CellTime {
    /// Time that nobody has seen yet, beside a wall clock.
    pub(crate) fn new(wall: Clock, metrics: &Metrics) -> CellTime {
        CellTime {
            wall,
            standing: Mutex::new(None),
            parted: Gauge::new(
                metrics,
                "floodgate_cell_clock_parted",
                "1 while Postgres' clock is in doubt: no hold expires",
                &[],
            ),
            offset_ms: Gauge::new(
                metrics,
                "floodgate_cell_clock_offset_milliseconds",
                "How far Postgres' clock is ahead of this process's wall clock",
                &[],
            ),
        }
    }

    /// Begins a look: call it before Postgres is asked.
    pub(crate) fn ask(&self) -> Moment {
        let wall_ms = i64::try_from(self.wall.now_ms()).unwrap_or(i64::MAX);
        Moment { at: Instant::now(), wall_us: wall_ms.saturating_mul(1_000) }
    }

    /// Postgres has answered `us` (microseconds since 1970) to what was asked at `asked`.
    pub(crate) fn saw(&self, asked: Moment, us: i64) {
        let look = Look { us, asked, answered: self.ask() };
        let mut standing = self.lock();
        let before = standing.as_ref().is_none_or(Standing::is_sure);
        let after = agreement::after(standing.as_ref(), &look);
        let (is_sure, offset_us) = (after.is_sure(), after.offset_us());
        *standing = Some(after);
        drop(standing);
        self.parted.set(i64::from(!is_sure));
        self.offset_ms.set(offset_us / 1_000);
        match (before, is_sure) {
            (true, false) => tracing::error!(
                offset_ms = offset_us / 1_000,
                step_ms_max = CLOCK_STEP_MS_MAX,
                "the clocks part: nothing expires until they agree; compare Postgres' clock with this machine's"
            ),
            (false, true) => {
                tracing::info!(for_ms = CLOCK_AGREE_MS, "the clocks agree again: holds expire");
            }
            _ => {}
        }
    }

    /// Microseconds since 1970 by Postgres' clock. None before it was seen.
    pub(crate) fn now_us(&self) -> Option<i64> {
        self.lock().as_ref().map(|standing| standing.now_us(Instant::now()))
    }

    /// As [`CellTime::now_us`], but never stepping: it counts on from the first look by the monotonic clock alone.
    pub(crate) fn steady_us(&self) -> Option<i64> {
        self.lock().as_ref().map(|standing| standing.steady_us(Instant::now()))
    }

    /// Whether Postgres' clock may be believed that something is over.
    pub(crate) fn is_sure(&self) -> bool {
        self.lock().as_ref().is_some_and(Standing::is_sure)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Standing>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const START_MS: u64 = 1_800_000_000_000;

    #[test]
    fn it_says_when_the_clocks_part_and_goes_on_telling_the_time() {
        let (wall, metrics) = (Clock::fixed(START_MS), Metrics::new("test", "0").unwrap());
        let time = CellTime::new(wall.clone(), &metrics);
        assert_eq!((time.now_us(), time.is_sure()), (None, false), "nobody has looked");
        let start_us = START_MS.cast_signed() * 1_000;
        time.saw(time.ask(), start_us);
        assert!(time.is_sure());
        assert!(metrics.text().unwrap().contains("floodgate_cell_clock_parted 0\n"));

        wall.advance(Duration::from_secs(10));
        time.saw(time.ask(), start_us);
        assert!(!time.is_sure());
        let text = metrics.text().unwrap();
        assert!(text.contains("floodgate_cell_clock_parted 1\n"), "{text}");
        assert!(text.contains("floodgate_cell_clock_offset_milliseconds -10000\n"), "{text}");
        for told_us in [time.now_us(), time.steady_us()] {
            let told_us = told_us.unwrap();
            assert!((start_us..start_us + 60_000_000).contains(&told_us), "{told_us}");
        }
    }
}
