//! The clock that a process reads: wall time in unix milliseconds.
//!
//! Whoever needs the time is given a [`Clock`], so that a test can set it. The wall clock may jump
//! and differs between machines: it serves display, tokens and logs. Deadlines of orders and ends
//! of sales are decided by Postgres' clock, durations are measured with [`std::time::Instant`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the time. Cloning is cheap, and clones of a fixed clock move together.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Fixed(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's wall clock.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `unix_ms` until it is moved. For tests.
    pub fn fixed(unix_ms: u64) -> Self {
        Self(Source::Fixed(Arc::new(AtomicU64::new(unix_ms))))
    }

    /// Milliseconds since 1970-01-01 UTC; 0 if the machine believes it is earlier.
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            Source::System => since_epoch_ms(wall()),
            Source::Fixed(ms) => ms.load(Ordering::Relaxed),
        }
    }

    /// The same instant as a `SystemTime`.
    pub fn now(&self) -> SystemTime {
        match &self.0 {
            Source::System => wall(),
            Source::Fixed(ms) => UNIX_EPOCH + Duration::from_millis(ms.load(Ordering::Relaxed)),
        }
    }

    /// Moves a fixed clock forward. The system's clock cannot be moved and stays as it is.
    pub fn advance(&self, by: Duration) {
        if let Source::Fixed(ms) = &self.0 {
            ms.fetch_add(whole_ms(by), Ordering::Relaxed);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn wall() -> SystemTime {
    SystemTime::now()
}

fn since_epoch_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, whole_ms)
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_clock_moves_only_when_told_and_with_its_clones() {
        let clock = Clock::fixed(1_700_000_000_000);
        let clone = clock.clone();
        clock.advance(Duration::from_millis(1_500));
        assert_eq!(clone.now_ms(), 1_700_000_001_500);
        assert_eq!(since_epoch_ms(clone.now()), 1_700_000_001_500);
    }

    #[test]
    fn the_system_clock_is_past_2024_and_cannot_be_advanced() {
        let clock = Clock::system();
        let before = clock.now_ms();
        clock.advance(Duration::from_secs(3_600));
        let after = clock.now_ms();
        assert!(before > 1_704_067_200_000, "{before}");
        assert!(after - before < 3_600_000, "the clock jumped from {before} to {after}");
    }
}
