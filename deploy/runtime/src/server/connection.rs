//! One connection, from its first byte to its end.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::codegen::{Body, Service, StdError};

use super::ServerOptions;

/// What an HTTP/2 client says first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Pause before looking again whether the rest of a split preface has come.
const PREFACE_PAUSE: Duration = Duration::from_millis(5);

/// Headers of an HTTP/1.1 call; hyper wants a buffer of at least this.
const HTTP1_BUFFER_BYTES: usize = 16 * 1_024;

/// How connections are spoken on, by the options.
#[derive(Clone)]
pub(super) struct Protocols {
    http2: http2::Builder<TokioExecutor>,
    http1: Option<http1::Builder>,
    preface_timeout: Duration,
    age_max: Option<Duration>,
}

enum Spoken {
    Http1,
    Http2,
}

impl Protocols {
    pub(super) fn new(options: &ServerOptions) -> Self {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(options.streams_max)
            .max_local_error_reset_streams(options.local_resets_max)
            .max_pending_accept_reset_streams(options.pending_resets_max)
            .max_header_list_size(options.headers_max_bytes)
            .initial_stream_window_size(options.stream_window_bytes)
            .initial_connection_window_size(options.connection_window_bytes)
            .keep_alive_interval(options.keepalive)
            .keep_alive_timeout(options.keepalive_timeout)
            .auto_date_header(false);
        let http1 = options.http1.then(|| {
            let mut http1 = http1::Builder::new();
            http1
                .timer(TokioTimer::new())
                .header_read_timeout(options.keepalive + options.keepalive_timeout)
                .max_buf_size(HTTP1_BUFFER_BYTES);
            http1
        });
        let (preface_timeout, age_max) = (options.preface_timeout, options.age_max);
        Self { http2, http1, preface_timeout, age_max }
    }
}

/// Serves `stream` until the peer leaves, it breaks, or it has ended after `end`.
pub(super) async fn serve<S, B>(
    stream: TcpStream,
    protocols: Protocols,
    service: S,
    end: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    // Hyper waits for the preface without a limit. A peer that comes at the end is still heard, so
    // that it learns properly that it has to go elsewhere.
    let spoken = timeout(protocols.preface_timeout, spoken(&stream)).await;
    let service = service_fn(move |request| service.clone().call(request));
    let io = TokioIo::new(stream);
    let age = age(protocols.age_max);
    match (spoken, protocols.http1) {
        (Ok(Some(Spoken::Http2)), _) => {
            let mut connection = pin!(protocols.http2.serve_connection(io, service));
            tokio::select! {
                ended = connection.as_mut() => return log(ended),
                () = end.cancelled() => {}
                () = age => {}
            }
            connection.as_mut().graceful_shutdown();
            log(connection.await);
        }
        (Ok(Some(Spoken::Http1)), Some(http1)) => {
            let mut connection = pin!(http1.serve_connection(io, service));
            tokio::select! {
                ended = connection.as_mut() => return log(ended),
                () = end.cancelled() => {}
                () = age => {}
            }
            connection.as_mut().graceful_shutdown();
            log(connection.await);
        }
        _ => tracing::debug!("a connection spoke no HTTP that is served here"),
    }
}

/// Which protocol the peer begins to speak, without taking its bytes; none if it left.
async fn spoken(stream: &TcpStream) -> Option<Spoken> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut seen).await.ok().filter(|count| *count > 0)?;
        if seen[..count] != PREFACE[..count] {
            return Some(Spoken::Http1);
        }
        if count == PREFACE.len() {
            return Some(Spoken::Http2);
        }
        sleep(PREFACE_PAUSE).await;
    }
}

/// Waits until the connection is old. The ages differ, lest all peers come back at once.
async fn age(age_max: Option<Duration>) {
    match age_max {
        Some(age) => sleep(age.mul_f64(rand::random_range(0.9..1.1))).await,
        None => std::future::pending().await,
    }
}

fn log(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
