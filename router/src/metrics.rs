//! What a router counts.

use proto::fault::Reason;
use runtime::metric::{Counter, Counters, Histogram, LATENCY_BOUNDS_S, Metrics};
use runtime::server::Done;
use std::time::Duration;

/// The calls of a storefront, as labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallName {
    Join,
    GetTicket,
    GetSaleState,
    WatchSale,
    Reserve,
    Checkout,
    CancelOrder,
    GetOrder,
    RefundOrder,
    Probe,
}

const CALLS: [(CallName, &str); 10] = [
    (CallName::Join, "Join"),
    (CallName::GetTicket, "GetTicket"),
    (CallName::GetSaleState, "GetSaleState"),
    (CallName::WatchSale, "WatchSale"),
    (CallName::Reserve, "Reserve"),
    (CallName::Checkout, "Checkout"),
    (CallName::CancelOrder, "CancelOrder"),
    (CallName::GetOrder, "GetOrder"),
    (CallName::RefundOrder, "RefundOrder"),
    (CallName::Probe, "Probe"),
];

/// What happens in lines before buckets' lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineEvent {
    /// A buyer was given a number, or the one that they have.
    Stood,
    /// One who was let in joined.
    Joined,
    /// One who was let in was refused, and waits on.
    SentBack,
}

/// The counters of a router.
#[derive(Debug)]
pub(crate) struct RouterMetrics {
    calls: Vec<(Counter, Histogram)>,
    refusals: Vec<(Reason, Counter)>,
    followed: Counter,
    not_followed: Counter,
    line: [Counter; 3],
}

impl RouterMetrics {
    /// Counters that are exported with `metrics`.
    pub(crate) fn new(metrics: &Metrics) -> RouterMetrics {
        let counters =
            Counters::new(metrics, "floodgate_router_calls_total", "Calls that were answered");
        let refusals =
            Counters::new(metrics, "floodgate_router_refusals_total", "Refusals by reason");
        let elsewhere = Counters::new(
            metrics,
            "floodgate_router_elsewhere_total",
            "Calls that came to a process that did not keep their bucket and knew who did",
        );
        let line = Counters::new(
            metrics,
            "floodgate_router_line_total",
            "What happened in lines before buckets' lines",
        );
        let call = |(_, label): &(CallName, &str)| {
            let histogram = Histogram::new(
                metrics,
                "floodgate_router_call_seconds",
                "Time from a call to its answer",
                LATENCY_BOUNDS_S,
                &[("call", label)],
            );
            (counters.with(&[("call", label)]), histogram)
        };
        let refusal = |&reason: &Reason| (reason, refusals.with(&[("reason", reason.label())]));
        RouterMetrics {
            calls: CALLS.iter().map(call).collect(),
            refusals: Reason::ALL.iter().map(refusal).collect(),
            followed: elsewhere.with(&[("asked_there", "yes")]),
            not_followed: elsewhere.with(&[("asked_there", "no")]),
            line: ["stood", "joined", "sent_back"].map(|event| line.with(&[("event", event)])),
        }
    }

    /// A process said that another one keeps a call's bucket.
    pub(crate) fn elsewhere(&self, asked_there: bool) {
        let counter = if asked_there { &self.followed } else { &self.not_followed };
        counter.add(1);
    }

    /// Something happened in a line before a bucket's line.
    pub(crate) fn line(&self, event: LineEvent) {
        let [stood, joined, sent_back] = &self.line;
        let counter = match event {
            LineEvent::Stood => stood,
            LineEvent::Joined => joined,
            LineEvent::SentBack => sent_back,
        };
        counter.add(1);
    }

    /// A call was answered.
    pub(crate) fn answered(&self, call: CallName, took: Duration, refused: Option<Reason>) {
        if let Some((counter, histogram)) = self.calls.get(call as usize) {
            counter.add(1);
            histogram.observe(took);
        }
        if let Some(reason) = refused {
            self.refused(reason);
        }
    }

    /// What became of calls so far. Who was refused for want of room or time was read in vain.
    pub(crate) fn done(&self) -> Done {
        let in_vain =
            |reason: &Reason| matches!(reason, Reason::Overloaded | Reason::DeadlinePassed);
        let refused = self.refusals.iter().filter(|(reason, _)| in_vain(reason));
        Done {
            answers: self.calls.iter().map(|(counter, _)| counter.value()).sum(),
            in_vain: refused.map(|(_, counter)| counter.value()).sum(),
        }
    }

    /// Something was refused, a call or what was to become one.
    pub(crate) fn refused(&self, reason: Reason) {
        if let Some((_, counter)) = self.refusals.iter().find(|(known, _)| *known == reason) {
            counter.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_for_want_of_room_or_time_was_read_in_vain() {
        let counted = RouterMetrics::new(&Metrics::new("test", "0").unwrap());
        let rows = [
            None,
            Some(Reason::Overloaded),
            Some(Reason::DeadlinePassed),
            // Who asks too much by themselves, or what is over, is refused with time to spare.
            Some(Reason::BuyerRate),
            Some(Reason::OrgRate),
            Some(Reason::SoldOut),
        ];
        for reason in rows {
            counted.answered(CallName::Reserve, Duration::ZERO, reason);
        }
        assert_eq!(counted.done(), Done { answers: 6, in_vain: 2 });
    }
}
