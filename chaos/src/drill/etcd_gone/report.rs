//! What came of it: the shares of what succeeded, how old the planes say that their decisions are, how long it took until
//! they followed etcd again.

use std::collections::BTreeMap;

use super::{FOLLOWED_LIMIT, Gone, TIMES};
use crate::drill::Aftermath;
use crate::load::{CallKind, Outcome, Sample};
use crate::report::DrillReport;
use crate::told::{OrderState, Said, Told};
use std::time::Duration;

/// What is compared is one of so many thousand: a tenth of a percentage point. Shares are not exact.
const DIFFERENCE_MAX: f64 = 0.001 + 1e-9;

/// With fewer purchases a share says nothing.
const PURCHASES_MIN: usize = 50;

/// Everybody follows etcd again in this time.
const FOLLOWED_MAX: Duration = Duration::from_secs(15);

/// Of how many so many succeeded.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    done: usize,
    all: usize,
}

impl Share {
    fn rate(self) -> f64 {
        let float = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        if self.all == 0 { 0.0 } else { float(self.done) / float(self.all) }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} % ({} of {})", self.rate() * 100.0, self.done, self.all)
    }
}

impl Gone {
    pub(crate) fn report(&self, aftermath: &Aftermath<'_>) -> DrillReport {
        let how = self.how.name();
        let restarts = self.restarts.iter();
        let restarts: Vec<String> =
            restarts.map(|(router, took)| format!("{router} ({} ms)", took.as_millis())).collect();
        let mut report = DrillReport {
            blow: format!(
                "{how} etcd and the control plane for {:.1} s, {TIMES} times the longest lease, and restarted {}",
                self.lease.as_secs_f64() * f64::from(TIMES),
                restarts.join(", "),
            ),
            ..DrillReport::default()
        };
        self.rates(aftermath, &mut report);
        self.ages(&mut report);
        let max = FOLLOWED_MAX * aftermath.patience;
        for (what, took) in [
            ("everybody followed etcd again", self.followed),
            ("every router knew what was decided then", self.told),
        ] {
            match took {
                Some(took) => {
                    report.figures.push(format!("{what} after {} ms", took.as_millis()));
                    if took > max {
                        report.against.push(format!("that is more than {max:?}"));
                    }
                }
                None => report.against.push(format!("{what} not in {FOLLOWED_LIMIT:?}")),
            }
        }
        report
    }

    /// The shares of what succeeded, before and without.
    fn rates(&self, aftermath: &Aftermath<'_>, report: &mut DrillReport) {
        let visits = visits(&aftermath.evidence.told);
        let after = self.followed_us..u64::MAX;
        let mut shares = Vec::new();
        for (when, time) in
            [("before", &self.before), ("without them", &self.without), ("afterwards", &after)]
        {
            let came = visits.values().filter(|(came_us, _)| time.contains(came_us));
            let came: Vec<bool> = came.map(|(_, paid)| *paid).collect();
            let done = came.iter().filter(|paid| **paid).count();
            let purchases = Share { done, all: came.len() };
            let within = |sample: &Sample| sample.sale == 0 && time.contains(&sample.intended_us);
            let counted = |is: &dyn Fn(&Sample) -> bool| {
                usize::try_from(aftermath.samples.count(is)).unwrap_or(usize::MAX)
            };
            let done = |sample: &Sample| within(sample) && sample.outcome == Outcome::Done;
            let calls = Share { done: counted(&done), all: counted(&within) };
            let prompt = |sample: &Sample| within(sample) && sample.call != CallKind::Checkout;
            let took = aftermath.samples.latency(prompt);
            report.figures.push(format!(
                "{when}: purchases {purchases}, calls {calls}, p50 {} ms, p99 {} ms but for payments",
                took.at(0.5) / 1_000,
                took.at(0.99) / 1_000,
            ));
            if purchases.all < PURCHASES_MIN {
                report.void.push(format!("only {} came {when}", purchases.all));
            }
            shares.push([purchases, calls]);
        }
        if let [before, without, _] = &shares[..] {
            for (what, (before, without)) in
                ["purchases", "calls"].into_iter().zip(before.iter().zip(without))
            {
                let less = before.rate() - without.rate();
                // Nothing less is nothing, and not minus nothing.
                let points = 0.0 - less * 100.0;
                report.figures.push(format!("{what}: {points:+.3} percentage points"));
                if less > DIFFERENCE_MAX {
                    report.against.push(format!("fewer {what} succeeded without them"));
                }
            }
        }
        report.figures.push(format!("{} calls went to the other router", self.moved));
    }

    /// They say that what they know is old.
    fn ages(&self, report: &mut DrillReport) {
        let gone_s = self.lease.as_secs_f64() * f64::from(TIMES);
        let all = self.ages.iter().map(|(plane, age, current)| {
            let from = if *current { "from etcd" } else { "from disk" };
            format!("{plane} {age:.1} s {from}")
        });
        report
            .figures
            .push(format!("at its end they knew: {}", all.collect::<Vec<_>>().join(", ")));
        for (plane, age, current) in &self.ages {
            // It was told something last a while before, and clocks are read one after the other.
            if *age < gone_s - 0.5 || *age > gone_s + 60.0 {
                report.against.push(format!("{plane} says that its decisions are {age:.1} s old"));
            }
            if *current && self.restarts.iter().any(|(router, _)| router == plane) {
                report.against.push(format!("{plane} says that etcd told it all in this life"));
            }
        }
    }
}

/// When each buyer came (unix microseconds), and whether they were told in the end that they have paid.
fn visits(told: &[Told]) -> BTreeMap<u32, (u64, bool)> {
    let mut visits = BTreeMap::new();
    for one in told.iter().filter(|one| one.sale == 0) {
        let Some(buyer) = one.buyer else { continue };
        let (came_us, paid) = visits.entry(buyer).or_insert((one.at_us, false));
        *came_us = one.at_us.min(*came_us);
        *paid |= matches!(&one.said, Said::Order(order) if order.state == OrderState::Paid);
    }
    visits
}

#[cfg(test)]
mod tests;
