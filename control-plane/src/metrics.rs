//! What the control plane counts.

use proto::invariant::Invariant;
use proto::wire::cell::SaleRecord;
use runtime::metric::{Counter, Counters, Gauge};

/// The control plane's own metrics; the server and the follower of etcd have theirs.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// 1 while this instance leads.
    pub(crate) leader: Gauge,
    /// Sales past their start whose cells are not ready.
    pub(crate) late: Gauge,
    steps: Counters,
    violations: Counter,
}

impl Metrics {
    /// Exports them.
    pub(crate) fn new(metrics: &runtime::metric::Metrics) -> Metrics {
        Metrics {
            leader: Gauge::new(
                metrics,
                "floodgate_control_leader",
                "1 while this instance moves sales along",
                &[],
            ),
            late: Gauge::new(
                metrics,
                "floodgate_control_late_sales",
                "Sales past their start that are not warm, as the leader sees them",
                &[],
            ),
            steps: Counters::new(
                metrics,
                "floodgate_control_steps_total",
                "What the leader did: cell, plan, warm, settle",
            ),
            violations: Counter::new(
                metrics,
                "floodgate_control_violations_total",
                "Promises that were found broken",
                &[("invariant", Invariant::Inv1.id())],
            ),
        }
    }

    pub(crate) fn step(&self, step: &'static str) {
        self.steps.with(&[("step", step)]).add(1);
    }

    /// Looks at INV-1 when a sale settles: its cells may not have sold more than its stock.
    pub(crate) fn check_sold(&self, sale: &SaleRecord) {
        if sale.sold > sale.stock {
            let (org, sale, sold, stock) = (&sale.org, &sale.sale, sale.sold, sale.stock);
            tracing::error!(org, sale, sold, stock, "INV-1 is broken: more was paid than there is");
            self.violations.add(1);
        }
    }
}
