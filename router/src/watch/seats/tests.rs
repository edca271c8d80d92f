//! Who finds a seat.

use super::*;

fn peer(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Who comes over the connection of this peer.
fn on(connection: SocketAddr) -> Who {
    let mut extensions = Extensions::new();
    extensions.insert(Connection(connection));
    Who::of(&extensions)
}

#[test]
fn a_router_an_address_and_a_connection_have_so_many() {
    let mut taken = Taken::default();
    let one = peer("192.0.2.1:1");
    for _ in 0..WATCHERS_PER_CONNECTION_MAX {
        assert!(taken.take(on(one), usize::MAX));
    }
    assert!(!taken.take(on(one), usize::MAX), "one too many on the connection");
    for port in (2..).take((WATCHERS_PER_ADDRESS_MAX - WATCHERS_PER_CONNECTION_MAX) as usize) {
        assert!(taken.take(on(SocketAddr::new(one.ip(), port)), usize::MAX));
    }
    let (full, nobody) = (WATCHERS_PER_ADDRESS_MAX as usize, Who::of(&Extensions::new()));
    for the_same in ["192.0.2.1:60000", "[::ffff:192.0.2.1]:60000"] {
        assert!(!taken.take(on(peer(the_same)), usize::MAX), "one too many from {the_same}");
    }
    assert!(taken.take(on(peer("192.0.2.2:1")), usize::MAX));
    assert!(taken.take(nobody, full + 2));
    assert!(!taken.take(nobody, full + 2), "one too many at all");
    assert!(!taken.take(on(peer("192.0.2.3:1")), full + 2));

    // A refusal takes nothing, and whoever leaves makes room for one.
    taken.leave(on(one));
    assert!(taken.take(on(one), full + 2));
    assert!(!taken.take(on(one), full + 3));
}

#[test]
fn who_comes_through_a_proxy_has_an_address_and_shares_the_connection() {
    let proxies = Proxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
    let mut headers = HeaderMap::new();
    headers.insert("x-forwarded-for", "203.0.113.7".parse().unwrap());
    let (proxy, other) = (peer("10.0.0.1:1"), peer("192.0.2.1:1"));
    let through = on(proxy).through(&proxies, &headers);
    assert_eq!(
        (through.connection, through.address),
        (None, Some(peer("203.0.113.7:1").ip().into()))
    );
    let direct = on(other).through(&proxies, &headers);
    assert_eq!((direct.connection, direct.address), (Some(other), Some(other.ip().into())));
}

#[test]
fn a_seat_is_given_back_and_nothing_is_remembered_of_it() {
    let metrics = Metrics::new("test", "0").unwrap();
    let seats = Seats::new(2, &metrics);
    let grpc = on(peer("192.0.2.1:1"));
    let sse = Who { protocol: Protocol::Sse, ..grpc };
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
