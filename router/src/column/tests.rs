//! The order of the steps, and what a refusal costs.

use super::*;
use crate::auth::Auth;
use crate::link::{LinkMetrics, Links};
use crate::metrics::RouterMetrics;
use crate::quota::{Limits, Quotas};
use crate::states::States;
use allocation_counter::measure;
use arc_swap::ArcSwap;
use futures_util::FutureExt;
use prost::Message;
use proto::keys;
use proto::token::{Claims, sign};
use proto::wire::cell::{KeyRecord, OrgRecord, SaleRecord, sale_record::State};
use ring::signature::{Ed25519KeyPair, KeyPair};
use runtime::clock::Clock;
use runtime::decisions::Decisions;
use runtime::drain::Drain;
use runtime::metric::Metrics;
use runtime::server::Lateness;
use runtime::server::Proxies;

const SALE: &str = "s0123456789abcdef";
const PLENTY: Limits =
    Limits { address: 0, buyer: 1_000_000, buyer_burst: 1_000_000, sale: 0, org: 0, all: 0 };
/// A rate of one a second, whose burst is one call.
const ONE: u32 = 1;

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

/// A router with these limits, at which the org acme has a sale.
fn edge(limits: Limits) -> Edge {
    let org = OrgRecord {
        org: "acme".into(),
        keys: vec![KeyRecord::ed25519("k1", key(1).public_key().as_ref())],
        ..OrgRecord::default()
    };
    let (state, org_name) = (State::Scheduled.into(), org.org.clone());
    let sale = SaleRecord { sale: SALE.into(), org: org_name, state, ..SaleRecord::default() };
    let entries = [
        (format!("{}acme", keys::ORGS), org.encode_to_vec()),
        (format!("{}{SALE}", keys::SALES), sale.encode_to_vec()),
    ];
    let snapshot = Decisions::fixed(entries).snapshot();
    let directory = Directory::new(&snapshot, true, &Directory::default());
    let states = Arc::new(States::default());
    let metrics = Metrics::new("router", "0").unwrap();
    let link_metrics = LinkMetrics::new(&metrics, Lateness::default());
    Edge {
        clock: Clock::system(),
        directory: ArcSwap::from_pointee(directory),
        links: Links::new(states.clone(), None, Drain::new(), link_metrics.clone()),
        states,
        auth: Auth::new(),
        quotas: Quotas::new(limits),
        proxies: Proxies::default(),
        metrics: RouterMetrics::new(&metrics),
        link_metrics,
    }
}

/// A call of acme's buyer, with a token by the key of this seed or none.
fn call(name: CallName, seed: Option<u8>) -> Incoming {
    let mut request = Request::new(());
    if let Some(seed) = seed {
        let claims = Claims::new("orgs/acme", "ada", Role::Buyer, u64::MAX / 1_000);
        let token = format!("Bearer {}", sign(&key(seed), "k1", &claims));
        request.metadata_mut().insert("authorization", token.parse().unwrap());
    }
    request.extensions_mut().insert(Peer("192.0.2.1".parse().unwrap()));
    Incoming::of(name, request).0
}

/// How far a call gets: to the end, or to the step that refuses it.
fn outcome(edge: &Edge, call: &Incoming, sale: &str) -> Result<(), Reason> {
    let (org, id) = ("acme".parse().unwrap(), sale.parse().unwrap());
    let steps = async {
        edge.let_in(call, &[Role::Buyer], |directory, caller, _| {
            super::sale(directory, caller, (&org, &id)).map(drop)
        })
        .map(drop)
    };
    let answer = edge.run(call, steps).now_or_never().unwrap();
    answer.map(drop).map_err(|status| Fault::of_status(&status).unwrap().reason)
}

