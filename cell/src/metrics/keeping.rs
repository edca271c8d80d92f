//! What is counted of how buckets change hands.

use runtime::metric::{Counter, Counters, Metrics};

/// What can stand in the way of a take-over: a store, counts that do not add up, or a mistake of ours.
const IN_THE_WAY: [&str; 4] = ["redis", "postgres", "counts", "defect"];

#[derive(Debug)]
pub(super) struct Keeping {
    pub(super) handed_over: Counter,
    pub(super) elsewhere: Counter,
    pub(super) failed: Vec<(&'static str, Counter)>,
}

impl Keeping {
    pub(super) fn new(metrics: &Metrics) -> Keeping {
        let failed = Counters::new(
            metrics,
            "floodgate_cell_take_overs_failed_total",
            "Tries to take a bucket over that failed, by what stood in the way",
        );
        Keeping {
            handed_over: Counter::new(
                metrics,
                "floodgate_cell_handed_over_total",
                "Buckets that were handed over in good order",
                &[],
            ),
            elsewhere: Counter::new(
                metrics,
                "floodgate_cell_elsewhere_total",
                "Calls that were told which other process keeps their bucket",
                &[],
            ),
            failed: IN_THE_WAY.map(|why| (why, failed.with(&[("why", why)]))).into(),
        }
    }
}
