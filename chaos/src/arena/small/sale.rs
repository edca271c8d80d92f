//! One small sale: its crowd, and the verdict on it.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use local::Platform;
use proto::token::Role;
use proto::wire::admin::sale::Class;
use runtime::clock::Clock;

use super::super::{ArenaError, ORG, evidence};
use super::SmallPlan;
use super::flow::Flow;
use super::shape::Shape;
use crate::demo::routers;
use crate::identity::{Signer, bearer};
use crate::judge::{self, Evidence, Verdict};
use crate::load::{Crowd, Load, LoadPlan};
use crate::report::Proof;
use crate::scene::{SaleTerms, Scene, SceneError, StagedSale};
use crate::told::Said;

/// A sale starts so long after it was planned, or when it is warm.
const HEAD_START: Duration = Duration::from_millis(600);

/// How long it may take until the last unit is sold, and then until all is quiet.
const SALE_LIMIT: Duration = Duration::from_secs(60);
const QUIET_LIMIT: Duration = Duration::from_secs(20);

/// How long a hold lasts.
const HOLD_TTL: Duration = Duration::from_secs(2);

/// An admitted ticket is kept so long.
const KEEPING_TIME: Duration = Duration::from_secs(12);

/// Tickets admitted a second.
const ADMISSION_RATE: u32 = 100;

/// Connections of a sale's buyers.
const CONNECTIONS: usize = 4;

/// Where the sales are.
pub(super) struct Street<'a> {
    pub(super) plan: &'a SmallPlan,
    pub(super) platform: &'a Platform,
    pub(super) scene: Scene<'a>,
    pub(super) signer: Signer,
}

/// What became of one sale.
#[derive(Clone, Debug)]
pub(super) struct Sold {
    /// What it was drawn from.
    pub(super) seed: u64,
    /// Its buckets.
    pub(super) buckets: usize,
    /// Buyers who came, and which part (0 to 1) of them belongs to one bucket.
    pub(super) buyers: usize,
    pub(super) favourite: f64,
    /// From the start to the last payment, when every unit was paid for.
    pub(super) after: Option<Duration>,
    /// How its units flowed.
    pub(super) flow: Flow,
    /// How often somebody was told SOLD_OUT.
    pub(super) sold_out_told: usize,
    /// The judge's figures.
    pub(super) verdict: Verdict,
    /// Broken promises, as sentences.
    pub(super) violations: Vec<String>,
    /// What is wrong although no promise is broken.
    pub(super) flaws: Vec<String>,
    /// Where its evidence is kept, when it is.
    pub(super) evidence: Option<PathBuf>,
}

impl Sold {
    /// What it proved.
    pub(super) fn proof(&self) -> Proof {
        let clean = self.violations.is_empty() && self.flaws.is_empty();
        if clean { Proof::Kept } else { Proof::Broken }
    }
}

