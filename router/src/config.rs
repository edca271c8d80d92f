//! What a router is started with.

use proto::limits::{BUYER_CALLS_BURST, BUYER_CALLS_PER_S, SALE_CALLS_PER_S};
use runtime::config::ProcessArgs;

/// A Floodgate edge router.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "floodgate-router", version, about)]
pub struct Config {
    /// What every process is started with
    #[command(flatten)]
    pub process_args: ProcessArgs,

    /// Addresses of etcd
    #[arg(
        long,
        env = "FLOODGATE_ETCD",
        value_name = "URL",
        value_delimiter = ',',
        required = true
    )]
    pub etcd: Vec<String>,

    /// Calls a second that one buyer may make
    #[arg(long, env = "FLOODGATE_BUYER_CALLS_PER_S", default_value_t = BUYER_CALLS_PER_S, value_name = "N")]
    pub buyer_calls_per_s: u32,

    /// Calls that one buyer may make at once
    #[arg(long, env = "FLOODGATE_BUYER_CALLS_BURST", default_value_t = BUYER_CALLS_BURST, value_name = "N")]
    pub buyer_calls_burst: u32,

    /// Calls a second for one sale that are passed on
    #[arg(long, env = "FLOODGATE_SALE_CALLS_PER_S", default_value_t = SALE_CALLS_PER_S, value_name = "N")]
    pub sale_calls_per_s: u32,

    /// Origins whose pages may call from a browser; * is any, and nothing is none
    #[arg(
        long,
        env = "FLOODGATE_CORS_ORIGINS",
        default_value = "*",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    pub cors_origins: Vec<String>,

    /// Answer probes without a token: for measuring the way without its checks, never on a public port
    #[arg(long, env = "FLOODGATE_OPEN_PROBE")]
    pub open_probe: bool,
}
