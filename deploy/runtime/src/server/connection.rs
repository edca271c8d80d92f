//! One connection, from its first byte to its end.
//!
//! A task is as large as the most that it may become, and there are many that only wait. So what not all of them need is
//! in boxes: the handshake, TLS, and each protocol's part.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::answer::Answer;
use super::frames::PREFACE;
use super::guard::{Guard, Guarded};
use super::metered::Metered;
use super::pulse::{Patience, Pulse, Why, watch};
use super::tls::{Shaken, handshake};
use super::turnstile::{Turn, Turned, Turnstile};
use super::{FrameLimits, Leaving, Served, ServerOptions};
use crate::metric::{Counter, Counters, Metrics};
use crate::tls::TlsServer;

/// Pause before looking again whether the rest of a split preface has come.
const PREFACE_PAUSE: Duration = Duration::from_millis(5);

/// Headers of an HTTP/1.1 call; hyper wants a buffer of at least this.
const HTTP1_BUFFER_BYTES: usize = 16 * 1_024;

/// How connections are spoken on, by the options.
pub(super) struct Protocols {
    http2: http2::Builder<TokioExecutor>,
    http1: Option<http1::Builder>,
    tls: Option<TlsServer>,
    handshake_timeout: Duration,
    frames: Option<FrameLimits>,
    patience: Patience,
    age_max: Option<Duration>,
    age_grace: Option<Duration>,
    turnstile: Option<Arc<Turnstile>>,
    closed: Arc<[(Why, Counter)]>,
}

enum Spoken {
    Http1,
    Http2,
}

/// What tells a connection to end, and by what its long calls are told.
pub(super) type End = (CancellationToken, Leaving);

impl Protocols {
    pub(super) fn new(options: &ServerOptions, metrics: &Metrics) -> Self {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(options.streams_max)
            .max_local_error_reset_streams(options.local_resets_max)
            .max_pending_accept_reset_streams(options.pending_resets_max)
            .max_header_list_size(options.headers_max_bytes)
            .initial_stream_window_size(options.stream_window_bytes)
            .initial_connection_window_size(options.connection_window_bytes)
            .max_send_buf_size(options.unsent_bytes)
            .keep_alive_interval(options.keepalive)
            .keep_alive_timeout(options.keepalive_timeout)
            .auto_date_header(false);
        let http1 = options.http1.then(|| {
            let mut http1 = http1::Builder::new();
            http1
                .timer(TokioTimer::new())
                .header_read_timeout(options.stall_timeout)
                .max_buf_size(HTTP1_BUFFER_BYTES);
            http1
        });
        let patience = Patience {
            preface: options.preface_timeout,
            stall: options.stall_timeout,
            request: options.request_timeout,
        };
        let closed = Counters::new(
            metrics,
            "floodgate_connections_closed_total",
            "Connections closed because of what their peer did or left undone",
        );
        let closed = Why::ALL
            .map(|why| (why, closed.with(&[("port", options.name), ("why", why.name())])))
            .into();
        Self {
            http2,
            http1,
            tls: options.tls.clone(),
            handshake_timeout: options.handshake_timeout,
            frames: options.frames.clone(),
            patience,
            age_max: options.age_max,
            age_grace: options.age_grace,
            turnstile: options
                .effort
                .clone()
                .map(|effort| Arc::new(Turnstile::new(effort, options.name, metrics))),
            closed,
        }
    }

    /// Where connections wait when there is too much to do; it wants to be kept.
    pub(super) fn turnstile(&self) -> Option<Arc<Turnstile>> {
        self.turnstile.clone()
    }

    fn close(&self, why: Why) {
        if let Some((_, count)) = self.closed.iter().find(|(one, _)| *one == why) {
            count.add(1);
        }
        tracing::debug!(why = why.name(), "a connection is closed");
    }
}

