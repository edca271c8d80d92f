//! `floodgate`: the command line of merchants and operators.
//!
//! A noun, a verb, and what they need. Data goes to standard output, as a table or as JSON in the shape of protobuf's
//! JSON mapping; everything else goes to standard error. What went wrong is told by the exit code, see [`failure`].

mod failure;
mod input;
mod ledger;
mod line;
mod noun;
mod output;
mod view;

use std::process::ExitCode;

use clap::Parser;

use failure::Failure;
use line::Reach;
use noun::Noun;
use output::{Format, Output};

/// Plan and steer flash sales, register orgs, look at the fleet
#[derive(Debug, Parser)]
#[command(name = "floodgate", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    reach: Reach,

    /// How answers are written
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, help_heading = "Everywhere")]
    output: Format,

    #[command(subcommand)]
    noun: Noun,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.tell();
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::io("start"))?;
    runtime.block_on(cli.noun.run(&cli.reach, &Output::new(cli.output)))
}
