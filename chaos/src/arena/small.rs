//! Small sales: many at a time on one platform, each of a few units in up to four buckets and with more buyers than
//! that, most of whom belong to one bucket.
//!
//! No fault strikes. What is tried is the end of a sale: units that are given back, or that lie where nobody waits, must
//! find a buyer until the last one is paid for, and nobody may hear SOLD_OUT before that. Every sale is drawn from a
//! number of its own, the seed counted up, and judged by itself; payments that no sale knows are looked for at the end.

mod flow;
mod sale;
mod shape;
mod tally;

use std::collections::HashSet;
use std::io::Write;

use futures_util::stream::{self, StreamExt};
use local::{Faults, PlaneExtras, Platform, PlatformPlan, StackOptions};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{ArenaError, ORG, keep_evidence, leave, tell_kept};
use crate::identity::Signer;
use crate::judge;
use crate::report::Proof;
use crate::scene::{Scene, SceneError};
use tally::Tally;

/// Its name on the command line.
pub const NAME: &str = "small-sales";

/// What is believed before.
pub const HYPOTHESIS: &str =
    "every one of many small sales at a time sells out exactly, and nobody hears SOLD_OUT before";

/// Units of a sale, at most; and of one of its buckets.
const UNITS_MAX: u32 = 50;
const BUCKET_UNITS_MAX: u32 = 13;

/// What many small sales are made of.
#[derive(Clone, Debug, PartialEq)]
pub struct SmallPlan {
    /// How many.
    pub sales: u32,
    /// How many at a time.
    pub at_once: usize,
    /// Buyers of each.
    pub buyers: u32,
    /// What the first sale is drawn from; the others from the numbers after it.
    pub seed: u64,
    /// Whether the run folder stays whatever happens. It stays when something is broken.
    pub keep: bool,
    /// How many times longer than believed a sale may take: 1 where time is measured, more where it is not.
    pub patience: u32,
    /// What is done to the Postgres of every cell before the judge comes to a sale: see [`super::ArenaPlan::damage`].
    pub damage: Option<&'static str>,
}

impl SmallPlan {
    /// Sales as they are shown.
    pub fn new(sales: u32, seed: u64) -> SmallPlan {
        SmallPlan { sales, at_once: 20, buyers: 100, seed, keep: false, patience: 1, damage: None }
    }
}

/// Sells all of them, with a line for each, draws what they add up to, and says what they proved.
///
/// # Errors
/// When the platform could not be started, or a sale could not be brought to its end.
pub async fn run(plan: &SmallPlan, out: &mut impl Write) -> Result<Proof, ArenaError> {
    let platform = Platform::start(platform_plan(plan)).await?;
    let tally = on_platform(plan, &platform, out).await;
    let keep = plan.keep || !matches!(&tally, Ok(tally) if tally.proof() == Proof::Kept);
    let kept = leave(platform, keep).await?;
    let tally = tally?;
    tally.draw(out)?;
    tell_kept(kept, out)?;
    Ok(tally.proof())
}

async fn on_platform(
    plan: &SmallPlan,
    platform: &Platform,
    out: &mut impl Write,
) -> Result<Tally, ArenaError> {
    let began = std::time::Instant::now();
    let scene = Scene::open(platform).await?;
    let mut draws = StdRng::seed_from_u64(plan.seed);
    let signer = Signer::of_org(ORG, "k1", &draws.random()).map_err(SceneError::from)?;
    scene.register(ORG, &signer).await?;
    let faults = Faults {
        latency_ms: 50,
        latency_jitter_ms: 20,
        decline_rate: 0.02,
        error_rate: 0.01,
        lost_reply_rate: 0.01,
        seed: draws.random(),
        ..Faults::default()
    };
    let stack = platform.stack();
    stack.set_faults(&faults).await?;
    let street = sale::Street { plan, platform, scene, signer };
    let numbers = stream::iter((0..u64::from(plan.sales)).map(|number| plan.seed + number));
    let mut sales =
        numbers.map(|seed| street.sell(seed)).buffer_unordered(plan.at_once.max(1)).boxed_local();
    let mut tally = Tally::new(plan.at_once);
    let mut claimed = HashSet::new();
    while let Some((seed, ended)) = sales.next().await {
        let folder = stack.folder();
        let (mut sold, evidence) = ended.map_err(|source| {
            let folder = folder.to_owned();
            ArenaError::Trial { seed, folder, source: Box::new(source) }
        })?;
        if sold.proof() == Proof::Broken || plan.keep {
            sold.evidence = Some(keep_evidence(platform, &format!("sale-{seed}"), &evidence)?);
        }
        claimed.extend(evidence.intents.into_iter().map(|intent| intent.id));
        writeln!(out, "{sold}")?;
        out.flush()?;
        tally.add(&sold);
    }
    drop(sales);
    for intent in judge::read_provider(&sale::provider_file(platform))? {
        if !claimed.contains(&intent.id) && intent.unrefunded_captures() > 0 {
            tally.flaws.push(format!("payment {} took money for no order of any sale", intent.id));
        }
    }
    let exited = stack.exited().into_iter();
    tally.flaws.extend(exited.map(|(name, state)| format!("{name} is {state}")));
    tally.took = began.elapsed();
    Ok(tally)
}

fn platform_plan(plan: &SmallPlan) -> PlatformPlan {
    let flags = |words: &[&str]| PlaneExtras {
        args: words.iter().map(|word| (*word).to_owned()).collect(),
        ..PlaneExtras::default()
    };
    let bucket_units = BUCKET_UNITS_MAX.to_string();
    PlatformPlan {
        cells: 2,
        processes: 2,
        control_plane: flags(&["--cells-per-org", "2", "--bucket-units-max", &bucket_units]),
        router: flags(&["--sale-calls-per-s", "1000000"]),
        options: StackOptions { keep: plan.keep, ..StackOptions::default() },
        ..PlatformPlan::default()
    }
}
