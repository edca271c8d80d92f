//! Rates against what they promise.

use super::*;
use proto::token::Role;

const SECOND_NS: u64 = 1_000_000_000;

fn limits() -> Limits {
    Limits { address: 0, buyer: 10, buyer_burst: 3, sale: 0, org: 0, all: 0 }
}

fn caller(subject: &str) -> Caller {
    Caller {
        org: "acme".parse().ok(),
        subject: subject.into(),
        role: Role::Buyer,
        expires_ms: 0,
        token_id: None,
    }
}

#[test]
fn a_burst_then_the_rate_and_others_are_not_concerned() {
    let quotas = Quotas::new(limits());
    let (ada, bob) = (caller("ada"), caller("bob"));
    for _ in 0..3 {
        assert_eq!(quotas.buyer(&ada, 0), Ok(()));
    }
    assert_eq!(quotas.buyer(&ada, 0), Err(Fault::later(Reason::BuyerRate, 100)));
    assert_eq!(quotas.buyer(&bob, 0), Ok(()));
    assert_eq!(quotas.buyer(&ada, SECOND_NS / 10), Ok(()));
    assert!(quotas.buyer(&ada, SECOND_NS / 10).is_err());
    assert_eq!(quotas.buyer(&ada, 10 * SECOND_NS), Ok(()));
}

#[test]
fn what_is_shared_is_given_up_in_the_order_of_worth() {
    use Worth::{Checkout, Display, Join, Poll, Reserve};
    // A burst of a hundred calls that all share.
    let quotas = Quotas::new(Limits { all: 400, ..limits() });
    let mut passed = Vec::new();
    for worth in [Display, Poll, Join, Reserve, Checkout] {
        let count = (0..1_000).take_while(|_| quotas.all(worth, 0).is_ok()).count();
        passed.push(count);
        assert_eq!(quotas.all(worth, 0).unwrap_err().reason, Reason::Overloaded);
    }
    assert_eq!(passed, [50, 15, 15, 10, 10]);
    // What comes free goes to the worthiest who ask.
    assert!(quotas.all(Reserve, SECOND_NS / 400).is_err());
    assert!(quotas.all(Checkout, SECOND_NS / 400).is_ok());
    // And alone, each of them has the whole rate.
    for worth in [Display, Checkout] {
        let quotas = Quotas::new(Limits { all: 400, ..limits() });
        let a_second = (0..SECOND_NS).step_by(500_000);
        let passed = a_second.filter(|now_ns| quotas.all(worth, *now_ns).is_ok()).count();
        assert!((400..=500).contains(&passed), "{worth:?}: {passed}");
    }
}

#[test]
fn a_single_call_passes_where_nothing_is_used_up() {
    for per_s in [1, 2, 3] {
        let quotas = Quotas::new(Limits { all: per_s, ..limits() });
        assert!(quotas.all(Worth::Display, 0).is_ok(), "{per_s}");
        assert!(quotas.all(Worth::Checkout, 0).is_err(), "{per_s}");
        assert!(quotas.all(Worth::Display, SECOND_NS).is_ok(), "{per_s}");
    }
}

#[test]
fn too_many_under_way_are_refused_until_they_end() {
    let quotas = Quotas::new(limits());
    let mut under_way: Vec<_> =
        (0..=CALLS_UNDER_WAY_MAX * 9 / 10).map(|_| quotas.enter()).collect();
    assert!(quotas.all(Worth::Reserve, 0).is_err());
    assert!(quotas.all(Worth::Checkout, 0).is_ok());
    under_way.extend((under_way.len()..CALLS_UNDER_WAY_MAX + 10).map(|_| quotas.enter()));
    assert_eq!(quotas.all(Worth::Checkout, 0).unwrap_err().reason, Reason::Overloaded);
    drop(under_way);
    assert!(quotas.all(Worth::Display, 0).is_ok());
}

#[test]
fn a_bad_token_costs_its_address_and_an_ipv6_network_is_one_address() {
    let quotas = Quotas::new(Limits { address: 1_000, ..limits() });
    let address = |text: &str| text.parse::<IpAddr>().ok();
    let passes = |from: &str| quotas.address(address(from), 0).is_ok();
    for _ in 0..2 {
        assert!(passes("192.0.2.1"));
        quotas.bad_token(address("192.0.2.1"), 0);
    }
    assert!(passes("192.0.2.1"));
    quotas.bad_token(address("192.0.2.1"), 0);
    let refused = quotas.address(address("192.0.2.1"), 0).unwrap_err();
    assert_eq!(refused.reason, Reason::AddressRate);
    assert!(refused.retry_after_ms >= QUOTA_SHARED_RETRY_MS);
    assert!(passes("192.0.2.2"), "others are not concerned");
    // It cannot be charged for ever.
    for _ in 0..1_000 {
        quotas.bad_token(address("192.0.2.1"), 0);
    }
    assert!(quotas.address(address("192.0.2.1"), SECOND_NS).is_ok());
    for host in 1..=250 {
        assert!(passes(&format!("2001:db8::{host}")));
    }
    assert!(!passes("2001:db8::ffff:1"));
    assert!(passes("2001:db8:0:1::1"));
    assert!(quotas.address(None, 0).is_ok(), "nobody to count");
}
