//! The arena: one platform and many trials of one drill on it, each on a sale of its own, each judged by itself.
//!
//! A trial is a sale, a crowd that buys through the router, a fault at a drawn moment, and the judge's verdict on all
//! invariants when everything is quiet again. Every trial is drawn from a number of its own, which its line tells: the
//! arena's seed counted up. A trial in which the fault was not where it should have been is void; another follows it.
//!
//! Without a fault, but with many sales at a time: [`small`].

mod evidence;
pub mod small;
mod tally;
mod trial;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use local::{LocalError, PlaneExtras, Platform, PlatformPlan, StackOptions};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::demo::write_evidence;
use crate::drill::{Drill, DrillError, Setup, Special};
use crate::identity::Signer;
use crate::judge::{Evidence, ReadError};
use crate::load::LoadError;
use crate::report::Proof;
use crate::scene::{Scene, SceneError};

pub use tally::Tally;
pub use trial::Trial;

/// The org of all trials.
const ORG: &str = "arena";

/// One void trial more than this for every so many wanted ones, and the arena proves nothing.
const VOID_TRIALS_MIN: u32 = 3;
const TRIALS_A_VOID: u32 = 4;

/// What an arena is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct ArenaPlan {
    /// The fault.
    pub drill: Drill,
    /// Trials that are not void.
    pub trials: u32,
    /// What the first trial is drawn from; the others from the numbers after it.
    pub seed: u64,
    /// Whether the run folder stays whatever happens. It stays when something is broken.
    pub keep: bool,
    /// The platform, the sales and the crowds.
    pub setup: Setup,
    /// How many times longer than believed a recovery may take: 1 where time is measured, more where it is not.
    pub patience: u32,
    /// What is done to a cell's Postgres before the judge comes, to the sale `current_setting('arena.sale')`: a verdict
    /// that cannot fail would be none.
    pub damage: Option<&'static str>,
}

impl ArenaPlan {
    /// Trials as they are shown; none when the drill strikes in a demo only.
    pub fn new(drill: Drill, trials: u32, seed: u64) -> Option<ArenaPlan> {
        let setup = drill.setup()?;
        Some(ArenaPlan { drill, trials, seed, keep: false, setup, patience: 1, damage: None })
    }

    fn voids_max(&self) -> u32 {
        VOID_TRIALS_MIN + self.trials / TRIALS_A_VOID
    }
}

/// Why an arena came to no verdict.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
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
    #[error("could not write the trials' results: {0}")]
    Write(#[from] io::Error),
    /// In the middle of a trial; the run folder was kept.
    #[error("in the trial of seed {seed}, of which {} is left: {source}", folder.display())]
    Trial {
        /// What the trial was drawn from.
        seed: u64,
        /// The run folder.
        folder: PathBuf,
        /// What happened.
        source: Box<ArenaError>,
    },
}

impl ArenaError {
    /// Whether the machine cannot do what the drill needs.
    pub fn is_not_here(&self) -> bool {
        match self {
            ArenaError::Trial { source, .. } => source.is_not_here(),
            ArenaError::Local(error) | ArenaError::Drill(DrillError::Local(error)) => {
                matches!(error, LocalError::NotHere(_))
            }
            ArenaError::Drill(DrillError::NotHere(_)) => true,
            _ => false,
        }
    }
}

/// Runs the trials, with a line for each, draws what they add up to, and says what they proved.
///
/// # Errors
/// When the platform could not be started, or a trial could not be brought to its end.
pub async fn run(plan: &ArenaPlan, out: &mut impl Write) -> Result<Proof, ArenaError> {
    let platform = Platform::start(platform_plan(plan)).await?;
    let tally = on_platform(plan, &platform, out).await;
    let keep = plan.keep || !matches!(&tally, Ok(tally) if tally.proof() != Proof::Broken);
    let kept = leave(platform, keep).await?;
    let tally = tally?;
    tally.draw(out)?;
    tell_kept(kept, out)?;
    Ok(tally.proof())
}

