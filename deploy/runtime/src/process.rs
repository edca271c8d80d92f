//! The life of a process: runtime, telemetry, ports, the plane's own work, and the end.
//!
//! The order is fixed: configuration was read before, then telemetry, then the ports are bound and
//! said, then the plane runs. A signal, or the plane's own end, drains it within a grace. What the
//! plane does in between is not known here.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};

use crate::admin::{self, Router};
use crate::clock::Clock;
use crate::config::{BAD_CONFIG, ProcessArgs};
use crate::drain::{Drain, Signals};
use crate::metric::Metrics;
use crate::readiness::{Readiness, SERVING};
use crate::server::ServerOptions;
use crate::telemetry::{Telemetry, TelemetryError, TelemetryOptions};
use crate::tls::TlsError;

/// Connections that the kernel finishes for us before we take them: a crowd comes in one second.
const BACKLOG: u32 = 4_096;

/// Time that threads get to end after everything that counts has ended.
const RUNTIME_GRACE: Duration = Duration::from_secs(1);

/// What a plane is run with.
#[derive(Debug)]
pub struct Context {
    /// The wall clock.
    pub clock: Clock,
    /// Spawn everything here.
    pub drain: Drain,
    /// Count everything here.
    pub metrics: Metrics,
    /// Conditions for being sent work.
    pub readiness: Readiness,
    /// Where calls arrive. It is bound; nobody takes connections from it yet.
    pub listener: TcpListener,
    /// The address that `listener` is bound to.
    pub address: SocketAddr,
    /// The limits of a server on it.
    pub server: ServerOptions,
    /// The folder for what is remembered over a restart. It exists.
    pub data_dir: PathBuf,
}

/// What a plane's future may fail with.
pub type PlaneError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot start threads: {0}")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error("cannot listen on {address} ({flag}); choose another address: {source}")]
    Listen { flag: &'static str, address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot make the folder {}; choose another one (--data-dir): {source}", path.display())]
    DataDir { path: PathBuf, source: io::Error },
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] io::Error),
}

/// Runs a plane to its end and returns the code to exit with: 0 when it ended in time and without
/// an error, [`BAD_CONFIG`] when the configuration cannot be used, 1 otherwise.
///
/// The plane's future may return early, having spawned its work on the drain; the process lives on
/// until it is told to stop. An error ends the process.
pub fn run<F, Fut, E>(
    plane: &'static str,
    version: &'static str,
    args: &ProcessArgs,
    main: F,
) -> ExitCode
where
    F: FnOnce(Context) -> Fut,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<PlaneError>,
{
    run_with(plane, version, args, Router::new(), main)
}

