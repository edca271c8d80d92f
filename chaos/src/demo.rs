//! The demo: a whole platform, a mega-sale beside everyday commerce, and the judge's verdict.
//!
//! Everything that is drawn is drawn from one number, which is told first. With a drill a fault strikes in the middle
//! of it; the verdict must be the same.

mod versions;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use local::{Faults, LocalError, Platform, PlatformPlan, StackOptions};
use proto::token::Role;
use proto::wire::admin::sale::Class;
use tokio::time::interval;
use tonic::metadata::{Ascii, MetadataValue};

use crate::drill::{Aftermath, Drill, DrillError, Field, Struck};
use crate::identity::{Signer, bearer};
use crate::judge::{self, Evidence, ReadError};
use crate::load::{Crowd, Load, LoadError, LoadPlan};
use crate::plan::{BuyerPlan, Habits, Plan, PlanShape};
use crate::report::{Proof, Report, SaleReport};
use crate::scene::{SaleTerms, Scene, SceneError, StagedSale};
use crate::told;

/// The org of the mega-sale.
const MEGA_ORG: &str = "mega";

/// The neighbour's units, more than anybody buys during a run.
const NEIGHBOUR_STOCK: u32 = 100_000;

/// An admitted ticket is kept so long: a little longer than anybody in line is told to wait before asking again.
const KEEPING_TIME: Duration = Duration::from_secs(12);

/// Connections of all buyers of a sale: a router lets 128 calls at a time through on each.
const CROWD_CONNECTIONS: usize = 64;
const NEIGHBOUR_CONNECTIONS: usize = 2;

/// Both sales last longer than any run; the buckets are judged while they are loaded.
const SALE_LASTS: Duration = Duration::from_secs(600);

/// Buyers who still wait so long after the start give up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// After the last buyer has gone, holds that nobody pays run out in this time.
const QUIET_AFTER: Duration = Duration::from_secs(20);

/// What a demo is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct DemoPlan {
    /// What everything is drawn from.
    pub seed: u64,
    /// The fault, if any.
    pub drill: Option<Drill>,
    /// Whether the run folder stays.
    pub keep: bool,
    /// Cells, each with two processes.
    pub cells: u32,
    /// Units of the mega-sale.
    pub stock: u32,
    /// Units a buyer.
    pub cap: u32,
    /// Its buyers.
    pub buyers: u32,
    /// The mega-sale starts so long after everything else is ready; tokens are signed meanwhile.
    pub head_start: Duration,
    /// They arrive within this time.
    pub arrive_within: Duration,
    /// Tickets admitted a second.
    pub admission_rate: u32,
    /// How long a hold lasts.
    pub hold_ttl: Duration,
    /// Buyers a second of the neighbour's sale.
    pub neighbours_per_s: u32,
    /// What the provider does wrong.
    pub faults: Faults,
}

impl DemoPlan {
    /// The demo as it is shown.
    pub fn new(seed: u64) -> DemoPlan {
        DemoPlan {
            seed,
            drill: None,
            keep: false,
            cells: 6,
            stock: 1_000,
            cap: 2,
            buyers: 20_000,
            head_start: Duration::from_secs(6),
            arrive_within: Duration::from_secs(2),
            admission_rate: 500,
            hold_ttl: Duration::from_secs(6),
            neighbours_per_s: 20,
            faults: Faults {
                latency_ms: 200,
                latency_jitter_ms: 50,
                error_rate: 0.01,
                lost_reply_rate: 0.01,
                ..Faults::default()
            },
        }
    }

    /// Whether the run folder stays: asked for here, or for all run folders.
    fn keeps(&self) -> bool {
        self.keep || std::env::var_os("FLOODGATE_KEEP_RUN_FOLDER").is_some()
    }

    fn shape(&self) -> PlanShape {
        PlanShape {
            buyers: self.buyers,
            arrive_within_us: u64::try_from(self.arrive_within.as_micros()).unwrap_or(u64::MAX),
            cap: self.cap,
            neighbours_per_s: self.neighbours_per_s,
            neighbours_for_s: u32::try_from(GIVE_UP_AFTER.as_secs()).unwrap_or(u32::MAX),
            habits: Habits::CROWD,
        }
    }
}

