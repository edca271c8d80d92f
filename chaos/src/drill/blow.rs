//! A blow: what a drill did to a bucket or to what that stands on, and what its ledger says of it afterwards.

use std::time::Duration;

use super::Aftermath;
use super::again::{Again, Fresh, granting_again, old_batches_after};
use super::aim::Aim;
use super::mass_expiry::Deadlines;
use super::now_us;
use crate::load::{CallKind, Outcome, Sample, Samples};
use crate::report::DrillReport;

/// See the module.
#[derive(Clone, Debug)]
pub struct Blow {
    pub(super) aim: Aim,
    what: String,
    struck_us: u64,
    /// What it hurt was whole again then.
    pub(super) back_us: u64,
    /// Granting again counts from here.
    since_us: u64,
    fresh: Fresh,
    again_max: Option<Duration>,
    /// From here on at most the one batch that was under way may be committed under the old epoch.
    noticed_us: Option<u64>,
    /// Of holds that have run out since.
    pub(super) deadlines: Deadlines,
    found: DrillReport,
}

impl Blow {
    pub(super) fn new(aim: Aim, what: String, at_us: u64) -> Blow {
        Blow {
            aim,
            what,
            struck_us: at_us,
            back_us: at_us,
            since_us: at_us,
            fresh: Fresh::Epoch,
            again_max: None,
            noticed_us: None,
            deadlines: Deadlines::default(),
            found: DrillReport::default(),
        }
    }

    /// It is whole again now.
    pub(super) fn back(mut self) -> Blow {
        self.back_us = now_us();
        self
    }

    /// The bucket is believed to grant again within this time.
    pub(super) fn again_within(mut self, max: Duration) -> Blow {
        self.again_max = Some(max);
        self
    }

    /// Holds that are committed after this moment (unix microseconds) are of the new state, whatever their epoch.
    pub(super) fn fresh_after(mut self, us: u64) -> Blow {
        self.fresh = Fresh::After(us);
        self
    }

    /// It is whole again since this moment (unix microseconds). Nobody could grant before: granting again counts from
    /// here.
    pub(super) fn mended(self, us: u64) -> Blow {
        Blow { since_us: us, ..self.back().fresh_after(us) }
    }

    /// From this moment (unix microseconds) on nothing more is granted under the old epoch.
    pub(super) fn noticed_from(mut self, us: u64) -> Blow {
        self.noticed_us = Some(us);
        self
    }

    /// These holds have run out since.
    pub(super) fn deadlines(mut self, deadlines: Deadlines) -> Blow {
        self.deadlines = deadlines;
        self
    }

    /// Something that was seen.
    pub(super) fn found(&mut self, finding: String) {
        self.found.findings.push(finding);
    }

    /// Something that speaks against the hypothesis.
    pub(super) fn against(&mut self, why: String) {
        self.found.against.push(why);
    }

    /// Why it proves nothing.
    pub(super) fn void(&mut self, why: String) {
        self.found.void.push(why);
    }

    /// What came of it.
    pub(super) fn report(&self, aftermath: &Aftermath<'_>) -> DrillReport {
        let Aim { bucket, cell, units, units_told, in_flight, .. } = &self.aim;
        let mut report = self.found.clone();
        report.blow = format!(
            "{} at {units_told} of {units} units of bucket {bucket} ({cell}) held, {in_flight} \
             Reserves under way; whole again after {} ms",
            self.what,
            self.back_us.saturating_sub(self.struck_us) / 1_000,
        );
        report.findings.insert(0, report.blow.clone());
        if *in_flight == 0 {
            report.void.push("no call was under way in the bucket".to_owned());
        }
        let sale = aftermath.evidence.sales.first().map_or("", |agreed| agreed.sale.as_str());
        let ledger = |row: &&crate::judge::Bucket| row.number == *bucket && row.sale == sale;
        let Some(ledger) = aftermath.evidence.buckets.iter().find(ledger) else {
            report.void.push("the bucket is not in the evidence".to_owned());
            return report;
        };
        self.again(
            granting_again(ledger, self.aim.cap, self.since_us, self.fresh),
            aftermath,
            &mut report,
        );
        if let Some(noticed_us) = self.noticed_us {
            let late = old_batches_after(ledger, self.struck_us, noticed_us);
            report
                .findings
                .push(format!("{late} batches were committed under the old epoch after"));
            if late > 1 {
                report.against.push(format!("{late} batches were granted before it was noticed"));
            }
        }
        report
    }

    fn again(&self, again: Again, aftermath: &Aftermath<'_>, report: &mut DrillReport) {
        match again {
            Again::After(took, since) => {
                report.again = Some(took);
                report
                    .findings
                    .push(format!("granting again {} ms after {since}", took.as_millis()));
                if let Some(max) = self.again_max
                    && took > max * aftermath.patience
                {
                    report.against.push(format!("that is more than {max:?}"));
                }
            }
            Again::Never(free_since_us) if asked(aftermath.samples, free_since_us) => {
                report.against.push("nothing was granted there any more".to_owned());
            }
            Again::Never(_) => {
                report.void.push("nobody asked any more when units were free again".to_owned());
            }
            Again::NothingFree => {
                report.void.push("no unit of the bucket was free again".to_owned());
            }
        }
    }
}

/// Whether a buyer asked for units after this moment (unix microseconds) and did not get them. Whoever was granted
/// some was granted them before: otherwise the question is not asked.
fn asked(samples: &Samples, since_us: u64) -> bool {
    let in_vain = |sample: &Sample| {
        sample.call == CallKind::Reserve
            && sample.outcome != Outcome::Done
            && sample.intended_us + u64::from(sample.latency_us) > since_us
    };
    samples.count(in_vain) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asked_in_vain_was_refused() {
        let reserve = Sample {
            sale: 0,
            call: CallKind::Reserve,
            intended_us: 900,
            latency_us: 200,
            outcome: Outcome::Unknown,
            repeat: false,
        };
        let rows = [
            (reserve, true),
            (Sample { latency_us: 100, ..reserve }, false),
            (Sample { outcome: Outcome::Done, ..reserve }, false),
            (Sample { call: CallKind::GetTicket, ..reserve }, false),
        ];
        for (sample, expected) in rows {
            let samples = Samples::new(0);
            samples.add(sample);
            assert_eq!(asked(&samples, 1_000), expected, "{sample:?}");
        }
    }
}
