//! The rates of many subjects that come and go. Memory is bounded: subjects that have used up nothing are forgotten first,
//! and whoever finds no room is let through, because what bounds one must not refuse others.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Allowance;

const SHARDS: usize = 64;

/// All of the burst.
const WHOLE: u32 = 1_000;

/// How many subjects are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// At most so many; each takes some 20 bytes.
    pub subjects_max: usize,
    /// How often those that have used up nothing are looked for, when there is no room for another one.
    pub sweep_every: Duration,
}

/// One rate for each of many subjects.
#[derive(Debug)]
pub struct Rates {
    allowance: Allowance,
    shard_max: usize,
    sweep_ns: u64,
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
    pub fn new(allowance: Allowance, memory: Memory) -> Rates {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let shard_max = memory.subjects_max / SHARDS;
        let sweep_ns = u64::try_from(memory.sweep_every.as_nanos()).unwrap_or(u64::MAX);
        Rates { allowance, shard_max, sweep_ns, hasher: RandomState::new(), shards }
    }

    /// Counts a call of a subject.
    ///
    /// # Errors
    /// How long it must wait, in nanoseconds.
    pub fn take(&self, subject: impl Hash, now_ns: u64) -> Result<(), u64> {
        let hash = self.hasher.hash_one(subject);
        let mut shard = self.shard(hash);
        let Some(used_ns) = self.used(&mut shard, hash, now_ns) else { return Ok(()) };
        *used_ns = self.allowance.step(*used_ns, now_ns, WHOLE)?;
        Ok(())
    }

    /// Counts so many calls of a subject that were made already.
    pub fn charge(&self, subject: impl Hash, calls: u32, now_ns: u64) {
        let hash = self.hasher.hash_one(subject);
        let mut shard = self.shard(hash);
        if let Some(used_ns) = self.used(&mut shard, hash, now_ns) {
            *used_ns = self.allowance.charged(*used_ns, now_ns, calls);
        }
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The table finds its places by the lowest bits and the highest.
        let shard = usize::try_from((hash >> 32) % SHARDS as u64).unwrap_or(0);
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a subject has used up; none when there is no room to remember it.
    fn used<'a>(&self, shard: &'a mut Shard, hash: u64, now_ns: u64) -> Option<&'a mut u64> {
        if shard.used_ns.len() >= self.shard_max && !shard.used_ns.contains_key(&hash) {
            let due_ns = shard.swept_ns.saturating_add(self.sweep_ns);
            if shard.swept_ns > 0 && now_ns < due_ns {
                return None;
            }
            shard.swept_ns = now_ns.max(1);
            shard.used_ns.retain(|_, used_ns| *used_ns > now_ns);
            if shard.used_ns.len() >= self.shard_max {
                return None;
            }
        }
        Some(shard.used_ns.entry(hash).or_insert(now_ns))
    }

    #[cfg(test)]
    fn remembered(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().used_ns.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;
    const MEMORY: Memory = Memory { subjects_max: 6_400, sweep_every: Duration::from_secs(1) };

    /// Over any second, whoever asks: at most the rate and the burst.
    #[test]
    fn no_more_than_the_rate_gets_through_however_fast_it_is_asked() {
        for (per_s, burst, every_ns) in [(10, 3, 1_000), (1_000, 250, 333), (7, 1, 50_000_000)] {
            let rates = Rates::new(Allowance::new(per_s, burst), MEMORY);
            let (mut passed, mut now_ns) = (0, 0);
            while now_ns < 3 * SECOND_NS && passed < 10_000 {
                passed += u32::from(rates.take("ada", now_ns).is_ok());
                now_ns += every_ns;
            }
            let most = 3 * per_s + burst;
            assert!(passed <= most && passed + 2 >= most, "{per_s}/s + {burst}: {passed}");
        }
    }

    #[test]
    fn memory_is_bounded_and_who_finds_no_room_is_let_through() {
        let rates = Rates::new(Allowance::new(1, 1), MEMORY);
        for subject in 0..MEMORY.subjects_max * 2 {
            rates.take(subject, 1).unwrap();
        }
        assert!(rates.remembered() <= MEMORY.subjects_max);
        assert!(rates.remembered() > MEMORY.subjects_max / 2);
        // Once their rate is unused again they make room, and somebody new is counted.
        let later_ns = 10 * SECOND_NS;
        for subject in 0..1_000 {
            rates.take(("new", subject), later_ns).unwrap();
            assert!(rates.take(("new", subject), later_ns).is_err(), "{subject}");
        }
    }
}