/// Why a demo came to no verdict.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The servers.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The fault.
    #[error(transparent)]
    Drill(#[from] DrillError),
    /// What was to be set up before.
    #[error(transparent)]
    Scene(#[from] SceneError),
    /// The load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The ledgers.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file or the terminal.
    #[error("could not write the run's results: {0}")]
    Write(#[from] io::Error),
}

/// Runs it, draws its end to `out`, and says what it proved.
///
/// # Errors
/// When the platform could not be started, loaded or read: nothing is proved then.
pub async fn run(demo: &DemoPlan, out: &mut impl Write) -> Result<Proof, DemoError> {
    say(&format!("seed {}: starting {} cells", demo.seed, demo.cells));
    let began = Instant::now();
    let options = StackOptions { keep: demo.keeps(), ..StackOptions::default() };
    let plan = PlatformPlan { cells: demo.cells, options, ..PlatformPlan::default() };
    let platform = Platform::start(plan).await?;
    let proof = on_platform(demo, &platform, began, out).await;
    if demo.keeps() {
        say(&format!("kept: {}", platform.stack().folder().display()));
    }
    platform.shutdown().await?;
    proof
}

async fn on_platform(
    demo: &DemoPlan,
    platform: &Platform,
    began: Instant,
    out: &mut impl Write,
) -> Result<Proof, DemoError> {
    let plan = Plan::draw(demo.seed, &demo.shape());
    let scene = Scene::open(platform).await?;
    let versions = versions::read(platform, &scene).await?;
    let staged = stage(demo, &plan, &scene).await?;
    let faults = Faults { seed: plan.provider_seed, ..demo.faults };
    platform.stack().set_faults(&faults).await?;
    let stores = scene.stores()?;
    let crowds = crowds(&plan, &staged, scene.expires_s)?;
    say(&format!("ready after {:.1} s, the sale starts", began.elapsed().as_secs_f64()));

    let routers = routers(platform)?;
    let load = Load::start(LoadPlan {
        routers,
        crowds,
        start: staged.start,
        give_up_after: GIVE_UP_AFTER,
        quiet_after: QUIET_AFTER,
    })?;
    let live = load.live();
    let field = Field {
        platform,
        live: &live,
        stores: &stores,
        org: MEGA_ORG,
        sale: &staged.sales[0].agreed.sale,
        buckets: &staged.sales[0].buckets,
        stock: demo.stock,
        filled: 0,
        cap: demo.cap,
        hold_ttl: demo.hold_ttl,
        lead: Duration::ZERO,
        moment: plan.moment,
        victim: plan.victim,
    };
    let (outcome, struck) = tokio::join!(watched(load, staged.start), strike(demo.drill, &field));
    let (mut outcome, struck) = (outcome?, struck?);
    say(&format!("quiet after {:.1} s, judging", began.elapsed().as_secs_f64()));

    let folder = platform.stack().folder();
    let agreed = staged.sales.iter().map(|sale| sale.agreed.clone()).collect();
    let told = std::mem::take(&mut outcome.told);
    let provider_file = folder.join("provider/ledger.jsonl");
    let evidence = judge::read(agreed, told, &provider_file, &stores).await?;
    if demo.keeps() {
        write_evidence(folder, &evidence)?;
    }
    let judgement = judge::judge(&evidence);
    let samples = &outcome.samples;
    let aftermath = Aftermath { evidence: &evidence, judgement: &judgement, samples, patience: 1 };
    let drill = struck.map(|struck| struck.report(&aftermath));
    let sales = (0..).zip(&staged.sales).filter_map(|(number, sale)| {
        Some(SaleReport { org: &sale.agreed.org, live: live.sale(number)? })
    });
    let report = Report {
        seed: demo.seed,
        versions,
        sales: sales.collect(),
        load: &outcome,
        judgement: &judgement,
        drill: drill.as_ref(),
    };
    report.draw(out, io::stdout().is_terminal())?;
    out.flush()?;
    Ok(report.proof())
}

/// The sales, and when the first one starts.
struct Staged {
    start: Instant,
    sales: [StagedSale; 2],
    signers: [Signer; 2],
}

async fn stage(demo: &DemoPlan, plan: &Plan, scene: &Scene<'_>) -> Result<Staged, DemoError> {
    let [mega_key, neighbour_key] = &plan.org_keys;
    let mega = Signer::of_org(MEGA_ORG, "k1", mega_key).map_err(SceneError::from)?;
    let cells = scene.register(MEGA_ORG, &mega).await?;
    let everyday = SaleTerms {
        class: Class::Standard,
        stock: NEIGHBOUR_STOCK,
        cap: 1,
        hold_ttl: demo.hold_ttl,
        keeping_time: KEEPING_TIME,
        admission_rate: demo.admission_rate,
        starts_in: Duration::ZERO,
        lasts: SALE_LASTS,
    };
    let (neighbour, everyday) = scene.neighbour(neighbour_key, &cells, &everyday).await?;
    let start = Instant::now() + demo.head_start;
    let terms = SaleTerms {
        class: Class::Flash,
        stock: demo.stock,
        cap: demo.cap,
        hold_ttl: demo.hold_ttl,
        keeping_time: KEEPING_TIME,
        admission_rate: demo.admission_rate,
        starts_in: demo.head_start,
        lasts: SALE_LASTS,
    };
    let sale = scene.sale(MEGA_ORG, &mega, &terms).await?;
    Ok(Staged { start, sales: [sale, everyday], signers: [mega, neighbour] })
}

fn crowds(plan: &Plan, staged: &Staged, expires_s: u64) -> Result<Vec<Crowd>, SceneError> {
    let crowd = |place: usize, buyers: &[BuyerPlan], connections, follows| {
        let (sale, signer) = (&staged.sales[place], &staged.signers[place]);
        let token = |subject: &str| bearer(&signer.token(subject, Role::Buyer, expires_s));
        let tokens = buyers.iter().map(|buyer| token(&format!("buyer-{}", buyer.number)));
        Ok::<_, SceneError>(Crowd {
            sale: sale.name.clone(),
            stock: sale.agreed.stock,
            buyers: buyers.to_vec(),
            tokens: tokens.collect::<Result<Vec<MetadataValue<Ascii>>, _>>()?,
            page_token: token("page")?,
            connections,
            follows,
            heeds_page: true,
        })
    };
    Ok(vec![
        crowd(0, &plan.crowd, CROWD_CONNECTIONS, false)?,
        crowd(1, &plan.neighbours, NEIGHBOUR_CONNECTIONS, true)?,
    ])
}

pub(crate) fn routers(platform: &Platform) -> Result<Vec<String>, LocalError> {
    let stack = platform.stack();
    let names = stack.names().into_iter();
    let routers = names.filter(|name| name == "router" || name.starts_with("router-"));
    routers.map(|name| Ok(stack.endpoint(&name)?.url)).collect()
}

/// Waits for the load's end, with a line of progress a second.
async fn watched(load: Load, start: Instant) -> Result<crate::load::LoadOutcome, LoadError> {
    let live = load.live();
    let mut outcome = std::pin::pin!(load.outcome());
    let mut seconds = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            outcome = &mut outcome => return outcome,
            _ = seconds.tick() => {
                if Instant::now() > start {
                    say(&live.line(start.elapsed().as_secs_f64()));
                }
            }
        }
    }
}

