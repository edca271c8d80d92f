//! `floodgate-chaos`: the demo, drills, attacks, and the judge by itself.
//!
//! Exit codes: 0 every invariant was kept, 1 something is broken, 2 the run was void, 3 there was no verdict, 4 this
//! machine cannot do what a drill needs.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use floodgate_chaos::arena::small::{self, SmallPlan};
use floodgate_chaos::arena::{self, ArenaError, ArenaPlan};
use floodgate_chaos::attack::{self, Attack, AttackPlan};
use floodgate_chaos::demo::{self, DemoPlan};
use floodgate_chaos::drill::Drill;
use floodgate_chaos::judge;
use floodgate_chaos::report::Proof;
use rand::RngExt;

/// There was no verdict.
const NO_VERDICT: u8 = 3;

/// A drill needs what this machine has not.
const NOT_HERE: u8 = 4;

/// Seeds that are made up are short enough to be typed again.
const SEED_MAX: u64 = 1_000_000;

/// Tries to prove Floodgate wrong.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A mega-sale beside everyday commerce on a whole platform, and the verdict.
    Demo {
        #[command(flatten)]
        run: RunArgs,
        /// A fault in the middle of it.
        #[arg(long, env = "DRILL")]
        drill: Option<Drill>,
    },
    /// Trials of a fault, each on a sale of its own, or many small sales; without a name, what there is.
    Drill {
        /// Which.
        #[arg(value_parser = what_of)]
        name: Option<What>,
        #[command(flatten)]
        run: RunArgs,
        #[command(flatten)]
        trials: TrialArgs,
    },
    /// Attacks on a router's port, and what became of them; without a name, what there is.
    Attack {
        /// Which, or `all`.
        #[arg(value_parser = attacks_of)]
        name: Option<Attacks>,
        /// Connections of each at a time.
        #[arg(long, default_value_t = 100)]
        connections: usize,
        /// How long each goes on.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// Keep the run folder.
        #[arg(long)]
        keep: bool,
    },
    /// Judges a run whose folder was kept once more.
    Judge {
        /// The run folder.
        #[arg(long)]
        folder: PathBuf,
    },
}

/// What is tried out.
#[derive(Clone, Copy, Debug)]
enum What {
    Fault(Drill),
    SmallSales,
}

fn what_of(name: &str) -> Result<What, String> {
    match name {
        small::NAME => Ok(What::SmallSales),
        fault => Drill::from_str(fault, false).map(What::Fault),
    }
}

/// One attack or all.
#[derive(Clone, Debug)]
struct Attacks(Vec<Attack>);

fn attacks_of(name: &str) -> Result<Attacks, String> {
    match name {
        "all" => Ok(Attacks(Attack::ALL.to_vec())),
        one => Attack::from_str(one, false).map(|attack| Attacks(vec![attack])),
    }
}

#[derive(Debug, Args)]
struct RunArgs {
    /// What everything is drawn from; one is made up when there is none.
    #[arg(long, env = "SEED")]
    seed: Option<u64>,
    /// Keep the run folder.
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Args)]
struct TrialArgs {
    /// How many trials; a void one is followed by another.
    #[arg(long, default_value_t = 1)]
    trials: u32,
    /// Only the trial of this number.
    #[arg(long)]
    trial: Option<u32>,
    /// Buyers of each sale who hold a unit and never come back, before its crowd comes.
    #[arg(long)]
    live_orders: Option<u32>,
    /// Small sales at a time.
    #[arg(long)]
    at_once: Option<usize>,
}

/// A call allocates some fifty times; this costs the least of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(proof) => ExitCode::from(proof.exit_code()),
        Err(error) => {
            // Without a standard error there is nobody to tell.
            writeln!(io::stderr(), "no verdict: {error:#}").ok();
            let arena = error.downcast_ref::<ArenaError>();
            let not_here = arena.is_some_and(ArenaError::is_not_here);
            ExitCode::from(if not_here { NOT_HERE } else { NO_VERDICT })
        }
    }
}

