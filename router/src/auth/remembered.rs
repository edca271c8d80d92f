//! Verified tokens, remembered in two generations: what was not used while as many others came as one generation holds is
//! forgotten. So memory is bounded, a crowd larger than it costs signatures, and whoever calls again and again stays
//! known.

use proto::limits::TOKENS_REMEMBERED_MAX;
use proto::token::{Caller, PublicKey};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

const SHARDS: usize = 64;
/// Tokens of one generation of a shard.
const GENERATION: usize = TOKENS_REMEMBERED_MAX / SHARDS / 2;

/// Who sent a token that was good.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) caller: Arc<Caller>,
    /// The key that signed it.
    pub(super) key: Arc<PublicKey>,
}

/// Where a token is remembered. Two keyed hashes: nobody can make another token that looks like a remembered one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place(u128);

/// See the module.
#[derive(Debug)]
pub(super) struct Remembered {
    shards: Vec<Mutex<Shard>>,
    first: RandomState,
    second: RandomState,
}

#[derive(Debug, Default)]
struct Shard {
    young: HashMap<Place, Known>,
    old: HashMap<Place, Known>,
}

impl Remembered {
    /// Nobody is known yet.
    pub(super) fn new() -> Remembered {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Remembered { shards, first: RandomState::new(), second: RandomState::new() }
    }

    /// The place of a token.
    pub(super) fn place(&self, token: &str) -> Place {
        let (first, second) = (self.first.hash_one(token), self.second.hash_one(token));
        Place(u128::from(first) << 64 | u128::from(second))
    }

    /// Whose token is remembered there.
    pub(super) fn get(&self, place: Place) -> Option<Known> {
        self.shard(place).lock().unwrap_or_else(PoisonError::into_inner).get(place)
    }

    /// Remembers whose token it is.
    pub(super) fn put(&self, place: Place, known: Known) {
        self.shard(place).lock().unwrap_or_else(PoisonError::into_inner).put(place, known);
    }

    fn shard(&self, place: Place) -> &Mutex<Shard> {
        &self.shards[(place.0 % SHARDS as u128) as usize]
    }
}

impl Shard {
    fn get(&mut self, place: Place) -> Option<Known> {
        if let Some(known) = self.young.get(&place) {
            return Some(known.clone());
        }
        let known = self.old.remove(&place)?;
        self.put(place, known.clone());
        Some(known)
    }

    fn put(&mut self, place: Place, known: Known) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(place, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::token::Role;

    #[test]
    fn who_calls_again_stays_known_however_many_come() {
        let caller = Caller {
            org: "acme".parse().ok(),
            subject: "ada".into(),
            role: Role::Buyer,
            expires_ms: 1,
            token_id: None,
        };
        let key = Arc::new(PublicKey::ed25519(&[0; 32]));
        let known = Known { caller: Arc::new(caller), key };
        let mut shard = Shard::default();
        shard.put(Place(0), known.clone());
        for hash in (1..10 * GENERATION as u128).map(Place) {
            assert!(shard.get(hash).is_none());
            shard.put(hash, known.clone());
            assert!(shard.get(Place(0)).is_some(), "after {hash:?}");
            assert!(shard.young.len() + shard.old.len() <= 2 * GENERATION);
        }
        assert!(shard.get(Place(1)).is_none(), "who never came again is forgotten");
    }
}