async fn strike(drill: Option<Drill>, field: &Field<'_>) -> Result<Option<Struck>, DrillError> {
    match drill {
        Some(drill) => drill.strike(field).await.map(Some),
        None => Ok(None),
    }
}

/// Where a run folder keeps what a run proved: [`reread`] reads it again.
pub(crate) fn write_evidence(folder: &Path, evidence: &Evidence) -> io::Result<()> {
    told::write(&folder.join(TOLD_FILE), &evidence.told)?;
    let rest = Evidence { told: Vec::new(), ..evidence.clone() };
    std::fs::write(folder.join(EVIDENCE_FILE), serde_json::to_vec(&rest)?)
}

const TOLD_FILE: &str = "told.jsonl";
const EVIDENCE_FILE: &str = "evidence.json";

/// Reads the evidence of a run folder that was kept.
///
/// # Errors
/// When its files are not there or hold something else.
pub fn reread(folder: &Path) -> io::Result<Evidence> {
    let file: PathBuf = folder.join(EVIDENCE_FILE);
    let mut evidence: Evidence = serde_json::from_slice(&std::fs::read(file)?)?;
    evidence.told = told::read(&folder.join(TOLD_FILE))?;
    Ok(evidence)
}

/// Tells the people in front of the terminal what goes on.
fn say(line: &str) {
    // Without a standard error there is nobody to tell.
    writeln!(io::stderr(), "{line}").ok();
}
