//! What a cell process counts: the funnel, its batches, and broken promises.

mod delay;
mod keeping;

use crate::inventory::InventoryError;
use crate::ledger::LedgerError;
use crate::link::Asked;
use delay::Delays;
use keeping::Keeping;
use proto::invariant::Invariant;
use proto::wire::events::ledger_entry::Kind;
use runtime::metric::{Counter, Counters, Histogram, LATENCY_BOUNDS_S, Metrics, SIZE_BOUNDS};
use std::time::Duration;

/// The counters of a cell process.
#[derive(Debug)]
pub(crate) struct CellMetrics {
    joins: Counter,
    reserves: Counter,
    checkouts: Counter,
    other_calls: Counter,
    admitted: Counter,
    held: Counter,
    paid: Counter,
    expired: Counter,
    cancelled: Counter,
    declined: Counter,
    reviews: Counter,
    refunded: Counter,
    refund_refused: Counter,
    unknown: Counter,
    given_back: Counter,
    given_up: Counter,
    accepted: Counter,
    broken: Vec<(Invariant, Counter)>,
    refused_late: Counters,
    frame_calls: Histogram,
    join_batch: Histogram,
    settle_batch: Histogram,
    hold_batch_s: Histogram,
    take_over_s: Histogram,
    keeping: Keeping,
    pub(crate) delays: Delays,
}

impl CellMetrics {
    /// Counters that are exported with `metrics`.
    pub(crate) fn new(metrics: &Metrics) -> CellMetrics {
        let family = |name, help| Counters::new(metrics, name, help);
        let count = |name, help| Counter::new(metrics, name, help, &[]);
        let calls = family("floodgate_cell_calls_total", "Calls that arrived over the link");
        let orders = family("floodgate_cell_orders_total", "Orders by what happened to them");
        let moved =
            family("floodgate_cell_units_moved_total", "Units that left a bucket or came to it");
        let broken = family(
            "floodgate_invariant_broken_total",
            "Times that a promise was seen broken; anything above 0 is an emergency",
        );
        let batch = |name, help| Histogram::new(metrics, name, help, SIZE_BOUNDS, &[]);
        let seconds = |name, help| Histogram::new(metrics, name, help, LATENCY_BOUNDS_S, &[]);
        CellMetrics {
            joins: calls.with(&[("call", "join")]),
            reserves: calls.with(&[("call", "reserve")]),
            checkouts: calls.with(&[("call", "checkout")]),
            other_calls: calls.with(&[("call", "other")]),
            admitted: count("floodgate_cell_admitted_total", "Tickets admitted"),
            held: orders.with(&[("event", "held")]),
            paid: orders.with(&[("event", "paid")]),
            expired: orders.with(&[("event", "expired")]),
            cancelled: orders.with(&[("event", "cancelled")]),
            declined: orders.with(&[("event", "declined")]),
            reviews: orders.with(&[("event", "review")]),
            refunded: orders.with(&[("event", "refunded")]),
            refund_refused: orders.with(&[("event", "refund_refused")]),
            unknown: count(
                "floodgate_cell_payments_unknown_total",
                "Payments whose outcome had to be looked up",
            ),
            given_back: count(
                "floodgate_cell_captures_given_back_total",
                "Captures that no paid order claimed",
            ),
            given_up: moved.with(&[("event", "given_up")]),
            accepted: moved.with(&[("event", "accepted")]),
            broken: Invariant::ALL
                .iter()
                .map(|&inv| (inv, broken.with(&[("invariant", inv.id())])))
                .collect(),
            refused_late: Counters::new(
                metrics,
                "floodgate_cell_refused_late_total",
                "Batches of a deposed keeper that a store refused by their epoch",
            ),
            frame_calls: batch("floodgate_cell_frame_calls", "Calls in a frame of the link"),
            join_batch: batch("floodgate_cell_join_batch", "Joins in a batch"),
            settle_batch: batch("floodgate_cell_settle_batch", "Moves in a batch"),
            hold_batch_s: seconds(
                "floodgate_cell_hold_batch_seconds",
                "Time from a batch of holds to its answers",
            ),
            take_over_s: seconds(
                "floodgate_cell_take_over_seconds",
                "Time in which a bucket had no sure keeper",
            ),
            keeping: Keeping::new(metrics),
            delays: Delays::new(metrics),
        }
    }

