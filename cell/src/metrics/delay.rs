//! What came late, and what was refused because it would have.

use proto::fault::{Fault, Reason};
use runtime::metric::{Counter, Counters, Histogram, LATENCY_BOUNDS_S, Metrics};
use std::time::Duration;

/// Delays of a cell process.
#[derive(Debug)]
pub(crate) struct Delays {
    expired_late_s: Histogram,
    refused_closed: Counter,
    refused_slow: Counter,
}

impl Delays {
    pub(super) fn new(metrics: &Metrics) -> Delays {
        let refused = Counters::new(
            metrics,
            "floodgate_cell_refused_early_total",
            "Calls that would only have waited, by what for",
        );
        Delays {
            expired_late_s: Histogram::new(
                metrics,
                "floodgate_cell_expired_late_seconds",
                "How long after their time holds ended",
                LATENCY_BOUNDS_S,
                &[],
            ),
            refused_closed: refused.with(&[("for", "bucket")]),
            refused_slow: refused.with(&[("for", "postgres")]),
        }
    }

    /// A hold ended `late_us` microseconds after its deadline.
    pub(crate) fn expired(&self, late_us: i64) {
        self.expired_late_s.observe(Duration::from_micros(u64::try_from(late_us).unwrap_or(0)));
    }

    /// A call was refused because it would only have waited.
    pub(crate) fn refused(&self, fault: &Fault) {
        let counter = match fault.reason {
            Reason::BucketMoving => &self.refused_closed,
            _ => &self.refused_slow,
        };
        counter.add(1);
    }
}
