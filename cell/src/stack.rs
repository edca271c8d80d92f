//! A cell process put together: the only file that knows all of its parts.

use crate::archive::Archive;
use crate::claim::claim;
use crate::config::{Config, StoreUrl};
use crate::fitness::FitnessGauges;
use crate::inventory::Inventory;
use crate::keeper::{ClassPorts, Kept, Ports};
use crate::ledger;
use crate::link::{Link, States};
use crate::metrics::CellMetrics;
use crate::payment::{Pool, Provider, reconcile};
use crate::prepare::prepare;
use crate::report::Reports;
use crate::sales::Sales;
use crate::time::CellTime;
use arc_swap::ArcSwap;
use prost::Message;
use proto::keys;
use proto::limits::{BATCH_CALLS_MAX, LINK_MESSAGE_BYTES_MAX};
use proto::wire::cell::ProcessRecord;
use proto::wire::cell::link_service_server::{LinkServiceServer, SERVICE_NAME};
use runtime::decisions::{Decisions, DecisionsOptions, Prefix};
use runtime::drain::Drain;
use runtime::lease::{Lease, LeaseOptions};
use runtime::process::{Context, PlaneError};
use runtime::server::{Front, ServerOptions, serve_service, standard_routes};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// How long after its last sign of life a process stands in etcd.
const LEASE_S: u32 = 5;

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
    let Context { clock, drain, metrics, readiness, listener, address, data_dir } = context;
    let gauges = FitnessGauges::new(&metrics);
    let (flash, standard) =
        (class(&config, "flash", &gauges)?, class(&config, "standard", &gauges)?);
    let owner = config.postgres_owner.as_ref().map(StoreUrl::expose).map(ledger::open_owner);
    let owner = owner.transpose()?;
    let background = standard.pool.clone();
    let ports = Arc::new(Ports {
        process: config.process.as_str().into(),
        batch_calls_max: usize::from(config.batch_calls_max).min(BATCH_CALLS_MAX),
        time: CellTime::new(),
        flash,
        standard,
        provider: Provider::new(&config.provider)?,
        tickets: ArcSwap::default(),
        states: States::new(config.process.as_str()),
        reports: Reports::default(),
        archive: Arc::new(Archive::new()),
        metrics: CellMetrics::new(&metrics),
        drain: drain.clone(),
        end: drain.token(),
    });
    let kept = Kept::new(ports.clone());

    let prefixes = vec![Prefix::hot(keys::SALES), Prefix::cold(keys::CELLS)];
    let options = DecisionsOptions {
        snapshot_file: Some(data_dir.join("decisions")),
        ..DecisionsOptions::new(config.etcd.clone(), prefixes)
    };
    let decisions = Decisions::follow(options, clock, &metrics, &drain).await?;
    let sales = Sales::new(config.cell.as_str(), decisions);

    readiness.set("postgres", false);
    if !prepare(&background, owner.as_ref(), &gauges, &drain).await? {
        return Ok(());
    }
    if let Some(owner) = owner {
        owner.close().await;
    }
    readiness.set("postgres", true);

    let end = drain.token();
    let replaced = CancellationToken::new();
    drain.spawn("claim", claim(kept.clone(), sales, end.clone(), replaced.clone()));
    drain.spawn("archive", ports.archive.clone().serve(background.clone(), end.clone()));
    drain.spawn("reconcile", reconcile(kept.clone(), end.clone()));
    let (telling, told_until) = (ports.clone(), end.clone());
    drain.spawn("states", async move { telling.states.tell(told_until).await });
    let (reporting, endpoints, until) = (ports.clone(), config.etcd.clone(), end.clone());
    drain.spawn("reports", async move { reporting.reports.tell(endpoints, until).await });
    stand_in_etcd(&config, address, &drain);

    let link = LinkServiceServer::new(Link::new(kept, end))
        .max_decoding_message_size(LINK_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(LINK_MESSAGE_BYTES_MAX);
    let routes = standard_routes(&[proto::wire::DESCRIPTORS], &[SERVICE_NAME], &drain)?;
    let options = ServerOptions {
        name: "link",
        // Routers are few and their streams are long; a frame must never wait for a window.
        stream_window_bytes: 1024 * 1024,
        connection_window_bytes: 16 * 1024 * 1024,
        ..ServerOptions::default()
    };
    serve_service(listener, Front::new(link, routes), options, metrics, drain).await;
    if replaced.is_cancelled() {
        return Err("another process was started under this name".into());
    }
    Ok(())
}

/// Tells routers where this process is, for as long as it lives.
fn stand_in_etcd(config: &Config, address: SocketAddr, drain: &Drain) {
    let record = ProcessRecord {
        cell: config.cell.to_string(),
        process: config.process.to_string(),
        address: config.advertise.clone().unwrap_or_else(|| format!("http://{address}")),
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

fn class(config: &Config, name: &str, gauges: &FitnessGauges) -> Result<ClassPorts, PlaneError> {
    Ok(ClassPorts {
        pool: ledger::open(config.postgres.expose(), name)?,
        inventory: Inventory::new(config.redis.expose())?.charted(gauges.clone()),
        payments: Pool::new(),
    })
}
