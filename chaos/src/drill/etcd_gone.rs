//! What `etcd-paused` and `etcd-killed` have in common: etcd and the control plane are gone for five times the longest
//! lease, while buyers come steadily through two routers, each of which is stopped in good order and started again
//! meanwhile, from what it keeps on disk.
//!
//! The same load is measured before, and the shares of calls and of purchases that succeeded are compared. A purchase
//! belongs to the time in which its buyer came. How old the planes' decisions have become is read off their metrics;
//! afterwards they must be fresh again, and an org that is registered then must be seen by every router.

mod report;

use std::ops::Range;
use std::time::Duration;

use local::{Faults, LocalError, Stack};
use tokio::time::{Instant, sleep, sleep_until};

use super::{DrillError, Field, Setup, now_us};
use crate::identity::Signer;
use crate::load::SaleLive;
use crate::plan::Habits;
use crate::scene::{Scene, SceneError};

/// So many times the longest lease they are gone.
const TIMES: u32 = 5;

/// The longest lease that anybody holds in etcd. The load lasts as long as that takes.
const LEASE_MAX: Duration = Duration::from_secs(5);

/// For how long it goes on undisturbed first, and after they are back.
const LEAD: Duration = Duration::from_secs(25);
const TAIL: Duration = Duration::from_secs(25);

/// Buyers a second.
const PER_S: u32 = 60;

/// Whoever does not follow etcd again after this time never will.
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
