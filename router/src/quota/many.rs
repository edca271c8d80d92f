//! The rates of many subjects that come and go. Memory is bounded: subjects that have used up nothing are forgotten first,
//! and whoever finds no room is let through, because what bounds one must not refuse others.

use super::gcra::Allowance;
use proto::limits::{SUBJECTS_REMEMBERED_MAX, SUBJECTS_SWEEP_MS};
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 64;
const SHARD_MAX: usize = SUBJECTS_REMEMBERED_MAX / SHARDS;
/// All of the burst.
const WHOLE: u32 = 1_000;

/// One rate for each of many subjects.
#[derive(Debug)]
pub(super) struct Rates {
    allowance: Allowance,
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug, Default)]
struct Shard {
    used_ns: HashMap<u64, u64, BuildHasherDefault<Hashed>>,
    /// When the idle were last forgotten: not each time that somebody finds no room.
    swept_ns: u64,
}

/// Subjects are hashed before they come here, under keys that nobody knows.
#[derive(Clone, Copy, Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Rates {
    /// Nobody has used up anything.
    pub(super) fn new(allowance: Allowance) -> Rates {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Rates { allowance, hasher: RandomState::new(), shards }
    }

    /// Counts a call of a subject, or says how long it must wait.
    pub(super) fn take(&self, subject: impl Hash, now_ns: u64) -> Result<(), u64> {
        let hash = self.hasher.hash_one(subject);
        let mut shard = self.shard(hash);
        let Some(used_ns) = shard.subject(hash, now_ns) else { return Ok(()) };
        *used_ns = self.allowance.step(*used_ns, now_ns, WHOLE)?;
        Ok(())
    }

    /// Counts so many calls of a subject that were made already.
    pub(super) fn charge(&self, subject: impl Hash, calls: u32, now_ns: u64) {
        let hash = self.hasher.hash_one(subject);
        if let Some(used_ns) = self.shard(hash).subject(hash, now_ns) {
            *used_ns = self.allowance.charged(*used_ns, now_ns, calls);
        }
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The table finds its places by the lowest bits and the highest.
        let shard = usize::try_from((hash >> 32) % SHARDS as u64).unwrap_or(0);
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().used_ns.len()).sum()
    }
}

impl Shard {
    /// What a subject has used up; none when there is no room to remember it.
    fn subject(&mut self, hash: u64, now_ns: u64) -> Option<&mut u64> {
        if self.used_ns.len() >= SHARD_MAX && !self.used_ns.contains_key(&hash) {
            let due_ns = self.swept_ns.saturating_add(SUBJECTS_SWEEP_MS * 1_000_000);
            if self.swept_ns > 0 && now_ns < due_ns {
                return None;
            }
            self.swept_ns = now_ns.max(1);
            self.used_ns.retain(|_, used_ns| *used_ns > now_ns);
            if self.used_ns.len() >= SHARD_MAX {
                return None;
            }
        }
        Some(self.used_ns.entry(hash).or_insert(now_ns))
    }
}
