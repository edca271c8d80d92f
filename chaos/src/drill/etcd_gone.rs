//! What `etcd-paused` and `etcd-killed` have in common: etcd and the control plane are gone for five times the longest
//! lease, while buyers come steadily through two routers, each of which is stopped in good order and started again
//! meanwhile, from what it keeps on disk.
//!
//! The same load is measured before, and the shares of calls and of purchases that succeeded are compared. A purchase
//! belongs to the time in which its buyer came. How old the planes' decisions have become is read off their metrics;
//! afterwards they must be fresh again, and an org that is registered then must be seen by every router.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use local::{Faults, LocalError, Stack};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Aftermath, DrillError, Field, Setup, now_us};
use crate::identity::Signer;
use crate::load::{CallKind, Outcome, SaleLive, Sample};
use crate::plan::Habits;
use crate::report::DrillReport;
use crate::scene::{Scene, SceneError};
use crate::told::{OrderState, Said, Told};

/// So many times the longest lease they are gone.
const TIMES: u32 = 5;

/// The longest lease that anybody holds in etcd. The load lasts as long as that takes.
const LEASE_MAX: Duration = Duration::from_secs(5);

/// For how long it goes on undisturbed first, and after they are back.
const LEAD: Duration = Duration::from_secs(25);
const TAIL: Duration = Duration::from_secs(25);

/// Buyers a second.
const PER_S: u32 = 60;

/// What is compared is one of so many thousand: a tenth of a percentage point.
const DIFFERENCE_MAX: f64 = 0.001;

/// With fewer purchases a share says nothing.
const PURCHASES_MIN: usize = 50;

/// Everybody follows etcd again in this time.
const FOLLOWED_MAX: Duration = Duration::from_secs(15);
const FOLLOWED_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// Decisions are read again every five seconds, give or take a fifth.
const FRESH_S: f64 = 7.0;

const GONE: [&str; 2] = ["etcd", "control-plane"];
const AGE: &str = "floodgate_decisions_age_seconds";
const CURRENT: &str = "floodgate_decisions_current";
const KEYS: &str = "floodgate_decisions_keys";

/// In which way they are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// They stand still.
    Paused,
    /// They are dead.
    Killed,
}

/// What was done and seen.
#[derive(Clone, Debug)]
pub struct Gone {
    how: How,
    lease: Duration,
    before: Range<u64>,
    without: Range<u64>,
    /// When everybody followed etcd again, unix microseconds.
    followed_us: u64,
    restarts: Vec<(String, Duration)>,
    /// Of each plane, at the end: how old what it knew was, in seconds, and whether it had it from etcd in this life.
    ages: Vec<(String, f64, bool)>,
    followed: Option<Duration>,
    /// How long it took until each router knew what was decided afterwards.
    told: Option<Duration>,
    /// Calls that a router which went did not take.
    moved: u64,
}

pub(super) fn setup() -> Setup {
    let arrive_within = LEAD + TIMES * LEASE_MAX + TAIL;
    let buyers = PER_S * u32::try_from(arrive_within.as_secs()).unwrap_or(u32::MAX);
    Setup {
        routers: 2,
        // Buyers are not spread evenly over buckets.
        stock: 2 * buyers,
        cap: 1,
        buyers: 0,
        arrive_within,
        steady_per_s: PER_S,
        lead: LEAD,
        habits: Habits::EVERYDAY,
        admission_rate: 8 * PER_S,
        hold_ttl: Duration::from_secs(30),
        faults: Faults { latency_ms: 50, latency_jitter_ms: 20, ..Faults::default() },
        ..Setup::default()
    }
}

