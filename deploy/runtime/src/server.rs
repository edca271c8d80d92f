//! How calls arrive: a listener, limits, HTTP/2 connections, and a graceful end.
//!
//! Between the socket and the service stands hyper and nothing else: no box, buffer or layer per
//! call. Every limit of a connection is set here and named in [`ServerOptions`], because the
//! libraries' defaults leave several of them off. Connections beyond the cap, of all or of one
//! address, are closed at once, so that a client learns it now and can go elsewhere; so are those
//! that flood us with what is not calls, and those that stand still. When the drain begins the
//! listener closes, peers get GOAWAY, and calls under way go on until they end or the process'
//! grace runs out.
//!
//! When there is more to do than can be done, a part of the connections is not read for a while (`turnstile`): what is
//! read to be refused costs a good part of what it costs to serve it.
//!
//! Where there are certificates TLS ends here; without them it ends before us, in a balancer.

mod accept;
mod answer;
mod connected;
mod connection;
mod explained;
mod frames;
mod front;
mod guard;
mod metered;
mod peer;
mod pulse;
mod routes;
mod shared;
mod source;
mod strain;
mod tls;
mod turnstile;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tonic::codegen::{Body, Service, StdError};
use tonic::service::Routes;

use crate::drain::Drain;
use crate::metric::Metrics;
use crate::readiness::SERVING;
use crate::tls::TlsServer;

pub use connected::{Connection, Leaving};
pub use explained::{Explained, Explaining};
pub use front::Front;
pub use peer::{BadNetwork, Network, Peer, Proxies};
pub use routes::{ReflectionError, Routed, deadline, standard_routes};
pub use shared::{Frames, Shared, Sharing};
pub use source::Source;
pub use turnstile::{Done, Effort, Lateness};

/// The limits of a server and its connections.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The label `port` of this server's metrics.
    pub name: &'static str,
    /// How TLS is spoken; none: it is not.
    pub tls: Option<TlsServer>,
    /// Time in which the handshake of TLS must be over.
    pub handshake_timeout: Duration,
    /// Connections open at once; each may hold its window in memory.
    pub connections_max: usize,
    /// Connections of one IPv4 address, or one IPv6 network of 64 bits, open at once; 0: all.
    pub connections_per_address_max: u32,
    /// Calls under way at once on one connection. The peer is told and holds further ones back.
    pub streams_max: u32,
    /// Streams that the peer may make us reset before its connection is closed.
    pub local_resets_max: usize,
    /// Streams that the peer may reset before we took them up (rapid reset).
    pub pending_resets_max: usize,
    /// Bytes of one call's headers.
    pub headers_max_bytes: u32,
    /// Bytes of one call that may be under way to us unread.
    pub stream_window_bytes: u32,
    /// Bytes of all calls of a connection that may be under way to us unread.
    pub connection_window_bytes: u32,
    /// Bytes of one call's answer that may wait in memory for a peer that reads slowly.
    pub unsent_bytes: usize,
    /// Idle time after which a connection is pinged.
    pub keepalive: Duration,
    /// Time in which the ping must be answered.
    pub keepalive_timeout: Duration,
    /// Time in which a new connection must say that it speaks HTTP.
    pub preface_timeout: Duration,
    /// What else than calls a peer may send; none: it is trusted, and neither counted nor watched.
    pub frames: Option<FrameLimits>,
    /// Time in which a frame that was begun must end, and in which a peer must take something of
    /// what waits for it; at most so long, at least two thirds of it. Of HTTP/1.1: the time for
    /// headers, from the end of the call before.
    pub stall_timeout: Duration,
    /// Time in which one of the requests under way must come to its end; of HTTP/1.1 its answer's
    /// beginning.
    pub request_timeout: Duration,
    /// Time after which a connection breaks whose peer has not taken a byte of what waits for it.
    pub unread_timeout: Duration,
    /// Age at which a connection is told to come again, give or take a tenth; none: never.
    pub age_max: Option<Duration>,
    /// Time in which it must have gone then; none: it may stay until its calls have ended.
    pub age_grace: Option<Duration>,
    /// Whether HTTP/1.1 is spoken too.
    pub http1: bool,
    /// Whether each request is told who is at the other end ([`Peer`]).
    pub peers: bool,
    /// Ends of the paths whose calls are told on which connection they came ([`Connection`]).
    pub connected: &'static [&'static str],
    /// What its calls are good for, so that it reads no more connections than it can serve when there is too much to do;
    /// none: it reads all of them always.
    pub effort: Option<Effort>,
}

