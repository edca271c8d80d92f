//! `floodgate-provider`: a payment provider's simulator, a process of its own, shaped like Stripe's API.
//!
//! It keeps payment intents and refunds in a ledger (see `ledger.rs` for the format) that survives
//! kill -9, honours idempotency keys, and is slow, declines, fails and loses replies as `POST /faults`
//! says. Payment methods: `pm_card_visa`, `pm_card_chargeDeclined`,
//! `pm_card_chargeDeclinedInsufficientFunds`. There is no authentication and no webhook.
#![allow(clippy::print_stderr, reason = "this program talks to people through its standard error")]

mod answer;
mod api;
mod book;
mod desk;
mod intent;
mod ledger;
mod params;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use clap::Parser;
use floodgate_local::Faults;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::api::LostReply;
use crate::desk::Desk;

/// Connections open at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 8_192;

/// A client that opens a connection and sends no request is cut off after this.
const HEADER_LIMIT: Duration = Duration::from_secs(60);

/// Simulates a payment provider.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Address to serve on.
    #[arg(long, env = "FLOODGATE_PROVIDER_LISTEN")]
    listen: SocketAddr,
    /// Folder of the ledger.
    #[arg(long, env = "FLOODGATE_PROVIDER_DATA_DIR")]
    data_dir: PathBuf,
    /// Seed of the faults' draws, until faults with another are posted.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let faults = Faults { seed: args.seed, ..Faults::default() };
    let desk = Arc::new(Desk::open(&args.data_dir, faults)?);
    let doing = || format!("could not listen on {}", args.listen);
    let listener = TcpListener::bind(args.listen).await.with_context(doing)?;
    eprintln!("payment provider on http://{}", args.listen);
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        // Whatever was answered is on disk, so there is nothing to finish.
        _ = terminate.recv() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
        ended = accept(listener, api::router(desk)) => ended,
    }
}

async fn accept(listener: TcpListener, router: Router) -> anyhow::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await?;
        let Ok((stream, _)) = listener.accept().await else {
            // Out of files: connections that end give some back.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let router = router.clone();
        tokio::spawn(async move {
            serve_connection(stream, router).await;
            drop(place);
        });
    }
}

async fn serve_connection(stream: TcpStream, router: Router) {
    // Answers are small; without this a client that keeps its connection waits for its own ACK.
    stream.set_nodelay(true).ok();
    let service = service_fn(move |request: Request<Incoming>| answer(router.clone(), request));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
    // An error here is a client that went away, or a reply that is to be lost.
    http.serve_connection(TokioIo::new(stream), service).await.ok();
}

/// An error makes hyper close the connection without a word: that is how a reply is lost.
async fn answer(
    router: Router,
    request: Request<Incoming>,
) -> Result<Response<Body>, &'static str> {
    let response: Result<Response<Body>, Infallible> = router.oneshot(request).await;
    match response {
        Ok(response) if response.extensions().get::<LostReply>().is_none() => Ok(response),
        _ => Err("the reply is lost"),
    }
}
