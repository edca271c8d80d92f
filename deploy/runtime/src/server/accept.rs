//! The door: takes connections as they come and lets in no more than fit, all together and of each address.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpUserTimeout;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ServerOptions;
use super::source::{Source, Sources};
use crate::drain::Drain;
use crate::metric::{Counter, Counters, Entered, Gauge, Metrics};

/// Rest after the system could not give us a connection, as when file descriptors run out.
const REST: Duration = Duration::from_millis(100);

/// How many are inside, and how many may be.
#[derive(Debug)]
pub(super) struct Door {
    places: Arc<Semaphore>,
    sources: SharedSources,
    open: Gauge,
    accepted: Counter,
    refused_full: Counter,
    refused_address: Counter,
    failed: Counter,
    unread_timeout_ms: u32,
}

/// A connection's place; it is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    _open: Entered,
    source: Source,
    sources: SharedSources,
}

type SharedSources = Arc<Mutex<Sources>>;

fn lock(sources: &SharedSources) -> MutexGuard<'_, Sources> {
    sources.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.sources).leave(self.source);
    }
}

impl Door {
    pub(super) fn new(options: &ServerOptions, metrics: &Metrics) -> Self {
        let name = options.name;
        let count = |name, help| Counter::new(metrics, name, help, &[("port", options.name)]);
        let refused = Counters::new(
            metrics,
            "floodgate_connections_refused_total",
            "Connections closed at once because too many were open, in all or of their address",
        );
        let sources = Arc::new(Mutex::new(Sources::new(options.connections_per_address_max)));
        let counted = sources.clone();
        metrics.observe(
            "floodgate_connection_addresses",
            "Addresses with open connections",
            &[("port", name)],
            move || f64::from(u32::try_from(lock(&counted).len()).unwrap_or(u32::MAX)),
        );
        Self {
            places: Arc::new(Semaphore::new(options.connections_max)),
            sources,
            open: Gauge::new(
                metrics,
                "floodgate_connections",
                "Connections open now",
                &[("port", name)],
            ),
            accepted: count("floodgate_connections_accepted_total", "Connections let in"),
            refused_full: refused.with(&[("port", name), ("why", "full")]),
            refused_address: refused.with(&[("port", name), ("why", "address")]),
            failed: count(
                "floodgate_connections_failed_total",
                "Connections that the system could not give us",
            ),
            unread_timeout_ms: u32::try_from(options.unread_timeout.as_millis())
                .unwrap_or(u32::MAX),
        }
    }

    fn enter(&self, address: IpAddr) -> Option<Place> {
        // The address first: whoever has its share already takes no place from others even for a moment.
        let source = Source::from(address);
        if !lock(&self.sources).enter(source) {
            self.refused_address.add(1);
            return None;
        }
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else {
            lock(&self.sources).leave(source);
            self.refused_full.add(1);
            return None;
        };
        self.accepted.add(1);
        let sources = self.sources.clone();
        Some(Place { _permit: permit, _open: self.open.enter(), source, sources })
    }

    fn prepare(&self, stream: &TcpStream) -> io::Result<()> {
        // Answers are small and complete: waiting to fill a segment would only delay them.
        stream.set_nodelay(true)?;
        setsockopt(stream, TcpUserTimeout, &self.unread_timeout_ms)?;
        Ok(())
    }
}

/// Takes connections until the drain begins.
pub(super) async fn each(
    listener: &TcpListener,
    door: &Door,
    drain: &Drain,
    mut take: impl FnMut(TcpStream, IpAddr, Place),
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let (Some(place), Ok(())) = (door.enter(peer.ip()), door.prepare(&stream)) {
                    take(stream, peer.ip(), place);
                }
            }
            Err(error) => {
                door.failed.add(1);
                if is_ours(&error) {
                    tracing::warn!(%error, "cannot accept connections; trying again");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }
}

/// Whether it is this machine that failed, and not one peer that went away while it waited.
fn is_ours(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