impl Street<'_> {
    /// Sells what is drawn from this number.
    pub(super) async fn sell(&self, seed: u64) -> (u64, Result<(Sold, Evidence), ArenaError>) {
        (seed, self.try_to_sell(seed).await)
    }

    async fn try_to_sell(&self, seed: u64) -> Result<(Sold, Evidence), ArenaError> {
        let shape = Shape::draw(seed, self.plan.buyers);
        let start = Instant::now() + HEAD_START;
        let staged = self.scene.sale(ORG, &self.signer, &self.terms(&shape)).await?;
        let stores = self.scene.stores()?;
        let crowd = self.crowd(&shape, &staged).await?;
        let start = start.max(Instant::now());
        let start_us = unix_us(start);
        let load = Load::start(LoadPlan {
            routers: routers(self.platform)?,
            crowds: vec![crowd],
            start,
            give_up_after: self.limit(),
            quiet_after: HOLD_TTL + QUIET_LIMIT,
        })?;
        let outcome = load.outcome().await?;
        let agreed = staged.agreed.clone();
        if let Some(damage) = self.plan.damage {
            // Nobody knows in which cell what was sold.
            for stores in &stores {
                evidence::damage(&agreed.sale, stores, damage).await?;
            }
        }
        let intents = judge::read_provider(&provider_file(self.platform))?;
        let mut evidence = evidence::read(agreed, outcome.told, &stores).await?;
        // Payments of other sales are under way. Those of none are looked for when all sales are over.
        let orders = evidence.buckets.iter().flat_map(|bucket| &bucket.orders);
        let orders: std::collections::HashSet<_> = orders.map(|row| row.order).collect();
        let is_ours = |order| orders.contains(&order);
        evidence.intents =
            intents.into_iter().filter(|intent| intent.order_id().is_some_and(is_ours)).collect();
        let sold = self.judged(seed, &shape, &staged, (start_us, outcome.quiet), &evidence);
        Ok((sold, evidence))
    }

    fn judged(
        &self,
        seed: u64,
        shape: &Shape,
        staged: &StagedSale,
        (start_us, quiet): (u64, bool),
        evidence: &Evidence,
    ) -> Sold {
        let judgement = judge::judge(evidence);
        let verdict = judgement.verdicts.first().copied().unwrap_or_default();
        let flow = Flow::of(&evidence.buckets, start_us);
        let mut flaws = Vec::new();
        if !quiet {
            flaws.push("the page did not show in time that no order is live".to_owned());
        }
        let left = verdict.stock.saturating_sub(verdict.sold);
        if left > 0 {
            let limit_s = self.limit().as_secs();
            flaws.push(format!("{left} units are left after {limit_s} s, with buyers for all"));
        }
        let is_sold_out =
            |said: &Said| matches!(said, Said::Refused { reason } if reason == "SOLD_OUT");
        let after = flow.last_paid_us.filter(|_| left == 0);
        Sold {
            seed,
            buckets: staged.buckets.len(),
            buyers: shape.buyers.len(),
            favourite: shape.favourite,
            after: after.map(|us| Duration::from_micros(us.saturating_sub(start_us))),
            flow,
            sold_out_told: evidence.told.iter().filter(|told| is_sold_out(&told.said)).count(),
            verdict,
            violations: judgement.violations.iter().map(ToString::to_string).collect(),
            flaws,
            evidence: None,
        }
    }

    fn limit(&self) -> Duration {
        SALE_LIMIT * self.plan.patience
    }

    fn terms(&self, shape: &Shape) -> SaleTerms {
        SaleTerms {
            class: Class::Flash,
            stock: shape.units,
            cap: shape.cap,
            hold_ttl: HOLD_TTL,
            keeping_time: KEEPING_TIME,
            admission_rate: ADMISSION_RATE,
            starts_in: HEAD_START,
            // It ends by itself when it has been judged: cells do not keep what nobody asks for any more.
            lasts: self.limit() + HOLD_TTL + 2 * QUIET_LIMIT,
        }
    }

    async fn crowd(&self, shape: &Shape, staged: &StagedSale) -> Result<Crowd, SceneError> {
        let hashing = self.scene.hashing(&staged.agreed.sale).await?;
        let token =
            |subject: &str| bearer(&self.signer.token(subject, Role::Buyer, self.scene.expires_s));
        let subjects = shape.subjects(&hashing);
        Ok(Crowd {
            sale: staged.name.clone(),
            stock: staged.agreed.stock,
            tokens: subjects.iter().map(|name| token(name)).collect::<Result<_, _>>()?,
            buyers: shape.buyers.clone(),
            page_token: token("page")?,
            connections: CONNECTIONS,
            follows: false,
            // Each of them is to be told.
            heeds_page: false,
        })
    }
}

/// Where the provider writes down what it did.
pub(super) fn provider_file(platform: &Platform) -> PathBuf {
    platform.stack().folder().join("provider/ledger.jsonl")
}

/// Unix microseconds of an instant that is now or later.
fn unix_us(at: Instant) -> u64 {
    let left = at.saturating_duration_since(Instant::now());
    let now = Clock::system().now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from((now + left).as_micros()).unwrap_or(u64::MAX)
}

impl fmt::Display for Sold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sold { seed, buckets, favourite, flow, verdict, .. } = self;
        write!(f, "sale {seed}: {} of {} sold", verdict.sold, verdict.stock)?;
        if let Some(after) = self.after {
            write!(f, " in {:.1} s", after.as_secs_f64())?;
        }
        write!(f, ", {buckets} buckets")?;
        if *buckets > 1 {
            write!(f, ", {:.0} % want one", favourite * 100.0)?;
        }
        let (back, moved) = (flow.waits.len(), flow.moved);
        let still_ms = flow.standstill.as_millis();
        write!(f, "; {back} came back, {moved} moved, still {still_ms} ms")?;
        write!(f, "; {}", if self.proof() == Proof::Kept { "kept" } else { "BROKEN" })?;
        for (what, sentences) in [("broken", &self.violations), ("wrong", &self.flaws)] {
            for sentence in sentences {
                write!(f, "\n  {what}: {sentence}")?;
            }
        }
        match &self.evidence {
            Some(folder) => write!(f, "\n  evidence: {}", folder.display()),
            None => Ok(()),
        }
    }
}
