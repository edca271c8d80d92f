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
}

impl CellTime {
    /// Time that nobody has seen yet.
    pub(crate) fn new() -> CellTime {
        CellTime(Mutex::new(None))
    }

    /// Postgres said `us` (microseconds since 1970) to a question that was asked at `asked` and took `took`.
    pub(crate) fn saw(&self, us: i64, asked: Instant, took: Duration) {
        *self.lock() = Some(Seen { us, at: asked + took / 2 });
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