fn run(command: Command) -> anyhow::Result<Proof> {
    match command {
        Command::Demo { run, drill } => play(&run, drill),
        Command::Drill { name: Some(What::Fault(drill)), run, trials } => {
            try_out(&run, &trials, drill)
        }
        Command::Drill { name: Some(What::SmallSales), run, trials } => sell(&run, &trials),
        Command::Drill { name: None, .. } => list(),
        Command::Attack { name: Some(Attacks(attacks)), connections, seconds, keep } => {
            let lasts = Some(Duration::from_secs(seconds));
            strike(&AttackPlan { connections, lasts, keep, ..AttackPlan::new(attacks) })
        }
        Command::Attack { name: None, .. } => list_attacks(),
        Command::Judge { folder } => again(&folder),
    }
}

fn play(args: &RunArgs, drill: Option<Drill>) -> anyhow::Result<Proof> {
    let seed = args.seed.unwrap_or_else(|| rand::rng().random_range(0..SEED_MAX));
    let plan = DemoPlan { drill, keep: args.keep, ..DemoPlan::new(seed) };
    // The load has a thread of its own; this one only starts, hurts and reads servers.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let proof = runtime.block_on(demo::run(&plan, &mut io::stdout().lock()));
    proof.with_context(|| format!("the run with seed {seed}"))
}

/// One platform for all trials; a demo for each where a drill leaves nothing behind that could go on.
fn try_out(args: &RunArgs, trials: &TrialArgs, drill: Drill) -> anyhow::Result<Proof> {
    let (first, count) = seeds(args, trials);
    let Some(plan) = ArenaPlan::new(drill, count, first) else {
        for trial in 0..u64::from(count) {
            let args = RunArgs { seed: Some(first + trial), keep: args.keep };
            match play(&args, Some(drill))? {
                Proof::Kept => {}
                proof => return Ok(proof),
            }
        }
        return Ok(Proof::Kept);
    };
    let mut plan = ArenaPlan { keep: args.keep, ..plan };
    if let Some(orders) = trials.live_orders {
        plan.setup.live_orders = orders;
        // With one bucket they are all where the drill strikes.
        plan.setup.cells = 1;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let proof = runtime.block_on(arena::run(&plan, &mut io::stdout().lock()));
    proof.with_context(|| format!("the trials from seed {first} on"))
}

/// A sale for each trial.
fn sell(args: &RunArgs, trials: &TrialArgs) -> anyhow::Result<Proof> {
    let (first, count) = seeds(args, trials);
    let plan = SmallPlan::new(count, first);
    let at_once = trials.at_once.unwrap_or(plan.at_once);
    let plan = SmallPlan { keep: args.keep, at_once, ..plan };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let proof = runtime.block_on(small::run(&plan, &mut io::stdout().lock()));
    proof.with_context(|| format!("the sales from seed {first} on"))
}

/// What the first trial is drawn from, and how many there are.
fn seeds(args: &RunArgs, trials: &TrialArgs) -> (u64, u32) {
    let seed = args.seed.unwrap_or_else(|| rand::rng().random_range(0..SEED_MAX));
    match trials.trial {
        Some(number) => (seed + u64::from(number.saturating_sub(1)), 1),
        None => (seed, trials.trials),
    }
}

fn list() -> anyhow::Result<Proof> {
    let mut out = io::stdout().lock();
    writeln!(out, "{:<20} {}", small::NAME, small::HYPOTHESIS)?;
    for drill in Drill::ALL {
        writeln!(out, "{:<20} {}", drill.name(), drill.hypothesis())?;
    }
    Ok(Proof::Kept)
}

fn strike(plan: &AttackPlan) -> anyhow::Result<Proof> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(attack::run(plan, &mut io::stdout().lock()))?)
}

fn list_attacks() -> anyhow::Result<Proof> {
    let mut out = io::stdout().lock();
    for attack in Attack::ALL {
        writeln!(out, "{:<20} {}", attack.name(), attack.hypothesis())?;
    }
    Ok(Proof::Kept)
}

fn again(folder: &Path) -> anyhow::Result<Proof> {
    let evidence = demo::reread(folder).with_context(|| {
        format!("{} is not the folder of a run that was kept", folder.display())
    })?;
    let judgement = judge::judge(&evidence);
    let mut out = io::stdout().lock();
    for violation in &judgement.violations {
        writeln!(out, "broken: {violation}")?;
    }
    for verdict in judgement.verdicts.iter().take(1) {
        writeln!(out, "{verdict}")?;
    }
    Ok(if judgement.is_clean() { Proof::Kept } else { Proof::Broken })
}
