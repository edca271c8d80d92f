//! Times and durations as messages, and as the milliseconds in which decisions are written.
//!
//! What is finer than a millisecond is cut off. Times before 1970 are refused: 0 means "none" in records.

use prost_types::{Duration, Timestamp};

const NANOS_PER_MS: i32 = 1_000_000;
const NANOS_PER_S: i32 = 1_000_000_000;

/// Unix milliseconds.
pub(crate) fn unix_ms(time: &Timestamp) -> Option<u64> {
    if !(0..NANOS_PER_S).contains(&time.nanos) {
        return None;
    }
    millis(time.seconds, time.nanos).filter(|ms| *ms > 0)
}

/// Milliseconds of a duration that is not negative.
pub(super) fn duration_ms(duration: &Duration) -> Option<u64> {
    if !(0..NANOS_PER_S).contains(&duration.nanos) {
        return None;
    }
    millis(duration.seconds, duration.nanos)
}

fn millis(seconds: i64, nanos: i32) -> Option<u64> {
    let ms = u64::try_from(nanos / NANOS_PER_MS).ok()?;
    u64::try_from(seconds).ok()?.checked_mul(1_000)?.checked_add(ms)
}

/// A time from unix milliseconds.
pub(crate) fn timestamp(unix_ms: u64) -> Timestamp {
    let (seconds, nanos) = parts(unix_ms);
    Timestamp { seconds, nanos }
}

/// A duration from milliseconds.
pub(super) fn duration(ms: u64) -> Duration {
    let (seconds, nanos) = parts(ms);
    Duration { seconds, nanos }
}

fn parts(ms: u64) -> (i64, i32) {
    let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
    let rest = i32::try_from(ms % 1_000).unwrap_or(0);
    (seconds, rest * NANOS_PER_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let read = |seconds, nanos| unix_ms(&Timestamp { seconds, nanos });
        assert_eq!(read(1, 2_999_999), Some(1_002));
        assert_eq!(read(0, 0), None);
        assert_eq!(read(-1, 0), None);
        assert_eq!(read(1, -1), None);
        assert_eq!(read(1, NANOS_PER_S), None);
        assert_eq!(read(i64::MAX, 0), None);
        assert_eq!(unix_ms(&timestamp(1_795_000_000_123)), Some(1_795_000_000_123));
    }

    #[test]
    fn durations() {
        let read = |seconds, nanos| duration_ms(&Duration { seconds, nanos });
        assert_eq!(read(0, 0), Some(0));
        assert_eq!(read(90, 500_000_000), Some(90_500));
        assert_eq!(read(-1, 0), None);
        assert_eq!(read(0, -1), None);
        assert_eq!(read(i64::MAX, 0), None);
        assert_eq!(duration_ms(&duration(1_500)), Some(1_500));
    }
}
