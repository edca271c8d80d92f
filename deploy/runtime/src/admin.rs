//! The metrics port: what monitoring and probes ask, apart from the calls of users.
//!
//! `/metrics` is Prometheus' text, `/livez` says that the process runs and checks nothing else,
//! `/readyz` is 200 while every readiness condition holds and names the missing ones otherwise.
//! A plane may add paths of its own.

pub use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::drain::Drain;
use crate::metric::Metrics;
use crate::readiness::Readiness;
use crate::server::{self, ServerOptions};

/// Connections of monitoring and probes; further ones are closed at once.
const CONNECTIONS_MAX: usize = 64;

/// The content type of Prometheus' text format.
const EXPOSITION: [(HeaderName, &str); 1] =
    [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];

/// Answers on `listener`, what is asked of `more` included, until `end` begins. While the process drains it must still be able to say
/// so: `end` is a drain of its own, which begins when the process' drain is over.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    readiness: Readiness,
    more: Router,
    end: Drain,
) {
    let router = Router::new()
        .route("/metrics", get(exposition))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .with_state(Asked { metrics: metrics.clone(), readiness })
        .merge(more);
    let options = ServerOptions {
        name: "admin",
        connections_max: CONNECTIONS_MAX,
        http1: true,
        ..ServerOptions::default()
    };
    server::serve_service(listener, router, options, metrics, end).await;
}

#[derive(Clone)]
struct Asked {
    metrics: Metrics,
    readiness: Readiness,
}

async fn exposition(State(asked): State<Asked>) -> axum::response::Response {
    match asked.metrics.text() {
        Ok(text) => (EXPOSITION, text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn ready(State(asked): State<Asked>) -> (StatusCode, String) {
    let missing = asked.readiness.missing();
    if missing.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join(", ")))
}
