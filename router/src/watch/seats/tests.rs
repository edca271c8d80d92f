//! Who finds a seat.

use super::*;

fn peer(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn a_router_an_address_and_a_connection_have_so_many() {
    let mut taken = Taken::default();
    let one = peer("192.0.2.1:1");
    for _ in 0..WATCHERS_PER_CONNECTION_MAX {
        assert!(taken.take(Some(one), usize::MAX));
    }
    assert!(!taken.take(Some(one), usize::MAX), "one too many on the connection");
    for port in (2..).take((WATCHERS_PER_ADDRESS_MAX - WATCHERS_PER_CONNECTION_MAX) as usize) {
        assert!(taken.take(Some(SocketAddr::new(one.ip(), port)), usize::MAX));
    }
    let full = WATCHERS_PER_ADDRESS_MAX as usize;
    assert!(!taken.take(Some(peer("192.0.2.1:60000")), usize::MAX), "one too many from it");
    assert!(!taken.take(Some(peer("[::ffff:192.0.2.1]:60000")), usize::MAX), "the same dressed up");
    assert!(taken.take(Some(peer("192.0.2.2:1")), usize::MAX));
    assert!(taken.take(None, full + 2));
    assert!(!taken.take(None, full + 2), "one too many at all");
    assert!(!taken.take(Some(peer("192.0.2.3:1")), full + 2));

    // A refusal takes nothing, and whoever leaves makes room for one.
    taken.leave(Some(one));
    assert!(taken.take(Some(one), full + 2));
    assert!(!taken.take(Some(one), full + 3));
}

#[test]
fn all_of_an_ipv6_network_of_64_bits_are_one() {
    assert_eq!(whose("2001:db8::1".parse().unwrap()), whose("2001:db8::ffff:1".parse().unwrap()));
    assert_ne!(whose("2001:db8::1".parse().unwrap()), whose("2001:db8:0:1::1".parse().unwrap()));
}

#[test]
fn a_seat_is_given_back_and_nothing_is_remembered_of_it() {
    let metrics = Metrics::new("test", "0").unwrap();
    let seats = Seats::new(2, &metrics);
    let mut extensions = Extensions::new();
    extensions.insert(Connection(peer("192.0.2.1:1")));
    let grpc = Who::of(&extensions);
    extensions.insert(SpokenAs("json"));
    let sse = Who::of(&extensions);
    let taken = [grpc, sse].map(|who| seats.take(who).unwrap());
    let refused = seats.take(grpc).unwrap_err();
    assert_eq!(refused, Fault::later(Reason::TooManyWatchers, WATCH_AGAIN_MS));
    let text = metrics.text().unwrap();
    for line in ["{protocol=\"grpc\"} 1", "{protocol=\"grpc-web\"} 0", "{protocol=\"sse\"} 1"] {
        assert!(text.contains(&format!("floodgate_watchers{line}")), "{text}");
    }
    drop(taken);
    let left = lock(&seats.taken);
    assert_eq!((left.all, left.connections.len(), left.addresses.len()), (0, 0, 0));
}
