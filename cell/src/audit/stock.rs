//! Compares a bucket's units in Redis with what its ledger says (INV-3), while both go on.
//!
//! Redis is looked at between two snapshots of Postgres. A unit that the same order has in both was that order's at the
//! moment of the look, since an order that ended never has units again: Redis must name that order, or it would grant the
//! unit to another. A unit that is free in both may be in a batch under way, so it is watched ([`super::strand`]). All of it
//! counts only while Postgres, Redis and the keeper in this process agree on the epoch.

use super::difference::Difference;
use super::snapshot::BucketRow;
use super::strand::{Stages, Watch};
use crate::inventory::{BucketKeys, Inventory, Looked};
use crate::keeper::Keeper;
use proto::id::OrderId;
use proto::invariant::Invariant;
use proto::limits::AUDIT_UNITS_MAX;
use proto::replay::Replay;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Between two looks at a bucket.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How far the comparison has come.
#[derive(Debug, Default)]
pub(super) struct StockAudit {
    /// The unit to go on from.
    from: u32,
    /// The place in Redis' list of returned units to go on from: a longer one is read in slices.
    returned_from: usize,
    /// A look that waits for the second snapshot.
    look: Option<Look>,
    looked_at: Option<Instant>,
    watch: Watch,
    /// The epoch under which the watched units were seen.
    epoch: i64,
}

/// What Redis said of some units, and what Postgres had said before.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) epoch: i64,
    /// Each with its local index and the order that had it.
    pub(super) units: Vec<(u32, u32, Option<OrderId>)>,
    /// Those that Redis lists as returned, with the order that had them.
    pub(super) listed: Vec<(u32, OrderId)>,
    pub(super) looked: Looked,
}

impl StockAudit {
    /// After a snapshot in which the ledger was replayed to its end: judges the look before it, and takes the next.
    pub(super) async fn go_on(
        &mut self,
        replay: &Replay,
        row: &BucketRow,
        keeper: &Keeper,
        inventory: &Inventory,
    ) -> Vec<Difference> {
        let mut found = Vec::new();
        let look = self.look.take();
        if self.epoch != row.epoch || !keeper.is_under(row.epoch) {
            self.watch.clear_all();
            self.epoch = row.epoch;
        } else if let Some(look) = look.filter(|look| look.epoch == row.epoch) {
            found = judge(&look, replay, row, &mut self.watch);
        }
        let is_time = self.looked_at.is_none_or(|at| at.elapsed() >= LOOK_EVERY);
        if is_time && keeper.is_under(row.epoch) {
            self.looked_at = Some(Instant::now());
            self.look = self.look_at(replay, row.epoch, keeper, inventory).await;
        }
        found
    }

    async fn look_at(
        &mut self,
        replay: &Replay,
        epoch: i64,
        keeper: &Keeper,
        inventory: &Inventory,
    ) -> Option<Look> {
        let units = self.choose(replay);
        let indices = keeper.book().indices(&units);
        if units.is_empty() || indices.len() != units.len() {
            // Units are moving: another time.
            return None;
        }
        let place = &keeper.place;
        let keys = BucketKeys::new(&place.org, &place.sale, place.bucket.bucket, epoch);
        match inventory.look(&keys, epoch, &indices, self.returned_from).await {
            Ok(looked) => {
                let end = self.returned_from + looked.listed.len();
                self.returned_from = if end < looked.returned { end } else { 0 };
                let owner = |unit: &u32| replay.units().get(unit).copied();
                let listed = keeper.book().units(&looked.listed).unwrap_or_default();
                let listed = listed.iter().filter_map(|unit| Some((*unit, owner(unit)?))).collect();
                let units =
                    units.iter().zip(&indices).map(|(unit, index)| (*unit, *index, owner(unit)));
                Some(Look { epoch, units: units.collect(), listed, looked })
            }
            Err(error) => {
                tracing::debug!(%error, "redis cannot be looked at");
                None
            }
        }
    }

    /// The watched units, and some more of the granted ones.
    fn choose(&mut self, replay: &Replay) -> Vec<u32> {
        let mut units: Vec<u32> = self.watch.units().collect();
        let watched: HashSet<u32> = units.iter().copied().collect();
        let most = usize::try_from(AUDIT_UNITS_MAX).unwrap_or(usize::MAX);
        let from = self.from;
        let ranges = replay.granted().iter().filter(|(_, last)| *last >= from);
        let more = ranges.flat_map(|(first, last)| first.max(from)..=last).take(most);
        let more: Vec<u32> = more.collect();
        self.from = match more.last() {
            Some(last) if more.len() == most => last.saturating_add(1),
            _ => 0,
        };
        units.extend(more.into_iter().filter(|unit| !watched.contains(unit)));
        units
    }
}

/// What a look shows, once Postgres was read before and after it.
fn judge(look: &Look, replay: &Replay, row: &BucketRow, watch: &mut Watch) -> Vec<Difference> {
    let looked = &look.looked;
    let stages = Stages {
        hold: looked.hold_batch,
        settle: looked.settle_batch,
        committed: (row.hold_batch, row.settle_batch),
    };
    let mut found = Vec::new();
    let returned: HashSet<u32> = looked.listed.iter().copied().collect();
    if looked.listed.len() != returned.len() {
        let what = "redis lists a returned unit twice, and would grant it twice";
        found.push(Difference::new(Invariant::Inv3, "returned units", what));
    }
    for ((unit, index, before), owner) in look.units.iter().zip(&looked.owners) {
        let grants = (looked.next..looked.end).contains(index) || returned.contains(index);
        let now = replay.units().get(unit);
        let what = match (before, now) {
            (Some(before), Some(now)) if before == now => {
                watch.clear(*unit);
                let is_right = owner.as_ref() == Some(now) && !grants;
                (!is_right).then(|| {
                    format!("unit {unit} is order {now}'s; {}", says(owner.as_ref(), grants))
                })
            }
            (None, None) if replay.granted().contains(*unit) => {
                // Too many are listed to say which: those that nobody has are taken for free.
                let is_listed = !looked.lists_all() && *index < looked.next;
                let is_free = owner.is_none() && (grants || is_listed);
                if is_free {
                    watch.clear(*unit);
                    None
                } else {
                    let sure = watch.see(*unit, *owner, stages);
                    sure.then(|| format!("unit {unit} is free; {}", says(owner.as_ref(), grants)))
                }
            }
            // It changed hands meanwhile.
            _ => {
                watch.clear(*unit);
                None
            }
        };
        found.extend(
            what.map(|what| Difference::new(Invariant::Inv3, format!("redis {unit}"), what)),
        );
    }
    // Whoever had it before and has it now had it when Redis listed it.
    let had = |(unit, before): &&(u32, OrderId)| replay.units().get(unit) == Some(before);
    let asked: HashSet<u32> = look.units.iter().map(|(unit, ..)| *unit).collect();
    for (unit, order) in look.listed.iter().filter(had) {
        if !asked.contains(unit) {
            let what = format!("unit {unit} is order {order}'s; redis would grant it all the same");
            found.push(Difference::new(Invariant::Inv3, format!("redis {unit}"), what));
        }
    }
    found
}

fn says(owner: Option<&OrderId>, grants: bool) -> String {
    match (owner, grants) {
        (Some(owner), false) => format!("redis says that order {owner} has it"),
        (Some(owner), true) => {
            format!("redis says that order {owner} has it and would grant it all the same")
        }
        (None, true) => "redis would grant it".into(),
        (None, false) => "redis gives it to nobody and would not grant it".into(),
    }
}

#[cfg(test)]
#[path = "stock/tests.rs"]
mod tests;