/// Serves `stream` until the peer leaves, it breaks, or it has ended after `end`.
pub(super) async fn serve<S: Served>(
    stream: TcpStream,
    protocols: Arc<Protocols>,
    service: S,
    end: End,
) {
    let turn = protocols.turnstile.as_ref().map(Turnstile::turn);
    let mut stream = Turned::new(stream, turn.clone());
    if protocols.tls.is_some() {
        return Box::pin(encrypted(stream, turn, protocols, service, end)).await;
    }
    // Hyper waits for the preface without a limit. A peer that comes at the end is still heard, so
    // that it learns properly that it has to go elsewhere.
    match timeout(protocols.patience.preface, spoken(stream.stream())).await {
        Ok(Some(spoken)) => match stream.turn().await {
            Ok(()) => speak(stream, (spoken, turn), &protocols, service, end).await,
            // Nothing was made yet for whoever had to wait first.
            Err(_) => protocols.close(Why::Crowded),
        },
        Ok(None) => {}
        Err(_) => protocols.close(Why::Preface),
    }
}

/// The same behind TLS.
async fn encrypted<S: Served>(
    stream: Turned,
    turn: Option<Arc<Turn>>,
    protocols: Arc<Protocols>,
    service: S,
    end: End,
) {
    let Some(tls) = &protocols.tls else { return };
    match Box::pin(handshake(stream, tls, protocols.handshake_timeout)).await {
        Some(Shaken { stream, is_http2 }) => {
            let spoken = if is_http2 { Spoken::Http2 } else { Spoken::Http1 };
            speak(stream, (spoken, turn), &protocols, service, end).await;
        }
        None => protocols.close(Why::Handshake),
    }
}

/// Serves what is known to begin with `spoken`.
async fn speak<T, S>(
    io: T,
    (spoken, turn): (Spoken, Option<Arc<Turn>>),
    protocols: &Protocols,
    service: S,
    end: End,
) where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Served,
{
    let calling = turn.clone();
    let closed = match (spoken, &protocols.http1) {
        (Spoken::Http2, _) => Box::pin(many(io, protocols, (service, calling), &end)).await,
        (Spoken::Http1, Some(http1)) => {
            Box::pin(one(io, (protocols, http1), (service, calling), &end)).await
        }
        (Spoken::Http1, None) => Some(Why::Preface),
    };
    // Whoever had to go because of the turnstile is seen to break off.
    let crowded = turn.filter(|turn| turn.is_gone()).map(|_| Why::Crowded);
    if let Some(why) = crowded.or(closed) {
        protocols.close(why);
    }
}

/// HTTP/2, on which many calls are under way at a time.
async fn many<T, S>(
    io: T,
    protocols: &Protocols,
    (service, turn): (S, Option<Arc<Turn>>),
    end: &End,
) -> Option<Why>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Served,
{
    let pulse = protocols.frames.as_ref().map(|_| Arc::<Pulse>::default());
    let flood = Arc::new(OnceLock::new());
    let io = match (&protocols.frames, &pulse) {
        (Some(limits), Some(pulse)) => {
            Metered::new(io, limits.clone(), pulse.clone(), flood.clone())
        }
        _ => Metered::not(io),
    };
    let told = pulse.clone();
    let service = service_fn(move |request| {
        if let Some(turn) = &turn {
            turn.called();
        }
        let (answer, pulse) = (service.clone().call(request), told.clone());
        async move {
            let answer = answer.await?;
            Ok::<_, Infallible>(answer.map(|body| Answer::new(body, pulse)))
        }
    });
    let connection = Box::pin(protocols.http2.serve_connection(TokioIo::new(io), service));
    let watched = async {
        match &pulse {
            Some(pulse) => watch(pulse, protocols.patience).await,
            None => std::future::pending().await,
        }
    };
    let life = Life { protocols, end };
    let closed = life.live(connection, watched, |connection| connection.graceful_shutdown()).await;
    flood.get().map(|flood| Why::Flood(*flood)).or(closed)
}

