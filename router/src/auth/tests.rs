//! Tokens as they come to a router: through the header, the directory and the memory of those that were good.

use super::*;
use prost::Message;
use proto::id::SaleId;
use proto::keys;
use proto::token::{Algorithm, Claims, KeyPair, PublicKey, sign};
use proto::wire::cell::{KeyRecord, OrgRecord, RevokedTokenRecord, SaleRecord, sale_record::State};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use runtime::decisions::{Decisions, Snapshot};

const SALE: &str = "s0123456789abcdef";
/// Times at which the tokens of these tests are good.
const NOW_MS: u64 = 0;

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn record(name: &str, kid: &str, seed: u8) -> OrgRecord {
    let keys = vec![KeyRecord::ed25519(kid, key(seed).public_key().as_ref())];
    OrgRecord { org: name.into(), keys, ..OrgRecord::default() }
}

fn entry(record: &OrgRecord) -> (String, Vec<u8>) {
    (format!("{}{}", keys::ORGS, record.org), record.encode_to_vec())
}

fn org(name: &str, kid: &str, seed: u8) -> (String, Vec<u8>) {
    entry(&record(name, kid, seed))
}

fn sale(org: &str) -> (String, Vec<u8>) {
    let state = State::Scheduled.into();
    let record = SaleRecord { sale: SALE.into(), org: org.into(), state, ..SaleRecord::default() };
    (format!("{}{SALE}", keys::SALES), record.encode_to_vec())
}

fn told(entries: Vec<(String, Vec<u8>)>) -> Arc<Snapshot> {
    Decisions::fixed(entries).snapshot()
}

fn directory(records: &[OrgRecord]) -> Directory {
    let entries = records.iter().map(entry).collect();
    Directory::new(&told(entries), true, &Directory::default())
}

fn claims() -> Claims {
    Claims::new("orgs/acme", "ada", Role::Buyer, 1_000)
}

fn headers(token: &str) -> HeaderMap {
    let value = http::HeaderValue::from_bytes(format!("Bearer {token}").as_bytes());
    value.map(|value| HeaderMap::from_iter([(http::header::AUTHORIZATION, value)])).unwrap()
}

/// Acme's buyer at a router with this directory: who they are, and acme's sale.
fn asks(directory: &Directory) -> (Result<(), Reason>, Result<(), Reason>) {
    let headers = headers(&sign(&key(1), "k1", &claims()));
    let caller = Auth::new().caller(&headers, &[Role::Buyer], directory, NOW_MS);
    let sale = directory.sale(&"acme".parse().unwrap(), &SALE.parse::<SaleId>().unwrap());
    (caller.map(drop), sale.map(drop))
}

#[test]
fn what_is_missing_is_denied_only_once_etcd_has_told_everything() {
    use Reason::{NotFound, NotReady, TokenWrongKey};
    let (nothing, before) = (Directory::default(), Directory::default());
    assert_eq!(asks(&nothing), (Err(NotReady), Err(NotReady)), "nothing was ever heard");
    let (later, never) = ((Err(NotReady), Err(NotReady)), (Err(TokenWrongKey), Err(NotFound)));
    let rows = [
        ("another org", vec![org("other", "k1", 1), sale("other")]),
        ("another key", vec![org("acme", "k2", 1)]),
        ("another key of the same name", vec![org("acme", "k1", 2)]),
    ];
    for (what, entries) in rows {
        let snapshot = told(entries);
        let (old, current) =
            (Directory::new(&snapshot, false, &before), Directory::new(&snapshot, true, &before));
        assert_eq!(asks(&old), later, "{what}, from disk");
        assert_eq!(asks(&current), never, "{what}, from etcd");
    }
    let snapshot = told(vec![org("acme", "k1", 1), sale("acme")]);
    assert_eq!(asks(&Directory::new(&snapshot, false, &before)), (Ok(()), Ok(())));
    assert_eq!(asks(&Directory::new(&snapshot, true, &before)), (Ok(()), Ok(())));
}

/// Refuses or not, at a router that has seen nobody and at one that knows every good token.
fn verdict(auth: &Auth, token: &str, directory: &Directory) -> Result<(), Reason> {
    auth.caller(&headers(token), &[Role::Buyer], directory, NOW_MS).map(drop)
}

fn pairs() -> [KeyPair; 3] {
    let read = |der: &[u8]| KeyPair::from_pkcs8(der).unwrap();
    [
        KeyPair::Ed25519(key(1)),
        read(include_bytes!("../../../proto/src/token/fixtures/es256.p8")),
        read(include_bytes!("../../../proto/src/token/fixtures/rs256.p8")),
    ]
}

/// An org with this key, under `k1`.
fn with_key(public: &PublicKey) -> OrgRecord {
    OrgRecord { keys: vec![KeyRecord::named("k1", public)], ..record("acme", "k1", 1) }
}

