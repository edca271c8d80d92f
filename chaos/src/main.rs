//! `floodgate-chaos`: the demo, drills, and the judge by itself.
//!
//! Exit codes: 0 every invariant was kept, 1 something is broken, 2 the run was void, 3 there was no verdict.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use floodgate_chaos::demo::{self, DemoPlan};
use floodgate_chaos::drill::Drill;
use floodgate_chaos::judge;
use floodgate_chaos::report::Proof;
use rand::RngExt;

/// There was no verdict.
const NO_VERDICT: u8 = 3;

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
    /// The same with a fault; without a name, what there is.
    Drill {
        /// Which.
        name: Option<Drill>,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Judges a run whose folder was kept once more.
    Judge {
        /// The run folder.
        #[arg(long)]
        folder: PathBuf,
    },
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

/// A call allocates some fifty times; this costs the least of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(proof) => ExitCode::from(proof.exit_code()),
        Err(error) => {
            // Without a standard error there is nobody to tell.
            writeln!(io::stderr(), "no verdict: {error:#}").ok();
            ExitCode::from(NO_VERDICT)
        }
    }
}

fn run(command: Command) -> anyhow::Result<Proof> {
    match command {
        Command::Demo { run, drill } => play(&run, drill),
        Command::Drill { name: Some(drill), run } => play(&run, Some(drill)),
        Command::Drill { name: None, .. } => list(),
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

fn list() -> anyhow::Result<Proof> {
    let mut out = io::stdout().lock();
    for drill in Drill::ALL {
        writeln!(out, "{:<20} {}", drill.name(), drill.hypothesis())?;
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
