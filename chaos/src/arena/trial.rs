//! One trial: a sale, its crowd, a fault in the middle, and the verdict on it.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use local::{Faults, Platform};
use proto::token::Role;
use proto::wire::admin::sale::Class;

use super::{ArenaError, ArenaPlan, CROWD_LIMIT, ORG, QUIET_LIMIT, evidence};
use crate::demo::routers;
use crate::drill::{Aftermath, Field, Special, Struck};
use crate::identity::{Signer, bearer};
use crate::judge::{self, CellStores, Evidence, Judgement, Verdict};
use crate::load::{Crowd, Load, LoadOutcome, LoadPlan};
use crate::plan::{BuyerPlan, Intention, Plan, PlanShape};
use crate::report::{DrillReport, Proof};
use crate::scene::{SaleTerms, Scene, SceneError, StagedSale};

/// A sale starts so long after it was planned; a cell is ready for it before that.
const HEAD_START: Duration = Duration::from_millis(600);

/// The crowd comes so long after the last of those who come before it.
const CROWD_AFTER: Duration = Duration::from_millis(500);

/// An admitted ticket is kept so long.
const KEEPING_TIME: Duration = Duration::from_secs(12);

/// More than any clock is set ahead.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(2 * 3_600);

/// Connections of all buyers of a trial.
const CONNECTIONS: usize = 16;

/// A platform on which trials are made.
pub(super) struct Arena<'a> {
    pub(super) plan: &'a ArenaPlan,
    pub(super) platform: &'a Platform,
    pub(super) scene: Scene<'a>,
    pub(super) signer: Signer,
}

/// What one trial came to.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Counted from 1, void ones too.
    pub number: u64,
    /// What it was drawn from.
    pub seed: u64,
    /// When it struck: the share (0 to 1) of units held then.
    pub moment: f64,
    /// What the drill found.
    pub drill: DrillReport,
    /// The figures of its sale.
    pub verdict: Verdict,
    /// Broken promises, as sentences.
    pub violations: Vec<String>,
    /// What is wrong although no promise is broken.
    pub flaws: Vec<String>,
    /// How long all of it took.
    pub took: Duration,
    /// Where its evidence is kept, when it is.
    pub evidence: Option<PathBuf>,
}

impl Trial {
    /// What it proved.
    pub fn proof(&self) -> Proof {
        if !self.violations.is_empty() || !self.flaws.is_empty() {
            Proof::Broken
        } else if !self.drill.void.is_empty() {
            Proof::Void
        } else if !self.drill.against.is_empty() {
            Proof::Broken
        } else {
            Proof::Kept
        }
    }
}

