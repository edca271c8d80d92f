//! What a cell process is started with.

use proto::id::{CellId, ProcessId};
use runtime::config::ProcessArgs;

/// A process of a Floodgate cell.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "floodgate-cell", version, about)]
pub struct Config {
    /// What every process is started with
    #[command(flatten)]
    pub process_args: ProcessArgs,

    /// The cell that this process belongs to
    #[arg(long, env = "FLOODGATE_CELL", value_name = "CELL")]
    pub cell: CellId,

    /// The name of this process within its cell
    #[arg(long, env = "FLOODGATE_PROCESS", value_name = "PROCESS")]
    pub process: ProcessId,

    /// Where routers reach this process, when that differs from --listen
    #[arg(long, env = "FLOODGATE_ADVERTISE", value_name = "URL")]
    pub advertise: Option<String>,

    /// Addresses of etcd
    #[arg(
        long,
        env = "FLOODGATE_ETCD",
        value_name = "URL",
        value_delimiter = ',',
        required = true
    )]
    pub etcd: Vec<String>,

    /// The cell's Redis
    #[arg(long, env = "FLOODGATE_REDIS", value_name = "URL")]
    pub redis: String,

    /// The cell's Postgres
    #[arg(long, env = "FLOODGATE_POSTGRES", value_name = "URL")]
    pub postgres: String,

    /// Calls in one batch at most: fewer make each Redis call shorter and everything else dearer
    #[arg(
        long,
        env = "FLOODGATE_BATCH_CALLS_MAX",
        value_name = "N",
        default_value_t = 256,
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    pub batch_calls_max: u16,

    /// The payment provider
    #[arg(long, env = "FLOODGATE_PROVIDER", value_name = "URL")]
    pub provider: String,
}