/// Ends the platform; its run folder, if that is to be kept.
async fn leave(platform: Platform, keep: bool) -> Result<Option<PathBuf>, LocalError> {
    let folder = platform.stack().folder().to_owned();
    if keep {
        platform.stack().keep();
    }
    platform.shutdown().await?;
    Ok(keep.then_some(folder))
}

fn tell_kept(folder: Option<PathBuf>, out: &mut impl Write) -> io::Result<()> {
    if let Some(folder) = folder {
        writeln!(out, "kept: {}", folder.display())?;
    }
    out.flush()
}

/// Writes what the judge saw into a folder of its own inside the run folder, which is what is returned.
fn keep_evidence(platform: &Platform, name: &str, evidence: &Evidence) -> io::Result<PathBuf> {
    let folder = platform.stack().folder().join(name);
    std::fs::create_dir_all(&folder)?;
    write_evidence(&folder, evidence)?;
    Ok(folder)
}

async fn on_platform(
    plan: &ArenaPlan,
    platform: &Platform,
    out: &mut impl Write,
) -> Result<Tally, ArenaError> {
    let scene = Scene::open(platform).await?;
    let mut draws = StdRng::seed_from_u64(plan.seed);
    let signer = Signer::of_org(ORG, "k1", &draws.random()).map_err(SceneError::from)?;
    scene.register(ORG, &signer).await?;
    let arena = trial::Arena { plan, platform, scene, signer };
    let mut tally = Tally::new(plan.drill);
    for number in 0.. {
        if tally.counted() >= plan.trials || tally.voids() > plan.voids_max() {
            break;
        }
        let seed = plan.seed + number;
        let folder = platform.stack().folder();
        let ended = arena.trial(seed).await;
        let (mut trial, evidence) = ended.map_err(|source| {
            let folder = folder.to_owned();
            ArenaError::Trial { seed, folder, source: Box::new(source) }
        })?;
        trial.number = number + 1;
        if trial.proof() == Proof::Broken || plan.keep {
            trial.evidence = Some(keep_evidence(platform, &format!("trial-{seed}"), &evidence)?);
        }
        writeln!(out, "{trial}")?;
        out.flush()?;
        tally.add(&trial);
    }
    tally.missing = tally.counted() < plan.trials;
    Ok(tally)
}

fn platform_plan(plan: &ArenaPlan) -> PlatformPlan {
    let Setup { cells, processes, routers, special, .. } = plan.setup;
    let mut options = StackOptions { keep: plan.keep, ..StackOptions::default() };
    match special {
        Special::SmallWal(bytes) => {
            options.postgres_wal_bytes_max = Some(bytes);
            // The log must not outgrow its file system by itself.
            let max_mb = (bytes / 4 / (1 << 20)).max(32);
            options.postgres_settings = [("max_wal_size", max_mb), ("min_wal_size", 32)]
                .map(|(name, mb)| (name.to_owned(), format!("{mb}MB")))
                .into();
        }
        Special::Clocks => options.postgres_clock = true,
        Special::None | Special::Relays => {}
    }
    // Buyers who come before the crowd come fast.
    let router = ["--sale-calls-per-s", "1000000"];
    let control_plane = ["--cells-per-org", &cells.to_string()];
    let flags = |words: [&str; 2]| PlaneExtras {
        args: words.map(str::to_owned).into(),
        ..PlaneExtras::default()
    };
    PlatformPlan {
        cells,
        processes,
        routers,
        relays: special == Special::Relays,
        control_plane: flags(control_plane),
        router: flags(router),
        options,
        ..PlatformPlan::default()
    }
}

/// How long a sale of a trial may take until the last buyer gives up, and then until all is quiet.
const CROWD_LIMIT: Duration = Duration::from_secs(40);
const QUIET_LIMIT: Duration = Duration::from_secs(20);