impl Arena<'_> {
    /// Makes the trial that is drawn from this number.
    pub(super) async fn trial(&self, seed: u64) -> Result<(Trial, Evidence), ArenaError> {
        let began = Instant::now();
        let setup = &self.plan.setup;
        let plan = Plan::draw(seed, &self.shape());
        let stack = self.platform.stack();
        let provider_file = stack.folder().join("provider/ledger.jsonl");
        let intents_before = judge::read_provider(&provider_file)?.len();
        stack.set_faults(&Faults { seed: plan.provider_seed, ..setup.faults }).await?;
        let start = Instant::now() + HEAD_START;
        let staged = self.scene.sale(ORG, &self.signer, &self.terms()).await?;
        let stores = self.scene.stores()?;
        let load = Load::start(LoadPlan {
            routers: routers(self.platform)?,
            crowds: vec![self.crowd(&plan, &staged)?],
            start: start.max(Instant::now()),
            give_up_after: setup.fill_time() + setup.arrive_within + CROWD_LIMIT,
            quiet_after: self.hold_ttl() + QUIET_LIMIT,
        })?;
        let (mut outcome, struck) = self.strike(&plan, &staged, &stores, load).await?;
        let told = std::mem::take(&mut outcome.told);
        let agreed = staged.agreed.clone();
        if let (Some(damage), Some((_, cell, _))) = (self.plan.damage, staged.buckets.first()) {
            let stores = stores.iter().filter(|stores| stores.cell == *cell);
            for stores in stores {
                evidence::damage(&agreed.sale, stores, damage).await?;
            }
        }
        let mut intents = judge::read_provider(&provider_file)?;
        let mut evidence = evidence::read(agreed, told, &stores).await?;
        evidence.intents = intents.split_off(intents_before.min(intents.len()));
        let judgement = judge::judge(&evidence);
        let drill = struck.report(&Aftermath {
            evidence: &evidence,
            judgement: &judgement,
            samples: &outcome.samples,
            patience: self.plan.patience,
        });
        let violations = judgement.violations.iter().map(ToString::to_string).collect();
        let trial = Trial {
            number: 1,
            seed,
            moment: plan.moment,
            drill,
            verdict: judgement.verdicts.first().copied().unwrap_or_default(),
            violations,
            flaws: self.flaws(&outcome, &judgement),
            took: began.elapsed(),
            evidence: None,
        };
        Ok((trial, evidence))
    }

    async fn strike(
        &self,
        plan: &Plan,
        staged: &StagedSale,
        stores: &[CellStores],
        load: Load,
    ) -> Result<(LoadOutcome, Struck), ArenaError> {
        let live = load.live();
        let field = Field {
            platform: self.platform,
            live: &live,
            stores,
            org: ORG,
            sale: &staged.agreed.sale,
            buckets: &staged.buckets,
            stock: staged.agreed.stock,
            filled: self.plan.setup.live_orders,
            cap: self.plan.setup.cap,
            hold_ttl: self.hold_ttl(),
            lead: self.plan.setup.lead,
            moment: plan.moment,
            victim: plan.victim,
        };
        let (outcome, struck) = tokio::join!(load.outcome(), self.plan.drill.strike(&field));
        Ok((outcome?, struck?))
    }

    fn shape(&self) -> PlanShape {
        let setup = &self.plan.setup;
        PlanShape {
            buyers: setup.buyers,
            arrive_within_us: micros(setup.arrive_within),
            cap: setup.cap,
            neighbours_per_s: setup.steady_per_s,
            neighbours_for_s: u32::try_from(setup.arrive_within.as_secs()).unwrap_or(u32::MAX),
            habits: setup.habits,
        }
    }

    /// Holds must not run out while those who never come back are still coming.
    fn hold_ttl(&self) -> Duration {
        self.plan.setup.hold_ttl + self.plan.setup.fill_time()
    }

    fn terms(&self) -> SaleTerms {
        let setup = &self.plan.setup;
        let visits = setup.fill_time() + setup.arrive_within + CROWD_LIMIT;
        let mut limits = visits + self.hold_ttl() + QUIET_LIMIT;
        if setup.special == Special::Clocks {
            // Not even by a clock that was set ahead.
            limits += CLOCKS_APART_MAX;
        }
        SaleTerms {
            class: Class::Flash,
            stock: setup.stock + setup.live_orders,
            cap: setup.cap,
            hold_ttl: self.hold_ttl(),
            keeping_time: KEEPING_TIME,
            admission_rate: setup
                .admission_rate
                .max(2 * setup.live_orders_per_s.min(setup.live_orders)),
            starts_in: HEAD_START,
            // It ends by itself soon after its trial: cells do not keep what nobody asks for any more.
            lasts: limits + HEAD_START,
        }
    }

    fn crowd(&self, plan: &Plan, staged: &StagedSale) -> Result<Crowd, SceneError> {
        let setup = &self.plan.setup;
        let before = (0..setup.live_orders).map(|number| nobody(number, setup.live_orders_per_s));
        let after_us =
            if setup.live_orders > 0 { micros(setup.fill_time() + CROWD_AFTER) } else { 0 };
        let crowd = if setup.steady_per_s > 0 { &plan.neighbours } else { &plan.crowd };
        let crowd = crowd.iter().map(|buyer| BuyerPlan {
            number: setup.live_orders + buyer.number,
            arrival_us: after_us + buyer.arrival_us,
            ..*buyer
        });
        let buyers: Vec<BuyerPlan> = before.chain(crowd).collect();
        let token =
            |subject: &str| bearer(&self.signer.token(subject, Role::Buyer, self.scene.expires_s));
        let tokens = buyers.iter().map(|buyer| token(&format!("buyer-{}", buyer.number)));
        Ok(Crowd {
            sale: staged.name.clone(),
            stock: staged.agreed.stock,
            tokens: tokens.collect::<Result<_, _>>()?,
            buyers,
            page_token: token("page")?,
            connections: CONNECTIONS,
            follows: false,
            heeds_page: true,
        })
    }

    /// What is wrong although no promise is broken. Servers that have ended are started again.
    fn flaws(&self, outcome: &LoadOutcome, judgement: &Judgement) -> Vec<String> {
        let mut flaws = Vec::new();
        if !outcome.quiet {
            flaws.push("the page did not show in time that no order is live".to_owned());
        }
        // What those have held who never came back, nobody came for.
        if let Some(verdict) = judgement.verdicts.first()
            && verdict.sold < verdict.stock
            && self.plan.setup.sells_out()
        {
            let left = verdict.stock - verdict.sold;
            flaws.push(format!("{left} units are left although buyers came for all"));
        }
        let exited = self.platform.stack().exited().into_iter();
        flaws.extend(exited.map(|(name, state)| format!("{name} is {state}")));
        flaws
    }
}

/// Somebody who comes before the crowd, holds a unit and never comes back.
fn nobody(number: u32, per_s: u32) -> BuyerPlan {
    BuyerPlan {
        number,
        arrival_us: u64::from(number) * 1_000_000 / u64::from(per_s.max(1)),
        quantity: 1,
        intention: Intention::Abandon,
        bad_card: false,
        second_card: false,
        twice: false,
        hang_up: false,
        draws: number.into(),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trial { number, seed, moment, drill, verdict, .. } = self;
        let said = match self.proof() {
            Proof::Kept => "kept",
            Proof::Broken => "BROKEN",
            Proof::Void => "void",
        };
        let blow = if drill.blow.is_empty() { "did not strike" } else { &drill.blow };
        write!(f, "trial {number} seed {seed} at {:.0} %: {blow}; ", moment * 100.0)?;
        match drill.again {
            Some(again) => write!(f, "granting again after {} ms; ", again.as_millis())?,
            // Some are about something else.
            None if !drill.figures.is_empty() => {}
            None => write!(f, "not seen granting again; ")?,
        }
        write!(f, "sold {} of {}; {said}", verdict.sold, verdict.stock)?;
        let lines = [("broken", &self.violations), ("wrong", &self.flaws)].into_iter();
        let lines = lines.chain([("against it", &drill.against), ("void", &drill.void)]);
        for (what, sentences) in lines {
            for sentence in sentences {
                write!(f, "\n  {what}: {sentence}")?;
            }
        }
        if self.proof() == Proof::Broken {
            for finding in drill.findings.iter().skip(1) {
                write!(f, "\n  {finding}")?;
            }
        }
        for figure in &drill.figures {
            write!(f, "\n  {figure}")?;
        }
        match &self.evidence {
            Some(folder) => write!(f, "\n  evidence: {}", folder.display()),
            None => Ok(()),
        }
    }
}