/// HTTP/1.1, on which there is one call at a time.
async fn one<T, S>(
    io: T,
    (protocols, http1): (&Protocols, &http1::Builder),
    (service, turn): (S, Option<Arc<Turn>>),
    end: &End,
) -> Option<Why>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Served,
{
    let limits = protocols.frames.as_ref();
    let guard = limits.map(|limits| Guard::new(limits.requests_at_once_max, protocols.patience));
    let guard = guard.map(Arc::new);
    let io = TokioIo::new(Guarded::new(io, guard.clone()));
    let told = guard.clone();
    let service = service_fn(move |request| {
        if let Some(turn) = &turn {
            turn.called();
        }
        let (answer, guard) = (service.clone().call(request), told.clone());
        async move {
            match guard {
                Some(guard) => guard.answer(answer).await,
                None => answer.await,
            }
        }
    });
    let connection = Box::pin(http1.serve_connection(io, service));
    let broken = async {
        match &guard {
            Some(guard) => guard.broken().await,
            None => std::future::pending().await,
        }
    };
    let life = Life { protocols, end };
    life.live(connection, broken, |connection| connection.graceful_shutdown()).await
}

/// What may end a connection besides its peer.
struct Life<'a> {
    protocols: &'a Protocols,
    end: &'a End,
}

impl Life<'_> {
    /// Drives a connection to its end, or until `watched` says why it has to be closed before that.
    async fn live<C>(
        self,
        mut connection: Pin<Box<C>>,
        watched: impl Future<Output = Why>,
        shut_down: impl Fn(Pin<&mut C>),
    ) -> Option<Why>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut watched = pin!(watched);
        tokio::select! {
            ended = connection.as_mut() => return log(ended),
            why = watched.as_mut() => return Some(why),
            () = leave(self.protocols.age_max, &self.end.0) => {}
        }
        self.end.1.begin();
        shut_down(connection.as_mut());
        tokio::select! {
            ended = connection => log(ended),
            why = watched => Some(why),
            () = after(self.protocols.age_grace) => Some(Why::Age),
        }
    }
}

/// Waits until the connection is to end. The ages differ, lest all peers come back at once.
async fn leave(age_max: Option<Duration>, end: &CancellationToken) {
    let age = age_max.map(|age| age.mul_f64(rand::random_range(0.9..1.1)));
    tokio::select! {
        () = end.cancelled() => {}
        () = after(age) => {}
    }
}

async fn after(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
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

fn log(ended: hyper::Result<()>) -> Option<Why> {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
    None
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex, split};
    use tonic::service::Routes;

    use super::super::Routed;
    use super::*;

    #[tokio::test]
    async fn a_task_has_no_room_for_what_its_connection_is_not() {
        let options = ServerOptions { http1: true, ..ServerOptions::default() };
        let protocols = Protocols::new(&options, &Metrics::new("test", "0").unwrap());
        let (_reporter, health) = tonic_health::server::health_reporter();
        let service = Routed::new(Routes::new(health));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let end = End::default();
        let bytes = size_of_val(&serve(stream, Arc::new(protocols), service, end));
        assert!(bytes <= 1_280, "a hundred thousand who only wait have {bytes} bytes each");
    }

    #[tokio::test]
    async fn who_asks_and_does_not_read_is_given_up() {
        let stall_timeout = Duration::from_millis(90);
        let frames = Some(FrameLimits { asks_max: u32::MAX, ..FrameLimits::default() });
        let options = ServerOptions { stall_timeout, frames, ..ServerOptions::default() };
        let protocols = Protocols::new(&options, &Metrics::new("test", "0").unwrap());
        let (_reporter, health) = tonic_health::server::health_reporter();
        let service = Routed::new(Routes::new(health));
        // There is room for so little that the first answers fill it.
        let (ours, theirs) = duplex(64);
        let (_unread, mut writer) = split(theirs);
        let asking = async {
            let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
            let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
            let mut says = [&PREFACE[..], &settings].concat();
            while writer.write_all(&says).await.is_ok() {
                says = ping.to_vec();
            }
        };
        let end = End::default();
        tokio::join!(speak(ours, (Spoken::Http2, None), &protocols, service, end), asking);
        let counts = protocols.closed.iter().filter(|(_, count)| count.value() > 0);
        let counts: Vec<_> = counts.map(|(why, count)| (*why, count.value())).collect();
        assert_eq!(counts, [(Why::Write, 1)]);
    }
}
