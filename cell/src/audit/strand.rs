//! Stranded units (the live form of INV-3): what Postgres calls free and Redis does not, and no batch under way explains.
//!
//! A batch of holds takes units in Redis before Postgres knows, and what ended in Postgres returns to Redis afterwards. So
//! a unit that looks stranded is one of a batch under way, unless that batch must be over: the next but one batch of holds
//! has begun, or that stage has stood still for longer than a batch can; and whatever it left to be returned has been,
//! because so many batches have followed, or that stage has stood still as well; and never before both could have, for
//! units that are moved go through neither. Time is counted in looks, not seconds: a process that was paused looks once
//! when it wakes.

use proto::id::OrderId;
use proto::limits::{AUDIT_WATCHED_MAX, BATCH_CALLS_MAX, STAGE_CALLS_WAITING_MAX};
use std::collections::BTreeMap;

/// Looks, half a second apart or more, in which a stage whose numbers stand still has nothing under way: an attempt to
/// commit ends within 7 s, there are three, and then the bucket is taken over or something moves.
const STILL_LOOKS: u32 = 60;
/// Batches after which everything that waited has been returned.
const RETURNED_AFTER: u64 = (STAGE_CALLS_WAITING_MAX / BATCH_CALLS_MAX) as u64 + 8;

/// How far a bucket's stages have come, in either store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stages {
    /// Last batch of holds in Redis.
    pub(super) hold: u64,
    /// Last batch of returns in Redis.
    pub(super) settle: u64,
    /// The last batch of either stage in Postgres.
    pub(super) committed: (u64, u64),
}

/// Units that look stranded.
#[derive(Debug, Default)]
pub(super) struct Watch {
    suspects: BTreeMap<u32, Suspect>,
}

#[derive(Debug)]
struct Suspect {
    /// Who has it in Redis.
    owner: Option<OrderId>,
    looks: u32,
    seen: Stages,
    last: Stages,
    still_hold: u32,
    still_settle: u32,
    /// How far the stages had come when the batch of holds was over.
    granted: Option<Stages>,
}

impl Watch {
    /// The units to look at again.
    pub(super) fn units(&self) -> impl Iterator<Item = u32> {
        self.suspects.keys().copied()
    }

    /// The unit does not look stranded.
    pub(super) fn clear(&mut self, unit: u32) {
        self.suspects.remove(&unit);
    }

    /// No unit does: what was seen is of another epoch.
    pub(super) fn clear_all(&mut self) {
        self.suspects.clear();
    }

    /// The unit looks stranded, and `owner` has it in Redis. Returns whether it is for sure.
    pub(super) fn see(&mut self, unit: u32, owner: Option<OrderId>, now: Stages) -> bool {
        let is_same = self.suspects.get(&unit).is_some_and(|known| known.owner == owner);
        if !is_same {
            if self.suspects.len() < AUDIT_WATCHED_MAX || self.suspects.contains_key(&unit) {
                self.suspects.insert(unit, Suspect::new(owner, now));
            }
            return false;
        }
        self.suspects.get_mut(&unit).is_some_and(|suspect| suspect.look(now))
    }
}

impl Suspect {
    fn new(owner: Option<OrderId>, now: Stages) -> Suspect {
        Suspect {
            owner,
            looks: 1,
            seen: now,
            last: now,
            still_hold: 0,
            still_settle: 0,
            granted: None,
        }
    }

    fn look(&mut self, now: Stages) -> bool {
        let Stages { hold, settle, committed } = self.last;
        let hold_stands = (now.hold, now.committed.0) == (hold, committed.0);
        let settle_stands = (now.settle, now.committed.1) == (settle, committed.1);
        self.still_hold = if hold_stands { self.still_hold + 1 } else { 0 };
        self.still_settle = if settle_stands { self.still_settle + 1 } else { 0 };
        self.looks += 1;
        self.last = now;
        let Some(granted) = self.granted else {
            if now.hold >= self.seen.hold + 2 || self.still_hold >= STILL_LOOKS {
                self.granted = Some(now);
                self.still_settle = 0;
            }
            return false;
        };
        let returned =
            now.settle >= granted.settle + RETURNED_AFTER || self.still_settle >= STILL_LOOKS;
        returned && self.looks > 2 * STILL_LOOKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Option<OrderId> = Some(OrderId([1; 16]));

    /// Looks until it is for sure, or 1,000 times; `stages` says how far the stages have come at each look.
    fn looks(stages: impl Fn(u64) -> Stages) -> Option<u64> {
        let mut watch = Watch::default();
        (0..1_000).find(|&look| watch.see(7, OWNER, stages(look)))
    }

    #[test]
    fn a_stranded_unit_is_found_in_a_quiet_bucket_and_in_a_busy_one() {
        let quiet = looks(|_| Stages::default()).unwrap();
        assert_eq!(quiet, u64::from(2 * STILL_LOOKS));
        let busy =
            looks(|look| Stages { hold: 9 * look, settle: 9 * look, committed: (look, look) });
        assert_eq!(busy.unwrap(), u64::from(2 * STILL_LOOKS));
    }

    #[test]
    fn a_batch_under_way_strands_nothing_however_slow() {
        // Redis has the batch, and Postgres takes it apart one hold at a time.
        assert_eq!(looks(|look| Stages { hold: 5, settle: 3, committed: (look / 20, 3) }), None);
        // Its holds were refused, and what waits before them is returned as slowly.
        let slow =
            |look| Stages { hold: 5 + look, settle: 3 + look / 200, committed: (look, look / 20) };
        assert_eq!(looks(slow), None);
    }

    #[test]
    fn another_order_or_a_glimpse_of_the_truth_begins_anew() {
        let mut watch = Watch::default();
        for look in 0..1_000 {
            let owner = if look % 100 == 0 { None } else { OWNER };
            assert!(!watch.see(7, owner, Stages::default()));
        }
        for _ in 0..1_000 {
            assert!(!watch.see(8, OWNER, Stages::default()));
            watch.clear(8);
        }
        watch.clear_all();
        assert_eq!(watch.units().count(), 0);
        for unit in 0..1_000 {
            assert!(!watch.see(unit, OWNER, Stages::default()));
        }
        assert_eq!(watch.units().count(), AUDIT_WATCHED_MAX);
    }
}
