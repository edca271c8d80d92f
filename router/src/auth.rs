//! Who a caller is: a token is verified once and then remembered, because a signature costs more than all the rest of
//! a call.
//!
//! What is remembered is good for as long as the token is and as the key that signed it stays registered. Memory is
//! bounded, in two generations: what was not used while as many others came as one generation holds is forgotten. So a
//! crowd larger than the memory costs signatures, and whoever calls again and again stays known.

use crate::directory::Directory;
use http::HeaderMap;
use proto::fault::Reason;
use proto::limits::TOKENS_REMEMBERED_MAX;
use proto::token::{self, Caller, Role};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

const SHARDS: usize = 64;
/// Tokens of one generation of a shard.
const GENERATION: usize = TOKENS_REMEMBERED_MAX / SHARDS / 2;

/// Remembers verified tokens.
#[derive(Debug)]
pub(crate) struct Auth {
    shards: Vec<Mutex<Shard>>,
    first: RandomState,
    second: RandomState,
}

#[derive(Debug, Default)]
struct Shard {
    young: HashMap<u128, Known>,
    old: HashMap<u128, Known>,
}

#[derive(Clone, Debug)]
struct Known {
    caller: Arc<Caller>,
    /// The key that signed it.
    key: [u8; 32],
}

impl Auth {
    /// Nobody is known yet.
    pub(crate) fn new() -> Auth {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Auth { shards, first: RandomState::new(), second: RandomState::new() }
    }

    /// The caller of a call, in one of `roles` of some org.
    pub(crate) fn caller(
        &self,
        headers: &HeaderMap,
        roles: &[Role],
        directory: &Directory,
        now_ms: u64,
    ) -> Result<Arc<Caller>, Reason> {
        let header = headers.get(http::header::AUTHORIZATION).ok_or(Reason::TokenMissing)?;
        let token = header.to_str().ok().and_then(bearer).ok_or(Reason::TokenMalformed)?;
        let caller = self.verified(token, directory, now_ms).map_err(|reason| match reason {
            // The org or its key may have been registered while nobody told this router.
            Reason::TokenWrongKey => directory.missing(reason),
            reason => reason,
        })?;
        if roles.contains(&caller.role) { Ok(caller) } else { Err(Reason::RoleNotAllowed) }
    }

    fn verified(
        &self,
        token: &str,
        directory: &Directory,
        now_ms: u64,
    ) -> Result<Arc<Caller>, Reason> {
        // Two keyed hashes: nobody can make another token that looks like a remembered one.
        let hash =
            u128::from(self.first.hash_one(token)) << 64 | u128::from(self.second.hash_one(token));
        let shard = &self.shards[(hash % SHARDS as u128) as usize];
        let known = shard.lock().unwrap_or_else(PoisonError::into_inner).get(hash);
        if let Some(Known { caller, key }) = known
            && caller.expires_ms > now_ms
            && registered(directory, &caller, &key)
        {
            return Ok(caller);
        }
        let unverified = token::read(token)?;
        // Operators speak to the control plane; here everybody belongs to an org.
        let org = unverified.org()?.ok_or(Reason::RoleNotAllowed)?;
        let entry = directory.org(&org).ok_or(Reason::TokenWrongKey)?;
        let key = entry.keys.iter().find(|(kid, _)| **kid == *unverified.kid());
        let (_, key) = key.ok_or(Reason::TokenWrongKey)?;
        let caller = Arc::new(unverified.verify(key, now_ms)?);
        let known = Known { caller: caller.clone(), key: *key };
        shard.lock().unwrap_or_else(PoisonError::into_inner).remember(hash, known);
        Ok(caller)
    }
}

impl Shard {
    fn get(&mut self, hash: u128) -> Option<Known> {
        if let Some(known) = self.young.get(&hash) {
            return Some(known.clone());
        }
        let known = self.old.remove(&hash)?;
        self.remember(hash, known.clone());
        Some(known)
    }

    fn remember(&mut self, hash: u128, known: Known) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, known);
    }
}

fn bearer(text: &str) -> Option<&str> {
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim_start())
}

fn registered(directory: &Directory, caller: &Caller, key: &[u8; 32]) -> bool {
    let entry = caller.org.as_ref().and_then(|org| directory.org(org));
    entry.is_some_and(|entry| entry.keys.iter().any(|(_, known)| known == key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use proto::id::SaleId;
    use proto::keys;
    use proto::token::{AUDIENCE, Claims, sign};
    use proto::wire::cell::{KeyRecord, OrgRecord, SaleRecord, sale_record::State};
    use ring::signature::{Ed25519KeyPair, KeyPair};
    use runtime::decisions::{Decisions, Snapshot};

    const SALE: &str = "s0123456789abcdef";

    fn key(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    fn org(name: &str, kid: &str, seed: u8) -> (String, Vec<u8>) {
        let ed25519 = key(seed).public_key().as_ref().to_vec();
        let keys = vec![KeyRecord { kid: kid.into(), ed25519 }];
        let record = OrgRecord { org: name.into(), keys, ..OrgRecord::default() };
        (format!("{}{name}", keys::ORGS), record.encode_to_vec())
    }

    fn sale(org: &str) -> (String, Vec<u8>) {
        let state = State::Scheduled.into();
        let record =
            SaleRecord { sale: SALE.into(), org: org.into(), state, ..SaleRecord::default() };
        (format!("{}{SALE}", keys::SALES), record.encode_to_vec())
    }

    fn told(entries: Vec<(String, Vec<u8>)>) -> Arc<Snapshot> {
        Decisions::fixed(entries).snapshot()
    }

    /// Acme's buyer at a router with this directory: who they are, and acme's sale.
    fn asks(directory: &Directory) -> (Result<(), Reason>, Result<(), Reason>) {
        let claims = Claims {
            iss: "orgs/acme".into(),
            aud: AUDIENCE.into(),
            sub: "ada".into(),
            role: Role::Buyer,
            exp: 1_000,
        };
        let token = format!("Bearer {}", sign(&key(1), "k1", &claims));
        let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, token.parse().unwrap())]);
        let caller = Auth::new().caller(&headers, &[Role::Buyer], directory, 0);
        let sale = directory.sale(&"acme".parse().unwrap(), &SALE.parse::<SaleId>().unwrap());
        (caller.map(drop), sale.map(drop))
    }

    #[test]
    fn who_calls_again_stays_known_however_many_come() {
        let caller = Caller {
            org: "acme".parse().ok(),
            subject: "ada".into(),
            role: Role::Buyer,
            expires_ms: 1,
        };
        let known = Known { caller: Arc::new(caller), key: [0; 32] };
        let mut shard = Shard::default();
        shard.remember(0, known.clone());
        for hash in 1..10 * GENERATION as u128 {
            assert!(shard.get(hash).is_none());
            shard.remember(hash, known.clone());
            assert!(shard.get(0).is_some(), "after {hash} others");
            assert!(shard.young.len() + shard.old.len() <= 2 * GENERATION);
        }
        assert!(shard.get(1).is_none(), "who never came again is forgotten");
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
            let (old, current) = (
                Directory::new(&snapshot, false, &before),
                Directory::new(&snapshot, true, &before),
            );
            assert_eq!(asks(&old), later, "{what}, from disk");
            assert_eq!(asks(&current), never, "{what}, from etcd");
        }
        let snapshot = told(vec![org("acme", "k1", 1), sale("acme")]);
        assert_eq!(asks(&Directory::new(&snapshot, false, &before)), (Ok(()), Ok(())));
        assert_eq!(asks(&Directory::new(&snapshot, true, &before)), (Ok(()), Ok(())));
    }
}
