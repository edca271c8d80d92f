//! A process of a cell.

use floodgate_cell::{config::Config, stack};
use std::process::ExitCode;

/// A call allocates some fifty times; this costs the least of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config = match runtime::config::parse::<Config>() {
        Ok(config) => config,
        Err(code) => return code,
    };
    // The provider is reached by TLS; whoever installed a provider of cryptography before us is welcome to it.
    drop(rustls::crypto::ring::default_provider().install_default());
    let args = config.process_args.clone();
    runtime::process::run_with(
        "cell",
        env!("CARGO_PKG_VERSION"),
        &args,
        stack::admin(),
        |context| stack::run(config, context),
    )
}
