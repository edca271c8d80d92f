//! Seats: how many may watch at this router, from one address, and on one connection.

use http::{Extensions, HeaderMap};
use proto::fault::{Fault, Reason};
use proto::limits::{WATCH_AGAIN_MS, WATCHERS_PER_ADDRESS_MAX, WATCHERS_PER_CONNECTION_MAX};
use runtime::metric::{Entered, Gauge, Gauges, Metrics};
use runtime::server::{Connection, Proxies, Source};
use runtime::web::SpokenAs;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who wants to watch, as far as it counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who {
    /// None where nobody knows, or many clients share it.
    connection: Option<SocketAddr>,
    /// None where nobody knows.
    address: Option<Source>,
    protocol: Protocol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Grpc,
    GrpcWeb,
    Sse,
}

const PROTOCOLS: [(Protocol, &str); 3] =
    [(Protocol::Grpc, "grpc"), (Protocol::GrpcWeb, "grpc-web"), (Protocol::Sse, "sse")];

/// See the module.
#[derive(Debug)]
pub(super) struct Seats {
    taken: Arc<Mutex<Taken>>,
    watchers_max: usize,
    watchers: [Gauge; 3],
}

/// A watcher's seat, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    who: Who,
    taken: Arc<Mutex<Taken>>,
    _counted: Entered,
}

/// How many seats are taken.
#[derive(Debug, Default)]
struct Taken {
    all: usize,
    connections: HashMap<SocketAddr, u32>,
    addresses: HashMap<Source, u32>,
}

impl Who {
    /// The caller of a request with these extensions.
    pub(crate) fn of(extensions: &Extensions) -> Who {
        let protocol = match extensions.get() {
            None => Protocol::Grpc,
            Some(SpokenAs("json")) => Protocol::Sse,
            Some(_) => Protocol::GrpcWeb,
        };
        let connection = extensions.get().map(|Connection(peer)| *peer);
        let address = connection.map(|peer| Source::from(peer.ip()));
        Who { connection, address, protocol }
    }

    /// The same by what proxies say that are believed: through one come many, each with an address of their own.
    pub(crate) fn through(self, proxies: &Proxies, headers: &HeaderMap) -> Who {
        let Some(peer) = self.connection.map(|peer| peer.ip().to_canonical()) else { return self };
        let client = proxies.client(peer, headers);
        let connection = self.connection.filter(|_| client == peer);
        Who { connection, address: Some(client.into()), ..self }
    }
}

impl Seats {
    /// So many seats.
    pub(super) fn new(watchers_max: usize, metrics: &Metrics) -> Seats {
        let watchers = Gauges::new(metrics, "floodgate_watchers", "Streams that watch a sale");
        let watchers = PROTOCOLS.map(|(_, label)| watchers.with(&[("protocol", label)]));
        Seats { taken: Arc::default(), watchers_max, watchers }
    }

    /// Takes a seat, or refuses it: who asks polls instead.
    pub(super) fn take(&self, who: Who) -> Result<Seat, Fault> {
        if !lock(&self.taken).take(who, self.watchers_max) {
            return Err(Fault::later(Reason::TooManyWatchers, WATCH_AGAIN_MS));
        }
        let counted = self.watchers[who.protocol as usize].enter();
        Ok(Seat { who, taken: self.taken.clone(), _counted: counted })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.taken).leave(self.who);
    }
}

impl Taken {
    fn take(&mut self, who: Who, most: usize) -> bool {
        let has_many =
            |connection| has(&self.connections, connection) >= WATCHERS_PER_CONNECTION_MAX;
        let have_many = |address| has(&self.addresses, address) >= WATCHERS_PER_ADDRESS_MAX;
        if self.all >= most
            || who.connection.as_ref().is_some_and(has_many)
            || who.address.as_ref().is_some_and(have_many)
        {
            return false;
        }
        self.all += 1;
        if let Some(connection) = who.connection {
            *self.connections.entry(connection).or_default() += 1;
        }
        if let Some(address) = who.address {
            *self.addresses.entry(address).or_default() += 1;
        }
        true
    }

    fn leave(&mut self, who: Who) {
        self.all -= 1;
        if let Some(connection) = who.connection {
            less(&mut self.connections, connection);
        }
        if let Some(address) = who.address {
            less(&mut self.addresses, address);
        }
    }
}

fn has<K: Hash + Eq>(counts: &HashMap<K, u32>, key: &K) -> u32 {
    counts.get(key).copied().unwrap_or(0)
}

fn less<K: Hash + Eq>(counts: &mut HashMap<K, u32>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
