//! Who is at the other end of a call: its connection's address, or what a trusted proxy says of it.
//!
//! A balancer in front of us is the peer of every connection; the client's address is what it adds to
//! `x-forwarded-for`. Anybody can send that header, so it is read only in calls from proxies that were named, and from
//! its end: each proxy adds the address that it saw, and the first that is no proxy of ours is the client. (The PROXY
//! protocol says the same once a connection; but balancers that end HTTP/2 mix many clients on one.)

use std::convert::Infallible;
use std::net::IpAddr;
use std::str::FromStr;
use std::task::{Context, Poll};

use http::{HeaderMap, Request};
use hyper::body::Incoming;
use tonic::codegen::Service;

/// The address at the other end of a call's connection: an extension of its request, when
/// [`super::ServerOptions::peers`] asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// A service that knows who is at the other end. It costs three small allocations a call, and nothing without a peer.
#[derive(Clone, Debug)]
pub(super) struct Peered<S> {
    service: S,
    peer: Option<Peer>,
}

impl<S> Peered<S> {
    pub(super) fn new(service: S, peer: Option<IpAddr>) -> Self {
        // On a socket for both, IPv4 comes dressed as IPv6.
        Self { service, peer: peer.map(|peer| Peer(peer.to_canonical())) }
    }
}

impl<S> Service<Request<Incoming>> for Peered<S>
where
    S: Service<Request<Incoming>, Error = Infallible>,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        self.service.call(request)
    }
}

/// Addresses that begin alike, like `10.0.0.0/8` or `2001:db8::/32`; one alone is itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    fn contains(&self, other: IpAddr) -> bool {
        let same = |one: u128, two: u128, of: u32| {
            let rest = of - u32::from(self.bits);
            one.checked_shr(rest).unwrap_or(0) == two.checked_shr(rest).unwrap_or(0)
        };
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                same(own.to_bits().into(), other.to_bits().into(), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => same(own.to_bits(), other.to_bits(), 128),
            _ => false,
        }
    }
}

/// What is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write an address or a network, like 10.0.0.0/8 or 2001:db8::/32")]
pub struct BadNetwork;

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| BadNetwork)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| BadNetwork))?;
        if bits > most { Err(BadNetwork) } else { Ok(Network { address, bits }) }
    }
}

/// The proxies whose word on clients is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Vec<Network>);

impl Proxies {
    /// Those in `networks`.
    pub fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Whose call it is that came from `peer` with these headers. What cannot be read ends the search: the last proxy that
    /// could be is answered for everything behind it.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        if !self.trusts(client) {
            return client;
        }
        let said = headers.get_all("x-forwarded-for").iter().rev();
        let said = said.flat_map(|value| value.to_str().unwrap_or("?").rsplit(','));
        for address in said {
            let Ok(address) = address.trim().parse::<IpAddr>() else { break };
            client = address.to_canonical();
            if !self.trusts(client) {
                break;
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks() {
        let rows = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("0.0.0.0/0", "203.0.113.7", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "2001:db9::1", true),
        ];
        for (network, address, expected) in rows {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(ip(address)), expected, "{network:?} {address}");
        }
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/-1", "host"] {
            assert_eq!(bad.parse::<Network>(), Err(BadNetwork), "{bad}");
        }
    }

    #[test]
    fn only_proxies_are_believed_and_only_as_far_as_they_saw() {
        let networks = ["10.0.0.0/8", "2001:db8::/32"].map(|text| text.parse().unwrap());
        let proxies = Proxies::new(networks.to_vec());
        let client = |peer: &str, said: &[&str]| {
            let mut headers = HeaderMap::new();
            for said in said {
                headers.append("x-forwarded-for", said.parse().unwrap());
            }
            proxies.client(ip(peer), &headers).to_string()
        };
        let rows: [(&str, &[&str], &str); 10] = [
            ("203.0.113.7", &[], "203.0.113.7"),
            ("203.0.113.7", &["198.51.100.1"], "203.0.113.7"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            // The client made up the first.
            ("10.0.0.1", &["192.0.2.1, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["192.0.2.1", "198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1, 10.9.9.9"], "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1, nonsense"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1, nonsense, 10.2.2.2"], "10.2.2.2"),
            ("2001:db8::1", &["::ffff:198.51.100.1"], "198.51.100.1"),
        ];
        for (peer, said, expected) in rows {
            assert_eq!(client(peer, said), expected, "{peer} {said:?}");
        }
        assert_eq!(Proxies::default().client(ip("10.0.0.1"), &HeaderMap::new()), ip("10.0.0.1"));
    }
}