#[test]
fn the_steps_refuse_in_their_order() {
    use Reason::{
        AddressRate, BuyerRate, NotFound, OrgRate, Overloaded, TokenMissing, TokenWrongKey,
    };
    let (mine, other) = (SALE, "s0000000000000000");
    let all_used_up =
        Limits { address: ONE, buyer: 1, buyer_burst: 1, org: ONE, all: ONE, ..PLENTY };
    // With every quota used up by a first call, the steps are taken away one after the other.
    let rows = [
        (all_used_up, None, other, AddressRate),
        (Limits { address: 0, ..all_used_up }, None, other, TokenMissing),
        (Limits { address: 0, ..all_used_up }, Some(2), other, TokenWrongKey),
        (Limits { address: 0, ..all_used_up }, Some(1), other, BuyerRate),
        (Limits { org: ONE, all: ONE, ..PLENTY }, Some(1), other, OrgRate),
        (Limits { all: ONE, ..PLENTY }, Some(1), other, Overloaded),
        (PLENTY, Some(1), other, NotFound),
    ];
    for (limits, seed, name, expected) in rows {
        let edge = edge(limits);
        let first = outcome(&edge, &call(CallName::GetSaleState, Some(1)), mine);
        assert_eq!(first, Ok(()), "{expected:?}");
        let second = outcome(&edge, &call(CallName::GetSaleState, seed), name);
        assert_eq!(second, Err(expected));
    }
}

#[test]
fn a_bad_token_is_charged_to_its_address_and_to_nobody_else() {
    let edge = edge(Limits { address: 1_000, ..PLENTY });
    let tries = (0..100).map(|_| outcome(&edge, &call(CallName::Join, Some(2)), SALE));
    let tries: Vec<_> = tries.collect();
    assert_eq!(tries[0], Err(Reason::TokenWrongKey));
    assert_eq!(tries[99], Err(Reason::AddressRate));
    // A good one from there has to wait, too, since nobody looks at it; from elsewhere it does not.
    assert_eq!(outcome(&edge, &call(CallName::Join, Some(1)), SALE), Err(Reason::AddressRate));
    let elsewhere = Incoming { peer: None, ..call(CallName::Join, Some(1)) };
    assert_eq!(outcome(&edge, &elsewhere, SALE), Ok(()));
}

#[test]
fn a_call_over_http_is_counted_once_and_before_its_token_is_looked_at() {
    let edge = edge(Limits { address: 1_000, ..PLENTY });
    let whose = |seed: u8| {
        let token = call(CallName::Join, Some(seed)).headers.remove("authorization").unwrap();
        let request = http::Request::builder().header("authorization", token);
        let peer = Peer("192.0.2.1".parse().unwrap());
        let (mut head, ()) = request.extension(peer).body(()).unwrap().into_parts();
        let org = edge.own_org(&mut head).map(|org| org.to_string());
        assert_eq!(head.extensions.get::<Peer>(), None, "the call itself would count it again");
        org.map_err(|status| Fault::of_status(&status).unwrap().reason)
    };
    assert_eq!(whose(1).as_deref(), Ok("acme"));
    let tries: Vec<_> = (0..100).map(|_| whose(2)).collect();
    assert_eq!(tries[0], Err(Reason::TokenWrongKey));
    assert_eq!(tries[99], Err(Reason::AddressRate));
    assert_eq!(whose(1), Err(Reason::AddressRate));
    // The same rate as that of calls which came otherwise.
    assert_eq!(outcome(&edge, &call(CallName::Join, Some(1)), SALE), Err(Reason::AddressRate));
}

/// What floods us is refused many times a second: it costs no memory until it is written down, and little then.
#[test]
fn a_refusal_is_cheap() {
    let limits = Limits { address: 100_000, org: ONE, all: 100_000, ..PLENTY };
    let edge = edge(limits);
    let again = call(CallName::GetTicket, Some(1));
    assert_eq!(outcome(&edge, &again, SALE), Ok(()));
    let refuse = || edge.let_in(&again, &[Role::Buyer], |_, _, _| Ok(())).map(drop).unwrap_err();
    let mut fault = refuse();
    let steps = measure(|| fault = refuse());
    assert_eq!(fault.reason, Reason::OrgRate);
    assert_eq!(steps.count_total, 0, "the steps allocate {} bytes", steps.bytes_total);
    let written = measure(|| drop(Status::from(fault.clone()).into_http::<tonic::body::Body>()));
    assert!(written.count_total <= REFUSAL_ALLOCATIONS_MAX, "{written:?}");
    // A call that passes allocates nothing in the column either.
    let passes = self::edge(PLENTY);
    let enter = || passes.let_in(&again, &[Role::Buyer], |_, _, _| Ok(())).map(drop);
    assert_eq!(enter(), Ok(()));
    let steps = measure(|| assert_eq!(enter(), Ok(())));
    assert_eq!(steps.count_total, 0, "the steps allocate {} bytes", steps.bytes_total);
}

/// What a status with its details takes as it leaves, most of it in the gRPC library.
const REFUSAL_ALLOCATIONS_MAX: u64 = 20;
