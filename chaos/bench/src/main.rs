//! Measures Floodgate against its budgets, each beside the yardstick that it is compared with, in one run.
//!
//! A figure is a line `bench NAME VALUE UNIT (budget BUDGET) ok|short`, with how it was taken below it. Absolute figures
//! drift with the machine; the ratios of one run are the facts. Nothing here is a test: a figure that falls short is
//! printed, and the exit code is 0 when all were taken.

mod bare;
mod calls;
mod cgroup;
mod chart;
mod cpu;
mod depth;
mod edge;
mod expiry;
mod figure;
mod goodput;
mod h2load;
mod memory;
mod neighbours;
mod open;
mod overload;
mod peak;
mod platform;
mod roads;
mod sale;
mod script;
mod stats;
mod stock;
mod watchers;

use anyhow::Result;
use clap::Parser;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, Parser)]
#[command(name = "floodgate-bench", version, about = "Measures Floodgate against its budgets")]
struct Args {
    /// Seconds that each figure is taken over
    #[arg(long, env = "FLOODGATE_BENCH_S", default_value_t = 6)]
    seconds: u64,
    /// Only figures whose group is named here: edge, stock (of which expiry is a part), depth, platform, watchers,
    /// overload, neighbours
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Watchers of the group watchers
    #[arg(long, default_value_t = proto::limits::WATCHERS_MAX)]
    watchers: usize,
    /// Of these, clients of events on sockets of their own
    #[arg(long, default_value_t = 20_000)]
    sockets: usize,
    /// Serve the bare yardstick at this address and nothing else
    #[arg(long, hide = true)]
    bare: Option<SocketAddr>,
    /// The certificate of the bare yardstick, which then speaks TLS, ...
    #[arg(long, hide = true, requires = "bare_key")]
    bare_cert: Option<PathBuf>,
    /// ... and its key
    #[arg(long, hide = true)]
    bare_key: Option<PathBuf>,
    /// Flood the routers at these addresses, as we are told, and nothing else
    #[arg(long, hide = true, requires = "flood_sale")]
    flood: Option<String>,
    /// The flood's sale
    #[arg(long, hide = true)]
    flood_sale: Option<String>,
}

/// A call allocates some fifty times; this costs the least of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let args = Args::parse();
    let args = match args.bare {
        Some(address) => return bare::serve(address, args.bare_cert.zip(args.bare_key)),
        None => args,
    };
    // One thread, so that the load is no heavier than it must be.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let (Some(url), Some(sale)) = (&args.flood, &args.flood_sale) {
        return runtime.block_on(neighbours::serve(url, sale));
    }
    runtime.block_on(measure(&args))
}

async fn measure(args: &Args) -> Result<()> {
    let wanted = |group: &str| args.only.is_empty() || args.only.iter().any(|only| only == group);
    if wanted("edge") {
        edge::measure(args.seconds).await?;
    }
    if wanted("stock") {
        stock::measure(args.seconds).await?;
    }
    if wanted("stock") || wanted("expiry") {
        expiry::measure().await?;
    }
    if wanted("depth") {
        depth::measure(args.seconds).await?;
    }
    if wanted("platform") {
        platform::measure(args.seconds).await?;
    }
    if wanted("watchers") {
        watchers::measure(args.watchers, args.sockets).await?;
    }
    if wanted("overload") {
        overload::measure(args.seconds).await?;
    }
    if wanted("neighbours") {
        neighbours::measure().await?;
    }
    Ok(())
}
