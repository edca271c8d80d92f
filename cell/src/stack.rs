//! A cell process put together: the only file that knows all of its parts.

use crate::archive::{Archive, RestedReports, rested_reports, rested_transfers};
use crate::audit::{AuditMetrics, AuditPorts, audit};
use crate::claim::claim;
use crate::config::{Config, StoreUrl};
use crate::fitness::{FitnessGauges, look_again};
use crate::inventory::Inventory;
use crate::keeper::{ClassPorts, Elsewhere, Kept, Ports};
use crate::ledger;
use crate::line::Lines;
use crate::link::{Link, States};
use crate::metrics::CellMetrics;
use crate::payment::{Provider, reconcile};
use crate::prepare::prepare;
use crate::report::Reports;
use crate::sales::Sales;
use crate::time::CellTime;
use crate::transfer::News;
use crate::workers::{self, Workers};
use arc_swap::ArcSwap;
use prost::Message;
use proto::keys;
use proto::limits::{BATCH_CALLS_MAX, LINK_MESSAGE_BYTES_MAX};
use proto::wire::cell::ProcessRecord;
use proto::wire::cell::link_service_server::{LinkServiceServer, SERVICE_NAME};
use runtime::decisions::{Decisions, DecisionsOptions, Prefix};
use runtime::drain::Drain;
use runtime::lease::{Lease, LeaseOptions};
use runtime::metric::Metrics;
use runtime::process::{Context, PlaneError};
use runtime::server::{Front, ServerOptions, serve_service, standard_routes};
use runtime::tls::{ROUTER_NAME, TlsError};
use sqlx::PgPool;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// How long after its last sign of life a process stands in etcd.
const LEASE_S: u32 = 5;
/// Threads for everyday sales, and for what serves all classes. Two, so that one that computes holds up nobody.
const STANDARD_THREADS: usize = 2;

/// What a process answers on its metrics port besides what all do: its failpoints, in a build for drills.
pub fn admin() -> runtime::admin::Router {
    #[cfg(feature = "drills")]
    return crate::failpoint::routes();
    #[cfg(not(feature = "drills"))]
    runtime::admin::Router::new()
}

/// Runs a cell process until its drain begins.
///
/// # Errors
/// When an address cannot be read, when Postgres is set up so that promises would be broken, or when another process is
/// started under this one's name. Stores that are away are waited for.
pub async fn run(config: Config, context: Context) -> Result<(), PlaneError> {
    let Context { clock, drain, metrics, readiness, listener, address, server, data_dir } = context;
    let server = for_routers(server)?;
    let gauges = FitnessGauges::new(&metrics);
    let (flash, standard) = classes(&config, &gauges)?;
    // What serves all classes goes with everyday work: a rush must not make a process look dead.
    let (background, workers) = (standard.pool.clone(), standard.workers.handle().clone());
    let loads =
        [&flash, &standard].map(|class| (class.workers.name(), class.workers.handle().clone()));
    let followed = followed(&config, &data_dir);
    let decisions = Decisions::follow(followed, clock.clone(), &metrics, &drain).await?;
    let ports = Arc::new(Ports {
        process: config.process.as_str().into(),
        batch_calls_max: usize::from(config.batch_calls_max).min(BATCH_CALLS_MAX),
        time: CellTime::new(clock.clone(), &metrics),
        flash,
        standard,
        tickets: ArcSwap::default(),
        states: States::new(config.process.as_str()),
        lines: Lines::new(clock, &metrics),
        elsewhere: Elsewhere::default(),
        reports: Reports::default(),
        archive: Arc::new(Archive::new()),
        transfers: News::new(decisions.clone()),
        metrics: CellMetrics::new(&metrics),
        drain: drain.clone(),
        end: drain.token(),
    });
    let kept = Kept::new(ports.clone());
    let sales = Sales::new(config.cell.as_str(), decisions);

    readiness.set("postgres", false);
    let (pool, until) = (background.clone(), drain.clone());
    if !workers.spawn(ready(config.clone(), pool, gauges.clone(), until)).await?? {
        return Ok(());
    }
    readiness.set("postgres", true);

    let end = drain.token();
    drain.spawn_on(&workers, "fitness", look_again(ports.clone(), gauges, end.clone()));
    look_after_rest(&config, &ports, (&sales, &background, &workers), &drain);
    let replaced = CancellationToken::new();
    // Calls are taken until the last bucket is handed over, so that nobody is left without a word.
    let left = CancellationToken::new();
    let (leaving, claims) =
        (left.clone().drop_guard(), claim(kept.clone(), sales, end.clone(), replaced.clone()));
    drain.spawn_on(&workers, "claim", async move {
        claims.await;
        drop(leaving);
    });
    drain.spawn_on(&workers, "reconcile", reconcile(kept.clone(), end.clone()));
    let auditing = audit_ports(&config, kept.clone(), &metrics)?;
    drain.spawn_on(&workers, "audit", audit(auditing, end.clone()));
    drain.spawn_on(&workers, "load", workers::measure(loads, metrics.clone(), end.clone()));
    let (telling, stopping, told_until) = (ports.clone(), end.clone(), left.clone());
    drain.spawn("states", async move { telling.states.tell(stopping, told_until).await });
    tell_etcd(&config, &ports, &end, &drain);
    stand_in_etcd(&config, address, &drain);

    serve_link(Link::new(kept, left), listener, server, metrics, drain).await?;
    if replaced.is_cancelled() {
        return Err("another process was started under this name".into());
    }
    Ok(())
}

