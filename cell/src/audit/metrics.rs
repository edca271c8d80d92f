//! What the audit counts.

use super::difference::Difference;
use proto::invariant::Invariant;
use runtime::metric::{Counter, Gauge, Gauges, Metrics};

/// The promises that the audit can see broken.
const AUDITED: [Invariant; 5] =
    [Invariant::Inv1, Invariant::Inv2, Invariant::Inv3, Invariant::Inv6, Invariant::Inv8];

/// The numbers of a process's audit.
#[derive(Debug)]
pub(crate) struct AuditMetrics {
    differences: Vec<(Invariant, Gauge)>,
    rows: Counter,
    heads: Counter,
    lag: Gauge,
    replaying: Gauge,
}

impl AuditMetrics {
    /// Numbers that are exported with `metrics`.
    pub(crate) fn new(metrics: &Metrics) -> AuditMetrics {
        let differences = Gauges::new(
            metrics,
            "floodgate_audit_differences",
            "Differences between ledger, tables and Redis in the buckets that are audited here; must be 0",
        );
        let gauge = |name, help| Gauge::new(metrics, name, help, &[]);
        let counter = |name, help| Counter::new(metrics, name, help, &[]);
        AuditMetrics {
            differences: AUDITED
                .iter()
                .map(|&inv| (inv, differences.with(&[("invariant", inv.id())])))
                .collect(),
            rows: counter("floodgate_audit_rows_total", "Rows of ledgers that were audited"),
            heads: counter("floodgate_audit_heads_total", "Heads of ledgers that were signed"),
            lag: gauge("floodgate_audit_lag_rows", "Rows of ledgers that are still to be audited"),
            replaying: gauge(
                "floodgate_audit_replaying_buckets",
                "Buckets whose ledger has not been replayed to its end yet",
            ),
        }
    }

    pub(super) fn found(&self, difference: &Difference) {
        self.differences_by(difference.invariant, 1);
    }

    /// The bucket in which it was found is not audited here any more.
    pub(super) fn left(&self, invariant: Invariant) {
        self.differences_by(invariant, -1);
    }

    fn differences_by(&self, invariant: Invariant, by: i64) {
        let gauge = self.differences.iter().find(|(known, _)| *known == invariant);
        if let Some((_, gauge)) = gauge {
            gauge.add(by);
        }
    }

    pub(super) fn rows(&self, count: u64) {
        self.rows.add(count);
    }

    pub(super) fn signed(&self) {
        self.heads.add(1);
    }

    pub(super) fn lag(&self, rows: u64, replaying: usize) {
        self.lag.set(i64::try_from(rows).unwrap_or(i64::MAX));
        self.replaying.set(i64::try_from(replaying).unwrap_or(i64::MAX));
    }
}