    pub(crate) fn call(&self, asked: &Asked) {
        match asked {
            Asked::Join => self.joins.add(1),
            Asked::Reserve { .. } => self.reserves.add(1),
            Asked::Checkout { .. } => self.checkouts.add(1),
            Asked::Cancel { .. } | Asked::Show { .. } | Asked::Refund { .. } => {
                self.other_calls.add(1)
            }
        }
    }

    pub(crate) fn frame(&self, calls: usize) {
        self.frame_calls.record(size(calls));
    }

    pub(crate) fn join_batch(&self, joins: usize) {
        self.join_batch.record(size(joins));
    }

    pub(crate) fn settle_batch(&self, moves: usize) {
        self.settle_batch.record(size(moves));
    }

    pub(crate) fn hold_batch(&self, took: Duration) {
        self.hold_batch_s.observe(took);
    }

    pub(crate) fn took_over(&self, took: Duration) {
        self.take_over_s.observe(took);
    }

    pub(crate) fn handed_over(&self) {
        self.keeping.handed_over.add(1);
    }

    pub(crate) fn elsewhere(&self, calls: usize) {
        self.keeping.elsewhere.add(calls as u64);
    }

    pub(crate) fn take_over_failed(&self, why: &'static str) {
        if let Some((_, counter)) = self.keeping.failed.iter().find(|(known, _)| *known == why) {
            counter.add(1);
        }
    }

    pub(crate) fn admitted(&self, tickets: u64) {
        self.admitted.add(tickets);
    }

    pub(crate) fn held(&self, orders: usize) {
        self.held.add(orders as u64);
    }

    pub(crate) fn moved(&self, kind: Kind) {
        match kind {
            Kind::Paid => self.paid.add(1),
            Kind::Expired => self.expired.add(1),
            Kind::Cancelled => self.cancelled.add(1),
            Kind::Declined => self.declined.add(1),
            Kind::Review => self.reviews.add(1),
            Kind::Paying
            | Kind::Refunding
            | Kind::RefundRefused
            | Kind::Refunded
            | Kind::GivenUp
            | Kind::Accepted
            | Kind::Granted
            | Kind::Held
            | Kind::Unspecified => {}
        }
    }

    pub(crate) fn unknown_outcome(&self) {
        self.unknown.add(1);
    }

    pub(crate) fn refunded(&self) {
        self.refunded.add(1);
    }

    pub(crate) fn refund_refused(&self) {
        self.refund_refused.add(1);
    }

    pub(crate) fn given_back(&self) {
        self.given_back.add(1);
    }

    pub(crate) fn gave_up(&self, units: u32) {
        self.given_up.add(units.into());
    }

    pub(crate) fn accepted(&self, units: u32) {
        self.accepted.add(units.into());
    }

    /// Passes a store's answer to a stage on. A refusal for an older epoch counts (INV-8).
    pub(crate) fn refused_late<T, E: Fenced>(
        &self,
        stage: &'static str,
        answer: Result<T, E>,
    ) -> Result<T, E> {
        if let Some(store) = answer.as_ref().err().and_then(Fenced::by) {
            self.refused_late.with(&[("store", store), ("stage", stage)]).add(1);
        }
        answer
    }

    /// A promise was seen broken.
    pub(crate) fn broken(&self, invariant: Invariant) {
        tracing::error!(%invariant, sentence = invariant.sentence(), "a promise is broken");
        if let Some((_, counter)) = self.broken.iter().find(|(known, _)| *known == invariant) {
            counter.add(1);
        }
    }
}

/// An answer that may be a refusal for an older epoch.
pub(crate) trait Fenced {
    /// The store that refuses, if it is one.
    fn by(&self) -> Option<&'static str>;
}

impl Fenced for InventoryError {
    fn by(&self) -> Option<&'static str> {
        matches!(self, InventoryError::Stale(_)).then_some("redis")
    }
}

impl Fenced for LedgerError {
    fn by(&self) -> Option<&'static str> {
        matches!(self, LedgerError::Stale(_)).then_some("postgres")
    }
}

fn size(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}
