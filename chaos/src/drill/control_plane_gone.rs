//! `control-plane-gone`: control plane and etcd stop answering, then die, while the sale runs; then the router is
//! restarted and must serve from what it remembers. Neither comes back.

use proto::fault::Reason;

use super::{DrillError, Field, now_us, share_of};
use crate::load::{CallKind, Outcome, Sample, Samples};
use crate::report::DrillReport;

pub(super) const HYPOTHESIS: &str =
    "no call waits for etcd or the control plane, not even at a router born without them";

/// Shares of the units that are held when they are paused, killed, and the router is restarted.
const PAUSED_AT: f64 = 0.20;
const KILLED_AT: f64 = 0.35;
const RESTARTED_AT: f64 = 0.50;

/// Calls take longer the more of the crowd is there; without etcd they may take so much longer than before, and twice
/// as long. One that waited for a server which does not answer would run into its deadline.
const LONGER_US: u64 = 500_000;
const DEADLINE_US: u64 = 5_000_000;

/// Calls that the platform answers by itself; a payment waits for the provider.
const PROMPT: [CallKind; 3] = [CallKind::Join, CallKind::GetTicket, CallKind::Reserve];

/// What was done.
#[derive(Clone, Debug)]
pub struct Blow {
    paused_us: u64,
    killed_us: u64,
    restarted_us: u64,
    back_us: u64,
}

pub(super) async fn strike(field: &Field<'_>) -> Result<Option<Blow>, DrillError> {
    let stack = field.platform.stack();
    let gone = ["control-plane", "etcd"];
    let held = async |share| {
        let wanted = share_of(field.stock, share);
        field.moment(|sale| sale.units_told() >= wanted).await
    };
    if !held(PAUSED_AT).await {
        return Ok(None);
    }
    for name in gone {
        stack.pause(name).await?;
    }
    let paused_us = now_us();
    if !held(KILLED_AT).await {
        return Ok(None);
    }
    for name in gone {
        stack.kill(name).await?;
    }
    let killed_us = now_us();
    if !held(RESTARTED_AT).await {
        return Ok(None);
    }
    let restarted_us = now_us();
    stack.restart("router").await?;
    Ok(Some(Blow { paused_us, killed_us, restarted_us, back_us: now_us() }))
}

impl Blow {
    pub(super) fn report(&self, samples: &Samples) -> DrillReport {
        let mut report = DrillReport::default();
        let ms = |from: u64, to: u64| to.saturating_sub(from) / 1_000;
        report.findings.push(format!(
            "paused both, killed both {} ms later, restarted the router {} ms after that ({} ms)",
            ms(self.paused_us, self.killed_us),
            ms(self.killed_us, self.restarted_us),
            ms(self.restarted_us, self.back_us),
        ));
        self.latencies(samples, &mut report);
        self.refusals(samples, &mut report);
        report
    }

    /// A call that waited for a server which does not answer would be long, or would not end at all.
    fn latencies(&self, samples: &Samples, report: &mut DrillReport) {
        let during = self.paused_us..self.restarted_us;
        let before = |sample: &Sample| is_prompt(sample) && end_us(sample) < self.paused_us;
        let without = |sample: &Sample| is_prompt(sample) && during.contains(&end_us(sample));
        let after = |sample: &Sample| is_prompt(sample) && sample.intended_us >= self.back_us;
        let (before, without) = (samples.latency(before), samples.latency(without));
        if without.max() > DEADLINE_US {
            report.against.push(format!("a call took {} ms", without.max() / 1_000));
        }
        if without.at(0.99) > 2 * before.at(0.99) + LONGER_US {
            report.against.push("calls took much longer without them".to_owned());
        }
        for (when, latency) in [
            ("before", before),
            ("without them", without),
            ("at the new router", samples.latency(after)),
        ] {
            report.findings.push(format!(
                "{when}: {} calls, p50 {} ms, p99 {} ms, max {} ms",
                latency.count(),
                latency.at(0.5) / 1_000,
                latency.at(0.99) / 1_000,
                latency.max() / 1_000
            ));
            if latency.count() == 0 {
                report.void.push(format!("no call ended {when}"));
            }
        }
    }

    /// Nobody is refused because a decision was forgotten.
    fn refusals(&self, samples: &Samples, report: &mut DrillReport) {
        for (reason, whose) in REASONS {
            let outcome = Outcome::Refused(reason);
            let count = samples
                .count(|sample| sample.outcome == outcome && end_us(sample) >= self.paused_us);
            if count > 0 {
                let label = reason.label();
                report.against.push(format!("{count} calls were refused {label}: {whose}"));
            }
        }
    }
}

fn is_prompt(sample: &Sample) -> bool {
    sample.sale == 0 && PROMPT.contains(&sample.call)
}

/// A call belongs to the time in which it ended.
fn end_us(sample: &Sample) -> u64 {
    sample.intended_us + u64::from(sample.latency_us)
}

/// Refusals that only a router or cell without its decisions gives.
const REASONS: [(Reason, &str); 5] = [
    (Reason::NotFound, "the org or the sale was forgotten"),
    (Reason::TokenWrongKey, "the org's keys were forgotten"),
    (Reason::TicketInvalid, "the cells' keys were forgotten"),
    (Reason::SaleNotWarm, "the sale was forgotten to be warm"),
    (Reason::Internal, "something broke"),
];
