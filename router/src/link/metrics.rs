//! What a router counts of the link.

use crate::directory::ProcessEntry;
use crate::shed::Worth;
use runtime::metric::{Counter, Counters, Gauge, Gauges, Metrics};
use runtime::server::Lateness;

/// The classes whose calls are counted together.
const CLASSES: [&str; 2] = ["flash", "standard"];

/// What became of a call whose link was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It was sent again and answered.
    Answered,
    /// It was sent again, and lost or refused by us.
    Failed,
    /// Nobody was there to ask in time.
    Nobody,
    /// It is not safe, or the budget was used up.
    NotTried,
}

const REPEATS: [(Repeat, &str); 4] = [
    (Repeat::Answered, "answered"),
    (Repeat::Failed, "failed"),
    (Repeat::Nobody, "nobody"),
    (Repeat::NotTried, "not_tried"),
];

/// See the module. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct LinkMetrics {
    limit: Gauges,
    under_way: Gauges,
    out: Gauges,
    /// How late this router is itself: what is measured of others is measured through it.
    pub(super) lateness: Lateness,
    refused: [Counter; 5],
    repeats: [Counter; 4],
}

impl LinkMetrics {
    /// Counters that are exported with `metrics`, of a router that is so late itself.
    pub(crate) fn new(metrics: &Metrics, lateness: Lateness) -> LinkMetrics {
        let gauges = |name, help| Gauges::new(metrics, name, help);
        let counters = |name, help| Counters::new(metrics, name, help);
        let refused = counters(
            "floodgate_router_link_refused_total",
            "Calls that were refused because enough are under way at their process",
        );
        let repeats = counters(
            "floodgate_router_link_lost_total",
            "Calls whose link was lost, by what became of their repeat",
        );
        LinkMetrics {
            limit: gauges(
                "floodgate_router_link_limit",
                "Calls of a class that may be under way at a process",
            ),
            under_way: gauges(
                "floodgate_router_link_under_way",
                "Calls of a class that are under way at a process",
            ),
            out: gauges(
                "floodgate_router_processes_out",
                "Processes of a cell that are asked no more until they answer a probe",
            ),
            lateness,
            refused: Worth::ALL.map(|worth| refused.with(&[("worth", worth.label())])),
            repeats: REPEATS.map(|(_, label)| repeats.with(&[("repeat", label)])),
        }
    }

    /// The limit of a class at a process, and what is under way there.
    pub(super) fn levels(&self, entry: &ProcessEntry, class: &str) -> (Gauge, Gauge) {
        let process = name(entry);
        let labels = [("class", class), ("process", process.as_str())];
        // A process of this name may have been here before, and be on its way out.
        self.limit.forget(&labels);
        self.under_way.forget(&labels);
        (self.limit.with(&labels), self.under_way.with(&labels))
    }

    /// A process is gone.
    pub(super) fn forget(&self, entry: &ProcessEntry) {
        let process = name(entry);
        for class in CLASSES {
            let labels = [("class", class), ("process", process.as_str())];
            self.limit.forget(&labels);
            self.under_way.forget(&labels);
        }
    }

    /// So many more of a cell's processes are out.
    pub(super) fn out(&self, cell: &str, more: i64) {
        self.out.with(&[("cell", cell)]).add(more);
    }

    /// A call was not let in.
    pub(super) fn refused(&self, worth: Worth) {
        if let Some(counter) = self.refused.get(worth as usize) {
            counter.add(1);
        }
    }

    /// A call's link was lost.
    pub(crate) fn lost(&self, repeat: Repeat) {
        if let Some(counter) = self.repeats.get(repeat as usize) {
            counter.add(1);
        }
    }
}

fn name(entry: &ProcessEntry) -> String {
    format!("{}/{}", entry.cell, entry.process)
}
