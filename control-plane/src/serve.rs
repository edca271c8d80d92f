//! The control plane put together: store, executor, services.

use proto::token::PublicKey;
use proto::wire::DESCRIPTORS;
use runtime::clock::Clock;
use runtime::decisions::{Decisions, DecisionsError};
use runtime::drain::Drain;
use runtime::metric;
use runtime::server::{
    Proxies, ReflectionError, Routed, ServerOptions, serve_service, standard_routes,
};
use runtime::web::{Web, WebError};
use tokio::net::TcpListener;

use crate::api::{self, Desk};
use crate::auth::Auth;
use crate::config::Config;
use crate::executor::{Executor, followed};
use crate::metrics::Metrics;
use crate::quota::{Addresses, Counted};
use crate::store::{Store, StoreError};
use crate::web;

/// Why the control plane could not start. Etcd need not be there for that.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address of etcd makes no sense.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Following etcd was asked for in a way that cannot be.
    #[error(transparent)]
    Decisions(#[from] DecisionsError),
    /// The descriptors that were compiled in are broken.
    #[error(transparent)]
    Reflection(#[from] ReflectionError),
    /// The HTTP bindings that were compiled in are broken.
    #[error(transparent)]
    Web(#[from] WebError),
}

/// Serves on `listener`, within `options`, and executes when leading, until the drain begins.
///
/// # Errors
/// [`ServeError`] before anything is served.
pub async fn serve(
    listener: TcpListener,
    options: ServerOptions,
    config: Config,
    clock: Clock,
    metrics: metric::Metrics,
    drain: Drain,
) -> Result<(), ServeError> {
    let store = Store::connect(&config.etcd, drain.readiness()).await?;
    let followed = followed(config.etcd);
    let executor = Executor {
        store: store.clone(),
        decisions: Decisions::follow(followed, clock.clone(), &metrics, &drain).await?,
        clock: clock.clone(),
        metrics: Metrics::new(&metrics),
        warm_lead_ms: config.warm_lead_ms,
        bucket_units_max: config.bucket_units_max,
    };
    drain.spawn("executor", executor.run(drain.clone()));
    let desk = Desk {
        auth: Auth::new(store.clone(), PublicKey::ed25519(&config.platform_key), clock.clone()),
        store,
        clock,
        cells_per_org: config.cells_per_org,
    };
    let routes = api::add_to(standard_routes(&[DESCRIPTORS], &api::SERVICES, &drain)?, desk);
    let addresses = Addresses::new(config.address_calls_per_s, Proxies::new(config.proxies));
    let options = ServerOptions { http1: true, peers: addresses.is_some(), ..options };
    // Whatever is spoken becomes a call first, and is counted as one, before anybody asks whose it is.
    let counted = Counted::new(Routed::new(routes), addresses);
    let web = Web::new(counted, web::options(), &metrics)?;
    serve_service(listener, web, options, metrics, drain).await;
    Ok(())
}