pub(super) async fn go(field: &Field<'_>, how: How) -> Result<Option<Gone>, DrillError> {
    let stack = field.platform.stack();
    let lease = longest_lease(&stack.endpoint("etcd")?.url).await?;
    if !field.moment(|sale| sale.arrived() > 0).await {
        return Ok(None);
    }
    let began_us = now_us();
    sleep(field.lead).await;
    for name in GONE {
        how.strike(stack, name).await?;
    }
    let (gone, gone_us) = (Instant::now(), now_us());
    let routers = routers(stack);
    let parts = u32::try_from(routers.len()).unwrap_or(1) + 1;
    let mut restarts = Vec::new();
    for (part, router) in (1..).zip(&routers) {
        sleep_until(gone + lease * TIMES * part / parts).await;
        let begun = Instant::now();
        stack.restart(router).await?;
        restarts.push((router.clone(), begun.elapsed()));
    }
    sleep_until(gone + lease * TIMES).await;
    let ages = field.ages().await?;
    let (back, back_us) = (Instant::now(), now_us());
    for name in GONE {
        how.mend(stack, name).await?;
    }
    let followed = field.until_fresh(back).await?;
    let followed_us = now_us();
    let told = field.until_told(&routers).await?;
    Ok(Some(Gone {
        how,
        lease,
        before: began_us..gone_us,
        without: gone_us..back_us,
        followed_us,
        restarts,
        ages,
        followed,
        told,
        moved: field.sale_live().map_or(0, SaleLive::moved),
    }))
}

impl How {
    async fn strike(self, stack: &Stack, name: &str) -> Result<(), LocalError> {
        match self {
            How::Paused => stack.pause(name).await,
            How::Killed => stack.kill(name).await,
        }
    }

    async fn mend(self, stack: &Stack, name: &str) -> Result<(), LocalError> {
        match self {
            How::Paused => stack.resume(name).await,
            How::Killed => stack.restart(name).await,
        }
    }

    fn name(self) -> &'static str {
        match self {
            How::Paused => "paused",
            How::Killed => "killed",
        }
    }
}

/// Of all that anybody holds in etcd.
async fn longest_lease(etcd: &str) -> Result<Duration, DrillError> {
    let mut client = runtime::etcd::connect(&[etcd.to_owned()]).await?;
    let leases = runtime::etcd::within("list leases", client.leases()).await?;
    let mut longest = Duration::ZERO;
    for lease in leases.leases() {
        let asked = client.lease_time_to_live(lease.id(), None);
        let granted_s = runtime::etcd::within("look at a lease", asked).await?.granted_ttl();
        longest = longest.max(Duration::from_secs(u64::try_from(granted_s).unwrap_or(0)));
    }
    if longest > LEASE_MAX || longest.is_zero() {
        let what = format!("the longest lease is {longest:?}; this was made for {LEASE_MAX:?}");
        return Err(DrillError::NotHere(what));
    }
    Ok(longest)
}

fn routers(stack: &Stack) -> Vec<String> {
    stack.names().into_iter().filter(|name| name.starts_with("router")).collect()
}