/// What a peer may send besides calls in a third of the time in which it may stand still
/// ([`ServerOptions::stall_timeout`]), and what it must take. Calls earn more: each an ask and four others, two a reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// PING and SETTINGS, which must be answered.
    pub asks_max: u32,
    /// Resets of calls.
    pub resets_max: u32,
    /// DATA of under 256 bytes that is not the last of its call, windows, and all other frames.
    pub others_max: u32,
    /// Bytes that each answer must have room for from the start; 0: none.
    pub window_min_bytes: u32,
    /// Requests of HTTP/1.1 that may come in one go, ahead of their answers.
    pub requests_at_once_max: u32,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self {
            asks_max: 128,
            resets_max: 128,
            others_max: 4_096,
            window_min_bytes: 256,
            requests_at_once_max: 64,
        }
    }
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            name: "grpc",
            tls: None,
            handshake_timeout: Duration::from_secs(2),
            connections_max: 32_768,
            connections_per_address_max: 0,
            streams_max: 128,
            local_resets_max: 64,
            pending_resets_max: 20,
            headers_max_bytes: 8 * 1_024,
            stream_window_bytes: 64 * 1_024,
            connection_window_bytes: 512 * 1_024,
            unsent_bytes: 400 * 1_024,
            keepalive: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            preface_timeout: Duration::from_secs(2),
            frames: Some(FrameLimits::default()),
            stall_timeout: Duration::from_millis(4_500),
            request_timeout: Duration::from_secs(30),
            unread_timeout: Duration::from_secs(30),
            age_max: None,
            age_grace: None,
            http1: false,
            peers: false,
            connected: &[],
            effort: None,
        }
    }
}

/// Serves gRPC services on `listener`. Returns when the drain begins; connections that are still
/// open then are tasks of the drain. Start from [`standard_routes`].
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    options: ServerOptions,
    metrics: Metrics,
    drain: Drain,
) {
    serve_service(listener, Routed::new(routes), options, metrics, drain).await;
}

/// What a port can be served with: a generated gRPC server, an axum router, or [`Front`]. It is always ready:
/// `poll_ready` is not called.
pub trait Served:
    Service<
        Request<Incoming>,
        Response = Response<<Self as Served>::Answer>,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + Sync
    + 'static
{
    /// The body of its answers.
    type Answer: Body<Data = Bytes, Error: Into<StdError>> + Send + 'static;
}

impl<S, B> Served for S
where
    S: Service<
            Request<Incoming>,
            Response = Response<B>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<StdError>> + Send + 'static,
{
    type Answer = B;
}

/// As [`serve`], for any service. `grpc-timeout` is the service's to keep ([`deadline`]).
pub async fn serve_service<S: Served>(
    listener: TcpListener,
    service: S,
    options: ServerOptions,
    metrics: Metrics,
    drain: Drain,
) {
    let door = accept::Door::new(&options, &metrics);
    if let Some(tls) = &options.tls {
        tls.follow(options.name, &metrics, &drain);
    }
    let protocols = Arc::new(connection::Protocols::new(&options, &metrics));
    if let Some(turnstile) = protocols.turnstile() {
        drain.spawn("turnstile", turnstile.keep(drain.token()));
    }
    drain.readiness().set(SERVING, true);
    accept::each(&listener, &door, &drain, |stream, peer, entered| {
        let peer = options.peers.then_some(peer);
        let connection = stream.peer_addr().ok();
        let (protocols, token) = (protocols.clone(), drain.token());
        let leaving = Leaving::default();
        let service = peer::Peered::new(service.clone(), peer);
        let told = leaving.clone();
        let service = connected::Connected::new(service, connection, told, options.connected);
        drain.spawn_call("connection", async move {
            connection::serve(stream, protocols, service, (token, leaving)).await;
            drop(entered);
        });
    })
    .await;
}
