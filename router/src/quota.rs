//! Quotas: how often one buyer may call, and how many calls for one sale are passed on.
//!
//! A rate is kept as one instant a subject: the time up to which it is used up (GCRA). Memory is bounded: subjects that
//! have used up nothing are forgotten first, and whoever finds no room is let through.

use proto::fault::{Fault, Reason};
use proto::limits::BUYERS_REMEMBERED_MAX;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

const SHARDS: usize = 64;

/// A rate for each of many subjects.
#[derive(Debug)]
pub(crate) struct Quota {
    reason: Reason,
    /// Between two calls at the full rate.
    interval_us: u64,
    /// How far ahead of its rate a subject may run.
    burst_us: u64,
    begin: Instant,
    hasher: RandomState,
    shards: Vec<Mutex<HashMap<u64, u64>>>,
}

impl Quota {
    /// `per_s` calls a second, `burst` at once; beyond it calls are refused for `reason`.
    pub(crate) fn new(reason: Reason, per_s: u32, burst: u32) -> Quota {
        let interval_us = 1_000_000 / u64::from(per_s.clamp(1, 1_000_000));
        Quota {
            reason,
            interval_us,
            burst_us: interval_us * u64::from(burst.max(1)),
            begin: Instant::now(),
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Counts a call of a subject, or refuses it and says when to come again.
    pub(crate) fn take(&self, subject: impl Hash) -> Result<(), Fault> {
        let now_us = u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.take_at(self.hasher.hash_one(subject), now_us)
    }

    fn take_at(&self, hash: u64, now_us: u64) -> Result<(), Fault> {
        let shard = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        let mut shard = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= BUYERS_REMEMBERED_MAX / SHARDS && !shard.contains_key(&hash) {
            shard.retain(|_, used_us| *used_us > now_us);
            if shard.len() >= BUYERS_REMEMBERED_MAX / SHARDS {
                return Ok(());
            }
        }
        let used_us = shard.entry(hash).or_insert(now_us);
        let next_us = (*used_us).max(now_us) + self.interval_us;
        if next_us > now_us + self.burst_us {
            let wait_us = next_us - now_us - self.burst_us;
            let wait_ms = u32::try_from(wait_us.div_ceil(1_000)).unwrap_or(u32::MAX);
            return Err(Fault::later(self.reason, wait_ms.max(1)));
        }
        *used_us = next_us;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate_and_others_are_not_concerned() {
        let quota = Quota::new(Reason::BuyerRate, 10, 3);
        for _ in 0..3 {
            assert_eq!(quota.take_at(1, 0), Ok(()));
        }
        assert_eq!(quota.take_at(1, 0), Err(Fault::later(Reason::BuyerRate, 100)));
        assert_eq!(quota.take_at(2, 0), Ok(()));
        assert_eq!(quota.take_at(1, 100_000), Ok(()));
        assert!(quota.take_at(1, 100_000).is_err());
        assert_eq!(quota.take_at(1, 10_000_000), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let quota = Quota::new(Reason::BuyerRate, 1, 1);
        for subject in 0..(BUYERS_REMEMBERED_MAX as u64 * 2) {
            quota.take_at(subject, 0).unwrap();
        }
        let held: usize = quota.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(held <= BUYERS_REMEMBERED_MAX);
    }
}
