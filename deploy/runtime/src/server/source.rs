//! Where connections and calls come from, and how many connections each address has open.
//!
//! An address is an IPv4 address, or an IPv6 network of 64 bits, which is what one subscriber gets: more of its
//! addresses are no more peers. Only addresses with open connections are remembered, so the table is never longer than
//! the door's cap. Behind a balancer all connections come from few addresses, and no cap per address can be kept there.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;

/// Bits of an IPv6 address that name a network and not one machine in it.
const NETWORK: u128 = !0 << 64;

/// What counts as one address, for connections and for calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Source {
        // On a socket for both, IPv4 comes dressed as IPv6.
        Source(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & NETWORK)),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// The open connections of each address.
#[derive(Debug)]
pub(super) struct Sources {
    open: HashMap<Source, u32>,
    each_max: Option<NonZeroU32>,
}

impl Sources {
    /// Nobody is inside, and of each address at most so many will be; 0: as many as come.
    pub(super) fn new(each_max: u32) -> Sources {
        Sources { open: HashMap::new(), each_max: NonZeroU32::new(each_max) }
    }

    /// Lets one more of this address in; false when it has its share.
    pub(super) fn enter(&mut self, source: Source) -> bool {
        let open = self.open.entry(source).or_default();
        if self.each_max.is_some_and(|max| *open >= max.get()) {
            return false;
        }
        *open += 1;
        true
    }

    /// One that was let in has left.
    pub(super) fn leave(&mut self, source: Source) {
        if let Some(open) = self.open.get_mut(&source) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&source);
            }
        }
    }

    /// Addresses with open connections.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::from(text.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn who_counts_as_one() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
            ("::1", "127.0.0.1", false),
        ] {
            assert_eq!(source(one) == source(other), same, "{one} and {other}");
        }
    }

    #[test]
    fn each_address_has_its_share_and_gets_it_back() {
        let (one, other) = (source("192.0.2.1"), source("192.0.2.2"));
        let mut sources = Sources::new(2);
        // What happens, whether it is let in, and how many addresses are remembered then.
        let steps = [
            (true, one, true, 1),
            (true, one, true, 1),
            (true, one, false, 1),
            (true, other, true, 2),
            (false, one, true, 2),
            (true, one, true, 2),
            (true, one, false, 2),
            (false, other, true, 1),
            (false, one, true, 1),
            (false, one, true, 0),
            // Nobody leaves twice.
            (false, one, true, 0),
            (true, one, true, 1),
        ];
        for (number, (enters, source, let_in, remembered)) in steps.into_iter().enumerate() {
            if enters {
                assert_eq!(sources.enter(source), let_in, "step {number}");
            } else {
                sources.leave(source);
            }
            assert_eq!(sources.len(), remembered, "step {number}");
        }
    }

    #[test]
    fn without_a_cap_all_come_in() {
        let mut sources = Sources::new(0);
        assert!((0..10_000).all(|_| sources.enter(source("192.0.2.1"))));
    }
}