#[test]
fn every_flipped_bit_is_noticed_also_where_the_token_is_remembered() {
    for pair in pairs() {
        let directory = directory(&[with_key(&pair.public().unwrap())]);
        let token = pair.sign("k1", &claims()).unwrap();
        let auth = Auth::new();
        assert_eq!(verdict(&auth, &token, &directory), Ok(()));
        let mut tried = 0;
        for bit in 0..token.len() * 8 {
            let mut bytes = token.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // What is no text of a header gets no further than the connection.
            let Some(text) = String::from_utf8(bytes)
                .ok()
                .filter(|text| http::HeaderValue::from_str(text).is_ok())
            else {
                continue;
            };
            tried += 1;
            // A blank before the token is none of it; no bit of ours makes one.
            assert!(verdict(&auth, &text, &directory).is_err(), "bit {bit}: {text}");
        }
        assert!(tried > token.len() * 5, "{tried} of {}", token.len() * 8);
        assert_eq!(verdict(&auth, &token, &directory), Ok(()), "still known");
    }
}

#[test]
fn a_key_is_good_for_its_own_algorithm_and_its_own_org() {
    let pairs = pairs();
    for signs in &pairs {
        for registered in &pairs {
            let directory = directory(&[with_key(&registered.public().unwrap())]);
            let token = signs.sign("k1", &claims()).unwrap();
            let same = signs.public() == registered.public();
            let expected = if same { Ok(()) } else { Err(Reason::TokenWrongKey) };
            assert_eq!(verdict(&Auth::new(), &token, &directory), expected);
        }
    }
    let directory = directory(&[record("acme", "k1", 1), record("other", "k1", 2)]);
    let as_other = Claims { iss: "orgs/other".into(), ..claims() };
    let token = sign(&key(1), "k1", &as_other);
    assert_eq!(verdict(&Auth::new(), &token, &directory), Err(Reason::TokenWrongKey));
}

#[test]
fn two_keys_live_and_one_that_is_removed_is_void_at_once() {
    let [first, second, _] = pairs();
    let [one, two] = [&first, &second].map(|pair| pair.public().unwrap());
    let both = OrgRecord {
        keys: vec![KeyRecord::named("k1", &one), KeyRecord::named("k2", &two)],
        ..record("acme", "", 1)
    };
    let later = OrgRecord { keys: vec![KeyRecord::named("k2", &two)], ..both.clone() };
    let (before, after) = (directory(&[both]), directory(&[later]));
    let auth = Auth::new();
    let tokens =
        [("k1", &first), ("k2", &second)].map(|(kid, pair)| pair.sign(kid, &claims()).unwrap());
    for token in &tokens {
        assert_eq!(verdict(&auth, token, &before), Ok(()));
    }
    // Both are remembered; only one may go on.
    assert_eq!(verdict(&auth, &tokens[0], &after), Err(Reason::TokenWrongKey));
    assert_eq!(verdict(&auth, &tokens[1], &after), Ok(()));
    // The same name with another key does not bring it back.
    let renamed = OrgRecord { keys: vec![KeyRecord::named("k1", &two)], ..record("acme", "", 1) };
    assert_eq!(verdict(&auth, &tokens[0], &directory(&[renamed])), Err(Reason::TokenWrongKey));
    assert_eq!(one.algorithm(), Algorithm::EdDsa);
}

#[test]
fn a_withdrawn_token_is_void_at_once_and_no_other_is() {
    let with_id = |id: &str| Claims { jti: Some(id.to_owned()), ..claims() };
    let token = |claims: &Claims| sign(&key(1), "k1", claims);
    let [lost, kept, nameless] =
        [token(&with_id("lost")), token(&with_id("kept")), token(&claims())];
    let revoked = RevokedTokenRecord { jti: "lost".into(), expire_ms: 1_000_000 };
    let withdrawn = OrgRecord { revoked_tokens: vec![revoked], ..record("acme", "k1", 1) };
    let (before, after) = (directory(&[record("acme", "k1", 1)]), directory(&[withdrawn]));
    let auth = Auth::new();
    for token in [&lost, &kept, &nameless] {
        assert_eq!(verdict(&auth, token, &before), Ok(()));
    }
    for auth in [&auth, &Auth::new()] {
        for _ in 0..2 {
            assert_eq!(verdict(auth, &lost, &after), Err(Reason::TokenRevoked));
            assert_eq!(verdict(auth, &kept, &after), Ok(()));
            assert_eq!(verdict(auth, &nameless, &after), Ok(()));
        }
    }
}

#[test]
fn an_org_keeps_what_it_has_used_up_when_its_record_changes() {
    let before = directory(&[record("acme", "k1", 1), record("other", "k1", 2)]);
    let changed = OrgRecord { calls_per_s: 7, ..record("acme", "k1", 1) };
    let entries = [&changed, &record("other", "k1", 2)].map(entry);
    let after = Directory::new(&told(entries.to_vec()), true, &before);
    let rates = |name: &str| {
        let org = name.parse().unwrap();
        [&before, &after].map(|directory| directory.org(&org).unwrap().clone())
    };
    let [old, new] = rates("acme");
    assert!(!Arc::ptr_eq(&old, &new) && Arc::ptr_eq(&old.rate, &new.rate));
    assert_eq!((old.calls_per_s, new.calls_per_s), (0, 7));
    let [old, new] = rates("other");
    assert!(Arc::ptr_eq(&old, &new), "what has not changed is the same");
}
