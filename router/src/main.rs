//! An edge router.

use floodgate_router::{config::Config, stack};
use std::process::ExitCode;

/// A call allocates some fifty times; this costs the least of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config = match runtime::config::parse::<Config>() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let args = config.process_args.clone();
    runtime::process::run("router", env!("CARGO_PKG_VERSION"), &args, |context| {
        stack::run(config, context)
    })
}
