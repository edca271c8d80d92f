//! Free ports that two stacks never share.
//!
//! A port is claimed by binding an abstract Unix socket named after it, so the claim holds between
//! processes (tests run side by side), lasts while the server is down (a killed server comes back on
//! the port it had) and ends by itself when its owner dies. All ports lie below the ephemeral range,
//! so no outgoing connection takes one. Programs that do not know the claim may still take a port
//! between the test and the server's bind; a start that fails for that reason takes another port.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};

use crate::LocalError;

/// Where ports come from. Linux gives outgoing connections ports from 32768 up.
const PORT_RANGE: Range<u16> = 18_000..32_000;

/// How many random ports are tried before giving up.
const PORT_TRIES_MAX: u32 = 500;

/// One port of 127.0.0.1, ours until this value is dropped.
#[derive(Debug)]
pub(crate) struct PortClaim {
    port: u16,
    _claim: UnixDatagram,
}

impl PortClaim {
    /// Claims a port on which nobody listens.
    pub(crate) fn take() -> Result<Self, LocalError> {
        for _ in 0..PORT_TRIES_MAX {
            let port = rand::random_range(PORT_RANGE);
            if let Some(claim) = Self::try_take(port) {
                return Ok(claim);
            }
        }
        Err(LocalError::Ports { tried: PORT_TRIES_MAX })
    }

    /// The claimed port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn try_take(port: u16) -> Option<Self> {
        let name = UnixAddr::from_abstract_name(format!("floodgate-port-{port}")).ok()?;
        let claim = UnixDatagram::bind_addr(&name).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        Some(Self { port, _claim: claim })
    }
}

/// An address of this machine.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn claims_are_distinct_and_below_the_ephemeral_range() {
        let claims: Vec<_> = (0..50).map(|_| PortClaim::take().unwrap()).collect();
        let ports: BTreeSet<_> = claims.iter().map(PortClaim::port).collect();
        assert_eq!(ports.len(), claims.len());
        assert!(ports.iter().all(|port| PORT_RANGE.contains(port)));
    }

    #[test]
    fn a_claimed_port_is_taken_until_dropped() {
        let claim = PortClaim::take().unwrap();
        let port = claim.port();
        assert!(PortClaim::try_take(port).is_none());
        drop(claim);
        assert!(PortClaim::try_take(port).is_some());
    }

    #[test]
    fn a_port_somebody_listens_on_is_not_given() {
        let claim = PortClaim::take().unwrap();
        let port = claim.port();
        drop(claim);
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(PortClaim::try_take(port).is_none());
    }
}
