//! A router put together: the only file that knows all of its parts.

use crate::api::{Edge, ProbeApi, StorefrontApi};
use crate::auth::Auth;
use crate::config::Config;
use crate::directory::Directory;
use crate::link::{LinkMetrics, Links};
use crate::metrics::RouterMetrics;
use crate::quota::Quotas;
use crate::states::States;
use crate::watch::Watches;
use crate::web;
use arc_swap::ArcSwap;
use proto::codec::explain;
use proto::keys;
use proto::limits::{
    CALL_MS_MAX, LINKS_MET_MS, METADATA_BYTES_MAX, REQUEST_BYTES_MAX, WATCH_UNSENT_BYTES_MAX,
};
use proto::wire::fleet::probe_service_server::{self, ProbeServiceServer};
use proto::wire::storefront::storefront_service_server::{self, StorefrontServiceServer};
use runtime::decisions::{Decisions, DecisionsOptions, Prefix};
use runtime::drain::Drain;
use runtime::process::{Context, PlaneError};
use runtime::readiness::Readiness;
use runtime::server::{
    Effort, Explained, Front, Lateness, Proxies, ServerOptions, Shared, serve_service,
    standard_routes,
};
use runtime::tls::TlsClient;
use runtime::web::Web;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What a router is ready with.
const DECISIONS: &str = "decisions";
const LINKS: &str = "links";

/// Runs a router until its drain begins. `tls` is how it speaks to cells; none: in the clear.
///
/// # Errors
/// When etcd's addresses cannot be read. An etcd that is away is not waited for when there is a snapshot.
pub async fn run(
    config: Config,
    tls: Option<TlsClient>,
    context: Context,
) -> Result<(), PlaneError> {
    let Context { clock, drain, metrics, readiness, listener, server, data_dir, .. } = context;
    let prefixes = vec![
        Prefix::hot(keys::SALES),
        Prefix::hot(keys::PROCESSES),
        Prefix::cold(keys::ORGS),
        Prefix::cold(keys::CELLS),
    ];
    let options = DecisionsOptions {
        snapshot_file: Some(data_dir.join("decisions")),
        ..DecisionsOptions::new(config.etcd.clone(), prefixes)
    };
    let decisions = Decisions::follow(options, clock.clone(), &metrics, &drain).await?;

    if let Some(tls) = &tls {
        tls.follow("cells", &metrics, &drain);
    }
    let states = Arc::new(States::default());
    let lateness = Lateness::default();
    let link_metrics = LinkMetrics::new(&metrics, lateness.clone());
    let edge = Arc::new(Edge {
        clock,
        directory: ArcSwap::default(),
        // Calls that are under way when the drain begins come to their end over links.
        links: Links::new(states.clone(), tls, drain.behind(), link_metrics.clone()),
        states,
        auth: Auth::new(),
        quotas: Quotas::new(config.limits()),
        proxies: Proxies::new(config.proxies.clone()),
        metrics: RouterMetrics::new(&metrics),
        link_metrics,
    });
    become_ready(&edge, decisions, &readiness, &drain);

    let watches = Watches::new(config.watchers_max, &metrics, drain.clone());
    let storefront = StorefrontServiceServer::new(StorefrontApi::new(edge.clone(), watches))
        .max_decoding_message_size(REQUEST_BYTES_MAX);
    let web = web::options(edge.clone(), config.cors_origins.clone());
    let probe = ProbeServiceServer::new(ProbeApi { edge: edge.clone(), open: config.open_probe })
        .max_decoding_message_size(REQUEST_BYTES_MAX);
    // All who watch a sale get the same bytes.
    let storefront = Shared::new(Explained::new(storefront, explain));
    let probe = Explained::new(probe, explain);
    let services = [storefront_service_server::SERVICE_NAME, probe_service_server::SERVICE_NAME];
    let routes = standard_routes(&[proto::wire::DESCRIPTORS], &services, &drain)?;
    // Who is measured without checks does without this, too.
    let peers = edge.quotas.counts_addresses() && !config.open_probe;
    let counting = edge.clone();
    let effort = Some(Effort::new(lateness, move || counting.metrics.done()));
    let age_s = config.connection_age_s;
    let options = ServerOptions { peers, effort, ..port(server, age_s) };
    // Most calls are the storefront's, so they are looked for first; unless this router is there to be measured.
    if config.open_probe {
        let front = Web::new(Front::new(probe, routes.add_service(storefront)), web, &metrics)?;
        serve_service(listener, front, options, metrics, drain).await;
    } else {
        let front = Web::new(Front::new(storefront, routes.add_service(probe)), web, &metrics)?;
        serve_service(listener, front, options, metrics, drain).await;
    }
    Ok(())
}

/// Follows the decisions. The router is ready when it knows some, and has heard of the buckets: who asked before that
/// would be told to come again.
fn become_ready(edge: &Arc<Edge>, decisions: Decisions, readiness: &Readiness, drain: &Drain) {
    for condition in [DECISIONS, LINKS] {
        readiness.set(condition, false);
    }
    let known = CancellationToken::new();
    let (following, ready, tell) = (edge.clone(), readiness.clone(), known.clone());
    let token = drain.token();
    drain.spawn("directory", async move {
        let ready = || {
            ready.set(DECISIONS, true);
            tell.cancel();
        };
        follow(&following, &decisions, &token, ready).await;
    });
    let (meeting, ready, token) = (edge.clone(), readiness.clone(), drain.token());
    drain.spawn("meeting", async move {
        let met = async {
            known.cancelled().await;
            meeting.links.met(Duration::from_millis(LINKS_MET_MS)).await;
        };
        if token.run_until_cancelled(met).await.is_some() {
            ready.set(LINKS, true);
        }
    });
}

/// The limits of the port that storefronts call.
fn port(server: ServerOptions, age_s: u32) -> ServerOptions {
    ServerOptions {
        name: "storefront",
        http1: true,
        headers_max_bytes: METADATA_BYTES_MAX,
        // No call lasts longer than the grace, only watches do, which end by themselves and go on elsewhere.
        age_max: Some(Duration::from_secs(age_s.into())),
        age_grace: Some(Duration::from_millis(CALL_MS_MAX.into())),
        unsent_bytes: WATCH_UNSENT_BYTES_MAX,
        // A connection may watch only so often.
        connected: &["/WatchSale", "/events"],
        ..server
    }
}

/// Makes the directory anew with every change of the decisions.
async fn follow(edge: &Edge, decisions: &Decisions, token: &CancellationToken, ready: impl Fn()) {
    let mut changed = decisions.changed();
    loop {
        changed.borrow_and_update();
        if decisions.is_known() {
            // In this order: what the snapshot lacks is missing for certain only if this was so before.
            let current = decisions.is_current();
            let before = edge.directory.load();
            let directory = Directory::new(&decisions.snapshot(), current, &before);
            edge.links.follow(&directory);
            edge.directory.store(Arc::new(directory));
            edge.states.look_again();
            ready();
        }
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return },
            () = token.cancelled() => return,
        }
    }
}