impl Field<'_> {
    /// How old what each router and process knows is, in seconds, and whether etcd told it in this life.
    async fn ages(&self) -> Result<Vec<(String, f64, bool)>, DrillError> {
        let stack = self.platform.stack();
        let mut ages = Vec::new();
        for name in stack.names() {
            if !GONE.contains(&&*name) && stack.endpoint(&name)?.metrics.is_some() {
                let age = self.metric(&name, AGE, &[]).await?.unwrap_or(f64::INFINITY);
                let current = self.metric(&name, CURRENT, &[]).await?.unwrap_or(0.0) > 0.0;
                ages.push((name, age, current));
            }
        }
        Ok(ages)
    }

    /// Waits until everybody follows etcd; how long it took, if it came to that.
    async fn until_fresh(&self, back: Instant) -> Result<Option<Duration>, DrillError> {
        while back.elapsed() < FOLLOWED_LIMIT {
            if self.ages().await?.iter().all(|(_, age, current)| *current && *age < FRESH_S) {
                return Ok(Some(back.elapsed()));
            }
            sleep(POLL).await;
        }
        Ok(None)
    }

    /// Has the control plane register an org, and waits until these routers know it.
    async fn until_told(&self, routers: &[String]) -> Result<Option<Duration>, DrillError> {
        let mut before = Vec::new();
        for router in routers {
            before.push(self.metric(router, KEYS, &[]).await?.unwrap_or(0.0));
        }
        let scene = Scene::open(self.platform).await?;
        let org = format!("after-{}", self.sale);
        let signer = Signer::of_org(&org, "k1", &[7; 32]).map_err(SceneError::from)?;
        let asked = Instant::now();
        scene.register(&org, &signer).await?;
        while asked.elapsed() < FOLLOWED_LIMIT {
            let mut know = 0;
            for (router, before) in routers.iter().zip(&before) {
                know += usize::from(self.metric(router, KEYS, &[]).await? > Some(*before));
            }
            if know == routers.len() {
                return Ok(Some(asked.elapsed()));
            }
            sleep(POLL).await;
        }
        Ok(None)
    }
}

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
    pub(super) fn report(&self, aftermath: &Aftermath<'_>) -> DrillReport {
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
mod tests {
    use super::*;
    use crate::id::OrderId;
    use crate::judge::{Evidence, judge};
    use crate::load::Samples;
    use crate::told::{Ask, OrderTold};

    const STEP_US: u64 = 1_000;

    fn gone() -> Gone {
        Gone {
            how: How::Paused,
            lease: Duration::from_secs(5),
            before: 0..1_000 * STEP_US,
            without: 1_000 * STEP_US..2_000 * STEP_US,
            followed_us: 2_000 * STEP_US,
            restarts: vec![("router".to_owned(), Duration::from_millis(200))],
            ages: vec![("router".to_owned(), 26.0, false), ("cell-1/p1".to_owned(), 26.0, true)],
            followed: Some(Duration::from_secs(2)),
            told: Some(Duration::from_millis(100)),
            moved: 3,
        }
    }

    /// 1,000 buyers before, 1,000 without, 100 after, one a step; `fails` of those without end otherwise than paid.
    fn against(gone: &Gone, fails: u64) -> DrillReport {
        let samples = Samples::new(0);
        let mut told = Vec::new();
        for n in 0..2_100_u64 {
            let at_us = n * STEP_US;
            let fails = (1_500..1_500 + fails).contains(&n);
            let state = if fails { OrderState::Expired } else { OrderState::Paid };
            let order =
                OrderTold { order: OrderId([0; 16]), state, units: vec![], amount_minor: 0 };
            let buyer = u32::try_from(n).ok();
            let line = |at_us, said| Told { at_us, sale: 0, buyer, call: n, said };
            told.push(line(at_us, Said::Asked(Ask::Join)));
            // Those who came just before are told afterwards, and count as having come before.
            told.push(line(at_us + 10 * STEP_US, Said::Order(order)));
            let outcome = if fails { Outcome::Unknown } else { Outcome::Done };
            let (sale, call, intended_us, latency_us) = (0, CallKind::Join, at_us, 5);
            samples.add(Sample { sale, call, intended_us, latency_us, outcome, repeat: false });
        }
        let evidence = Evidence { told, ..Evidence::default() };
        let judgement = judge(&evidence);
        gone.report(&Aftermath {
            evidence: &evidence,
            judgement: &judgement,
            samples: &samples,
            patience: 1,
        })
    }

    #[test]
    fn more_than_a_tenth_of_a_point_less_speaks_against_it() {
        for (fails, expected) in [(0, 0), (1, 0), (2, 2)] {
            let report = against(&gone(), fails);
            assert_eq!(report.against.len(), expected, "{fails}: {:?}", report.against);
            assert!(report.void.is_empty());
        }
        let figures = against(&gone(), 2).figures;
        let line = "without them: purchases 99.800 % (998 of 1000), calls 99.800 % (998 of 1000)";
        assert!(figures[1].starts_with(line), "{figures:?}");
        assert!(figures.contains(&"purchases: -0.200 percentage points".to_owned()), "{figures:?}");
    }

    #[test]
    fn so_does_everything_else_that_was_believed() {
        let rows: [fn(&mut Gone); 6] = [
            |gone| gone.followed = None,
            |gone| gone.told = Some(Duration::from_secs(16)),
            |gone| gone.ages[1].1 = 3.0,
            |gone| gone.ages[0].1 = f64::INFINITY,
            |gone| gone.ages[0].2 = true,
            |gone| gone.followed = Some(Duration::from_secs(16)),
        ];
        for (number, damage) in rows.into_iter().enumerate() {
            let mut gone = gone();
            damage(&mut gone);
            assert_eq!(against(&gone, 0).against.len(), 1, "row {number}");
        }
        let mut early = gone();
        early.before = 0..10;
        assert_eq!(against(&early, 0).void.len(), 1);
    }
}
