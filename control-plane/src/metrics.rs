//! What the control plane counts.

use proto::invariant::Invariant;
use proto::wire::cell::{BucketReport, SaleRecord};
use runtime::metric::{Counter, Counters, Gauge};

use crate::lifecycle;

/// The control plane's own metrics; the server and the follower of etcd have theirs.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// 1 while this instance leads.
    pub(crate) leader: Gauge,
    /// Sales past their start whose cells are not ready.
    pub(crate) late: Gauge,
    steps: Counters,
    violations: [Counter; 2],
}

impl Metrics {
    /// Exports them.
    pub(crate) fn new(metrics: &runtime::metric::Metrics) -> Metrics {
        let violations = |invariant: Invariant| {
            Counter::new(
                metrics,
                "floodgate_control_violations_total",
                "Promises that were found broken",
                &[("invariant", invariant.id())],
            )
        };
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
                "What the leader did: cell, plan, warm, ask, finish, settle",
            ),
            violations: [violations(Invariant::Inv1), violations(Invariant::Inv2)],
        }
    }

    pub(crate) fn step(&self, step: &'static str) {
        self.steps.with(&[("step", step)]).add(1);
    }

    /// Looks at INV-1 when a sale settles: its cells may not have sold more than its stock.
    pub(crate) fn check_sold(&self, sale: &SaleRecord) {
        let stock = sale.stock.saturating_sub(sale.surrendered);
        if sale.sold > stock {
            let (org, sale, sold) = (&sale.org, &sale.sale, sale.sold);
            tracing::error!(org, sale, sold, stock, "INV-1 is broken: more was paid than there is");
            self.violations[0].add(1);
        }
    }

    /// Looks at INV-2 when a sale settles, with no unit on its way: what its cells have is what there is.
    pub(crate) fn check_granted(&self, sale: &SaleRecord, reports: &[BucketReport]) {
        if !lifecycle::adds_up(sale, reports) {
            let granted = lifecycle::granted(sale, reports);
            let (org, stock, surrendered) = (&sale.org, sale.stock, sale.surrendered);
            let sale = &sale.sale;
            tracing::error!(
                org,
                sale,
                granted,
                stock,
                surrendered,
                "INV-2 is broken: the buckets do not add up"
            );
            self.violations[1].add(1);
        }
    }
}