/// The same as [`run`], with paths of the plane's own on its metrics port.
pub fn run_with<F, Fut, E>(
    plane: &'static str,
    version: &'static str,
    args: &ProcessArgs,
    more: Router,
    main: F,
) -> ExitCode
where
    F: FnOnce(Context) -> Fut,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<PlaneError>,
{
    let ended = threads(args.threads).map_err(Failure::Runtime).and_then(|runtime| {
        let ended = runtime.block_on(live(plane, version, args, more, main));
        runtime.shutdown_timeout(RUNTIME_GRACE);
        ended
    });
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            // There may be no log yet, and without a standard error there is nobody to tell.
            drop(io::Write::write_fmt(&mut io::stderr(), format_args!("{plane}: {failure}\n")));
            let bad_config = matches!(
                failure,
                Failure::Telemetry(TelemetryError::Log { .. } | TelemetryError::Collector { .. })
                    | Failure::Tls(_)
            );
            if bad_config { ExitCode::from(BAD_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

/// Whether everything ended in time and without an error.
async fn live<F, Fut, E>(
    plane: &'static str,
    version: &'static str,
    args: &ProcessArgs,
    more: Router,
    main: F,
) -> Result<bool, Failure>
where
    F: FnOnce(Context) -> Fut,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<PlaneError>,
{
    let telemetry = Telemetry::start(&TelemetryOptions {
        plane,
        version,
        log: args.log.clone(),
        otlp_endpoint: args.otlp_endpoint.clone(),
        trace_ratio: args.trace_ratio,
    })?;
    let signals = Signals::catch().map_err(Failure::Signals)?;
    tracing::info!(plane, version, pid = std::process::id(), threads = args.threads, "starting");
    raise_open_files();
    make_private(&args.data_dir)
        .map_err(|source| Failure::DataDir { path: args.data_dir.clone(), source })?;
    let server = args.port.options()?;
    let (listener, address) = bind("--listen", args.listen)?;
    let (admin, admin_address) = bind("--metrics-listen", args.metrics_listen)?;
    let drain = Drain::new();
    drain.count_panics(telemetry.metrics());
    let after = Drain::new();
    let (metrics, readiness) = (telemetry.metrics().clone(), drain.readiness());
    // Until the plane takes calls; its server says when.
    readiness.set(SERVING, false);
    tracing::info!(port = "listen", %address, "listening");
    tracing::info!(port = "metrics", address = %admin_address, "listening");
    let (counted, ready) = (metrics.clone(), readiness.clone());
    after.spawn("admin", admin::serve(admin, counted, ready, more, after.clone()));

    let clock = Clock::system();
    let data_dir = args.data_dir.clone();
    let drained = drain.clone();
    let context =
        Context { clock, drain: drained, metrics, readiness, listener, address, server, data_dir };
    let failed = spawn_plane(main(context), &drain);
    signals.obey(&drain, args.drain_notice()).await;
    let in_time = match drain.finish(args.drain_grace()).await {
        Ok(()) => true,
        Err(overrun) => {
            tracing::warn!(%overrun, "the drain's grace ran out");
            false
        }
    };
    let failed = failed.load(Ordering::Relaxed);
    if after.finish(RUNTIME_GRACE).await.is_err() {
        tracing::debug!("a probe is still connected");
    }
    tracing::info!(in_time, failed, "stopped");
    telemetry.stop().await;
    Ok(in_time && !failed)
}

/// Runs the plane's future as a task. The answer turns true when it fails or panics, which also
/// begins the drain: a process without its plane is of no use.
fn spawn_plane<Fut, E>(plane: Fut, drain: &Drain) -> Arc<AtomicBool>
where
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<PlaneError>,
{
    let failed = Arc::new(AtomicBool::new(false));
    let guard = EndWithPlane { drain: drain.clone(), failed: Arc::clone(&failed), armed: true };
    drain.spawn("plane", async move {
        let mut guard = guard;
        match plane.await {
            Ok(()) => guard.armed = false,
            Err(error) => {
                let error: PlaneError = error.into();
                let causes = std::iter::successors(error.source(), |cause| cause.source());
                let causes: Vec<_> = causes.map(ToString::to_string).collect();
                tracing::error!(%error, causes = causes.join(": "), "the plane failed");
            }
        }
    });
    failed
}

struct EndWithPlane {
    drain: Drain,
    failed: Arc<AtomicBool>,
    armed: bool,
}

impl Drop for EndWithPlane {
    fn drop(&mut self) {
        // Only a panic or an error comes here armed; a future that is dropped because its runtime
        // ends has overrun the grace.
        if self.armed {
            self.failed.store(true, Ordering::Relaxed);
            self.drain.begin();
        }
    }
}

fn threads(count: usize) -> io::Result<Runtime> {
    let mut builder =
        if count == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if count > 1 {
        builder.worker_threads(count);
    }
    builder.enable_all().thread_name("floodgate").build()
}

/// Every connection is an open file, and the usual soft limit of 1,024 is meant for `select`.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| (soft, hard))
    });
    match raised {
        Ok((from, open_files_max)) => tracing::info!(open_files_max, from, "open files"),
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
}

/// What is remembered holds keys of tickets: nobody else may read it.
fn make_private(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn bind(flag: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    listen().map_err(|source| Failure::Listen { flag, address, source })
}
