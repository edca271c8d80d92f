//! Seats: how many may watch at this router, from one address, and on one connection.

use http::Extensions;
use proto::fault::{Fault, Reason};
use proto::limits::{WATCH_AGAIN_MS, WATCHERS_PER_ADDRESS_MAX, WATCHERS_PER_CONNECTION_MAX};
use runtime::metric::{Entered, Gauge, Gauges, Metrics};
use runtime::server::Connection;
use runtime::web::SpokenAs;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who wants to watch, as far as it counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who {
    /// None where nobody knows: then only the router's own limit counts.
    connection: Option<SocketAddr>,
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
    connection: Option<SocketAddr>,
    taken: Arc<Mutex<Taken>>,
    _counted: Entered,
}

/// How many seats are taken.
#[derive(Debug, Default)]
struct Taken {
    all: usize,
    connections: HashMap<SocketAddr, u32>,
    addresses: HashMap<IpAddr, u32>,
}

impl Who {
    /// The caller of a request with these extensions.
    pub(crate) fn of(extensions: &Extensions) -> Who {
        let protocol = match extensions.get() {
            None => Protocol::Grpc,
            Some(SpokenAs("json")) => Protocol::Sse,
            Some(_) => Protocol::GrpcWeb,
        };
        Who { connection: extensions.get().map(|Connection(peer)| *peer), protocol }
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
        if !lock(&self.taken).take(who.connection, self.watchers_max) {
            return Err(Fault::later(Reason::TooManyWatchers, WATCH_AGAIN_MS));
        }
        let counted = self.watchers[who.protocol as usize].enter();
        Ok(Seat { connection: who.connection, taken: self.taken.clone(), _counted: counted })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.taken).leave(self.connection);
    }
}

impl Taken {
    fn take(&mut self, connection: Option<SocketAddr>, most: usize) -> bool {
        if self.all >= most {
            return false;
        }
        if let Some(connection) = connection {
            let address = whose(connection.ip());
            if has(&self.connections, &connection) >= WATCHERS_PER_CONNECTION_MAX
                || has(&self.addresses, &address) >= WATCHERS_PER_ADDRESS_MAX
            {
                return false;
            }
            *self.connections.entry(connection).or_default() += 1;
            *self.addresses.entry(address).or_default() += 1;
        }
        self.all += 1;
        true
    }

    fn leave(&mut self, connection: Option<SocketAddr>) {
        self.all -= 1;
        if let Some(connection) = connection {
            less(&mut self.connections, connection);
            less(&mut self.addresses, whose(connection.ip()));
        }
    }
}

/// Who has one IPv6 address has a network of 64 bits of them.
fn whose(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
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
