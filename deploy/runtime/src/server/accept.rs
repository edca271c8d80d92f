//! The door: takes connections as they come and lets in no more than fit.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ServerOptions;
use crate::drain::Drain;
use crate::metric::{Counter, Entered, Gauge, Metrics};

/// Rest after the system could not give us a connection, as when file descriptors run out.
const REST: Duration = Duration::from_millis(100);

/// How many are inside, and how many may be.
#[derive(Debug)]
pub(super) struct Door {
    places: Arc<Semaphore>,
    open: Gauge,
    accepted: Counter,
    refused: Counter,
    failed: Counter,
}

/// A connection's place; it is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    _open: Entered,
}

impl Door {
    pub(super) fn new(options: &ServerOptions, metrics: &Metrics) -> Self {
        let port: &[_] = &[("port", options.name)];
        let count = |name, help| Counter::new(metrics, name, help, port);
        Self {
            places: Arc::new(Semaphore::new(options.connections_max)),
            open: Gauge::new(metrics, "floodgate_connections", "Connections open now", port),
            accepted: count("floodgate_connections_accepted_total", "Connections let in"),
            refused: count(
                "floodgate_connections_refused_total",
                "Connections closed at once because too many were open",
            ),
            failed: count(
                "floodgate_connections_failed_total",
                "Connections that the system could not give us",
            ),
        }
    }

    fn enter(&self) -> Option<Place> {
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else {
            self.refused.add(1);
            return None;
        };
        self.accepted.add(1);
        Some(Place { _permit: permit, _open: self.open.enter() })
    }
}

/// Takes connections until the drain begins.
pub(super) async fn each(
    listener: &TcpListener,
    door: &Door,
    drain: &Drain,
    mut take: impl FnMut(TcpStream, Place),
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                // Answers are small and complete: waiting to fill a segment would only delay them.
                if let (Some(place), Ok(())) = (door.enter(), stream.set_nodelay(true)) {
                    take(stream, place);
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
