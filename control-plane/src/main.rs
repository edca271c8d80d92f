//! Starts the control plane.

use std::process::ExitCode;

use floodgate_control_plane::config::Args;
use floodgate_control_plane::serve;
use runtime::config::BAD_CONFIG;
use runtime::process::Context;

fn main() -> ExitCode {
    let args: Args = match runtime::config::parse() {
        Ok(args) => args,
        Err(code) => return code,
    };
    let config = match args.config() {
        Ok(config) => config,
        Err(error) => {
            // There is no log yet, and without a standard error there is nobody to tell.
            drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{error}\n")));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let version = env!("CARGO_PKG_VERSION");
    runtime::process::run("control-plane", version, &args.process, |context| async move {
        let Context { listener, server, clock, metrics, drain, .. } = context;
        serve(listener, server, config, clock, metrics, drain).await
    })
}