/// Where TLS is spoken only routers are let in: whoever speaks to the link can act for any buyer.
fn for_routers(server: ServerOptions) -> Result<ServerOptions, TlsError> {
    let tls = server.tls.as_ref().map(|tls| tls.only(ROUTER_NAME)).transpose()?;
    Ok(ServerOptions { tls, ..server })
}

async fn serve_link(
    link: Link,
    listener: TcpListener,
    server: ServerOptions,
    metrics: Metrics,
    drain: Drain,
) -> Result<(), PlaneError> {
    let link = LinkServiceServer::new(link)
        .max_decoding_message_size(LINK_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(LINK_MESSAGE_BYTES_MAX);
    let routes = standard_routes(&[proto::wire::DESCRIPTORS], &[SERVICE_NAME], &drain)?;
    let options = ServerOptions {
        name: "link",
        // Routers are few and their streams are long; a frame must never wait for a window.
        stream_window_bytes: 1024 * 1024,
        connection_window_bytes: 16 * 1024 * 1024,
        // Their frames are small and many.
        frames: None,
        ..server
    };
    serve_service(listener, Front::new(link, routes), options, metrics, drain).await;
    Ok(())
}

/// Prepares Postgres. False: the process is to end.
async fn ready(
    config: Config,
    pool: PgPool,
    gauges: FitnessGauges,
    until: Drain,
) -> Result<bool, PlaneError> {
    let owner = config.postgres_owner.as_ref().map(StoreUrl::expose).map(ledger::open_owner);
    let owner = owner.transpose()?;
    let is_ready = prepare(&pool, owner.as_ref(), &gauges, &until).await;
    if let Some(owner) = owner {
        owner.close().await;
    }
    Ok(is_ready?)
}

fn audit_ports(
    config: &Config,
    kept: Arc<Kept>,
    metrics: &Metrics,
) -> Result<AuditPorts, PlaneError> {
    Ok(AuditPorts {
        kept,
        pool: ledger::open_for_audit(config.postgres.expose())?,
        inventory: Inventory::new(config.redis.expose())?,
        key: config.ledger_key.clone(),
        metrics: AuditMetrics::new(metrics),
    })
}

/// What of the decisions concerns a cell.
fn followed(config: &Config, data_dir: &Path) -> DecisionsOptions {
    let prefixes =
        vec![Prefix::hot(keys::SALES), Prefix::hot(keys::TRANSFERS), Prefix::cold(keys::CELLS)];
    DecisionsOptions {
        snapshot_file: Some(data_dir.join("decisions")),
        ..DecisionsOptions::new(config.etcd.clone(), prefixes)
    }
}

/// Answers, reports and accepts units for buckets at rest.
fn look_after_rest(
    config: &Config,
    ports: &Arc<Ports>,
    (sales, pool, workers): (&Sales, &PgPool, &Handle),
    drain: &Drain,
) {
    let (end, etcd) = (drain.token(), config.etcd.clone());
    let reports =
        RestedReports { ports: ports.clone(), pool: pool.clone(), sales: sales.clone(), etcd };
    let reports = Arc::new(reports);
    let moved = rested_transfers(ports.clone(), pool.clone(), reports.clone(), end.clone());
    drain.spawn_on(workers, "archive transfers", moved);
    drain.spawn_on(workers, "archive reports", rested_reports(reports, end.clone()));
    let archive = ports.archive.clone().serve(pool.clone(), end);
    drain.spawn_on(workers, "archive", archive);
}

/// Tells the control plane what buckets report and how far transfers have come.
fn tell_etcd(config: &Config, ports: &Arc<Ports>, end: &CancellationToken, drain: &Drain) {
    let (reporting, endpoints, until) = (ports.clone(), config.etcd.clone(), end.clone());
    drain.spawn("reports", async move { reporting.reports.tell(endpoints, until).await });
    let (news, endpoints, until) = (ports.clone(), config.etcd.clone(), end.clone());
    drain.spawn("transfers", async move { news.transfers.write(endpoints, until).await });
}

/// Tells routers where this process is, for as long as it lives.
fn stand_in_etcd(config: &Config, address: SocketAddr, drain: &Drain) {
    let scheme = if config.process_args.port.tls_cert.is_some() { "https" } else { "http" };
    let record = ProcessRecord {
        cell: config.cell.to_string(),
        process: config.process.to_string(),
        address: config.advertise.clone().unwrap_or_else(|| format!("{scheme}://{address}")),
        version: env!("CARGO_PKG_VERSION").into(),
    };
    Lease::keep(
        LeaseOptions {
            endpoints: config.etcd.clone(),
            key: keys::process(&config.cell, &config.process),
            value: record.encode_to_vec(),
            ttl_s: LEASE_S,
        },
        drain,
    );
}

/// What each class of sales has to itself: FLASH, then STANDARD. Connections are made on the threads that use them.
fn classes(
    config: &Config,
    gauges: &FitnessGauges,
) -> Result<(ClassPorts, ClassPorts), PlaneError> {
    let flash = class(config, Workers::shared("flash"), gauges)?;
    let standard = class(config, Workers::own("standard", STANDARD_THREADS)?, gauges)?;
    Ok((flash, standard))
}

fn class(
    config: &Config,
    workers: Workers,
    gauges: &FitnessGauges,
) -> Result<ClassPorts, PlaneError> {
    let pool = {
        let _there = workers.handle().enter();
        ledger::open(config.postgres.expose(), workers.name())?
    };
    let inventory = Inventory::new(config.redis.expose())?.charted(gauges.clone());
    Ok(ClassPorts::new(pool, inventory, Provider::new(&config.provider)?, workers))
}

#[cfg(test)]
mod tests;
