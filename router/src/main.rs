//! An edge router.

use floodgate_router::{config::Config, stack};
use runtime::config::BAD_CONFIG;
use std::process::ExitCode;

/// A call allocates some fifty times; this costs the least of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config = match runtime::config::parse::<Config>() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let tls = match config.cell_tls() {
        Ok(tls) => tls,
        Err(error) => {
            // There is no log yet, and without a standard error there is nobody to tell.
            drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{error}\n")));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let args = config.process_args.clone();
    runtime::process::run("router", env!("CARGO_PKG_VERSION"), &args, |context| {
        stack::run(config, tls, context)
    })
}
