//! What every process is started with, as flags or as environment variables.
//!
//! A flag wins over its variable, which wins over the default. A configuration that cannot be
//! understood ends the process with [`BAD_CONFIG`] before it has bound or opened anything.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::server::ServerOptions;
use crate::tls::{TlsError, TlsFiles, TlsServer};

/// The exit code of a process that cannot understand its configuration (`EX_USAGE`).
pub const BAD_CONFIG: u8 = 64;

/// The part of the configuration that all planes share; flatten it into the plane's own.
#[derive(Clone, Debug, clap::Args)]
pub struct ProcessArgs {
    /// Address that calls arrive at; port 0 picks a free one
    #[arg(long, env = "FLOODGATE_LISTEN", default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// Address of /metrics, /livez and /readyz; port 0 picks a free one
    #[arg(
        long,
        env = "FLOODGATE_METRICS_LISTEN",
        default_value = "127.0.0.1:0",
        value_name = "ADDRESS"
    )]
    pub metrics_listen: SocketAddr,

    /// Who may connect to the address that calls arrive at
    #[command(flatten)]
    pub port: PortArgs,

    /// Folder for what this process remembers over a restart; made when missing
    #[arg(long, env = "FLOODGATE_DATA_DIR", default_value = "data", value_name = "FOLDER")]
    pub data_dir: PathBuf,

    /// Collector of traces, like http://host:4317; without one nothing is traced
    #[arg(long, env = "FLOODGATE_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,

    /// Share of the calls entering here that are traced
    #[arg(
        long,
        env = "FLOODGATE_TRACE_RATIO",
        default_value_t = 0.01,
        value_parser = ratio,
        value_name = "0..1"
    )]
    pub trace_ratio: f64,

    /// What is logged, like info or info,floodgate_cell=debug
    #[arg(long, env = "FLOODGATE_LOG", default_value = "info", value_name = "DIRECTIVES")]
    pub log: String,

    /// Threads that run calls; 1 runs everything on one thread, 0 means one per processor
    #[arg(long, env = "FLOODGATE_THREADS", default_value_t = 0, value_name = "N")]
    pub threads: usize,

    /// Milliseconds between becoming unready and refusing new work, when told to stop
    #[arg(long, env = "FLOODGATE_DRAIN_NOTICE_MS", default_value_t = 0, value_name = "MS")]
    pub drain_notice_ms: u64,

    /// Milliseconds that work under way may take to end, when told to stop
    #[arg(long, env = "FLOODGATE_DRAIN_GRACE_MS", default_value_t = 10_000, value_name = "MS")]
    pub drain_grace_ms: u64,
}

/// Who may connect to the port that calls arrive at, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct PortArgs {
    /// Connections open at once; further ones are closed at once
    #[arg(long, env = "FLOODGATE_CONNECTIONS_MAX", value_name = "N", default_value_t = 32_768)]
    pub connections_max: usize,

    /// Of these, connections of one IPv4 address or IPv6 network of 64 bits; 0 behind a balancer, where all have the same
    #[arg(
        long,
        env = "FLOODGATE_CONNECTIONS_PER_ADDRESS_MAX",
        value_name = "N",
        default_value_t = 1_024
    )]
    pub connections_per_address_max: u32,

    /// File with the certificate that this port is known by, and those between it and its CA, in PEM; without it no TLS is spoken
    #[arg(long, env = "FLOODGATE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// File with its private key, in PEM
    #[arg(long, env = "FLOODGATE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// File with the CA of those who may connect, in PEM; without it they need no certificate
    #[arg(long, env = "FLOODGATE_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
}

impl PortArgs {
    /// The options of a server on this port; its name and the rest are for the plane to add.
    ///
    /// # Errors
    /// [`TlsError`] when files are named that cannot be used.
    pub fn options(&self) -> Result<ServerOptions, TlsError> {
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Some(TlsServer::open(TlsFiles {
                cert: cert.clone(),
                key: key.clone(),
                ca: self.tls_client_ca.clone(),
            })?),
            _ => None,
        };
        Ok(ServerOptions {
            tls,
            connections_max: self.connections_max,
            connections_per_address_max: self.connections_per_address_max,
            ..ServerOptions::default()
        })
    }
}

impl ProcessArgs {
    /// The time between becoming unready and refusing new work.
    pub fn drain_notice(&self) -> Duration {
        Duration::from_millis(self.drain_notice_ms)
    }

    /// The time that work under way may take to end.
    pub fn drain_grace(&self) -> Duration {
        Duration::from_millis(self.drain_grace_ms)
    }
}

/// Reads the command line and environment of this process. On a mistake, or when help was asked
/// for, it has told the user, and the error is the code to exit with.
pub fn parse<A: clap::Parser>() -> Result<A, ExitCode> {
    parse_from(std::env::args_os())
}

/// As [`parse`], from the given words, the first of which is the program's name.
pub fn parse_from<A, I, W>(words: I) -> Result<A, ExitCode>
where
    A: clap::Parser,
    I: IntoIterator<Item = W>,
    W: Into<std::ffi::OsString> + Clone,
{
    A::try_parse_from(words).map_err(|error| {
        // When the terminal is gone there is nobody to tell.
        drop(error.print());
        if error.use_stderr() { ExitCode::from(BAD_CONFIG) } else { ExitCode::SUCCESS }
    })
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err("it lies from 0 to 1".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[derive(Debug, clap::Parser)]
    struct Args {
        #[command(flatten)]
        process: ProcessArgs,
    }

    #[test]
    fn every_flag_has_its_variable() {
        let command = Args::command();
        for arg in command.get_arguments().filter(|arg| arg.get_id() != "help") {
            let long = arg.get_long().unwrap();
            let env = arg.get_env().unwrap().to_str().unwrap();
            assert_eq!(env, format!("FLOODGATE_{}", long.replace('-', "_").to_uppercase()));
        }
    }

    #[test]
    fn flags_are_read() {
        let words = ["cell", "--listen", "[::1]:7000", "--threads", "1", "--drain-grace-ms", "50"];
        let args: Args = parse_from(words).unwrap();
        assert_eq!(args.process.listen, "[::1]:7000".parse().unwrap());
        assert_eq!(args.process.threads, 1);
        assert_eq!(args.process.drain_grace(), Duration::from_millis(50));
        assert_eq!(args.process.otlp_endpoint, None);
    }

    #[test]
    fn mistakes_exit_with_64_and_help_with_0() {
        let code = |words: &[&str]| format!("{:?}", parse_from::<Args, _, _>(words).unwrap_err());
        let bad = format!("{:?}", ExitCode::from(BAD_CONFIG));
        assert_eq!(code(&["cell", "--listen", "nowhere"]), bad);
        assert_eq!(code(&["cell", "--trace-ratio", "1.5"]), bad);
        assert_eq!(code(&["cell", "--unknown"]), bad);
        assert_eq!(code(&["cell", "--help"]), format!("{:?}", ExitCode::SUCCESS));
    }
}
