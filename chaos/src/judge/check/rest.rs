//! INV-3: when all is quiet every unit is sold or free, and Redis knows the same free units as Postgres.
//!
//! A unit is stranded when it is neither: held by nobody who could still pay, or free in Postgres and not in Redis, so
//! that nobody can ever buy it.

use std::collections::{BTreeSet, HashMap, HashSet};

use proto::invariant::Invariant::Inv3;

use super::transfer;
use crate::judge::case::{BucketCase, Findings, SaleCase};
use crate::judge::evidence::Memory;
use crate::told::OrderState;

/// Units named in one sentence.
const NAMED_MAX: usize = 10;

pub(super) fn check(sale: &SaleCase<'_>, findings: &mut Findings) {
    for bucket in &sale.buckets {
        live(bucket, findings);
        memory(bucket, findings);
    }
    let left = stranded_units(sale);
    if !left.is_empty() {
        let sentence = format!("{} units are neither sold nor free: {}", left.len(), list(&left));
        findings.name(Inv3, sale, sentence);
    }
}

/// Units that nobody can ever buy and nobody has paid for.
pub(in crate::judge) fn stranded(sale: &SaleCase<'_>) -> u64 {
    u64::try_from(stranded_units(sale).len()).unwrap_or(u64::MAX)
}

fn stranded_units(sale: &SaleCase<'_>) -> BTreeSet<u32> {
    let mut left: BTreeSet<u32> = (0..sale.agreed.stock).collect();
    for unit in transfer::surrendered(sale).units() {
        left.remove(&unit);
    }
    for bucket in &sale.buckets {
        let is_sold = |state| matches!(state, OrderState::Paid | OrderState::Refunded);
        for row in &bucket.row.units {
            if bucket.orders.get(&row.order).is_some_and(|order| is_sold(order.state)) {
                left.remove(&row.unit);
            }
        }
        for unit in free_units(bucket) {
            left.remove(&unit);
        }
    }
    left
}

/// Units that are free in Postgres and can be had.
fn free_units(bucket: &BucketCase<'_>) -> Vec<u32> {
    let free = postgres_free(bucket);
    if bucket.row.settled {
        return free.into_iter().collect();
    }
    let Some(memory) = loaded(bucket) else { return Vec::new() };
    let known = redis_free(bucket, memory);
    free.into_iter().filter(|unit| known.contains(unit)).collect()
}

fn postgres_free(bucket: &BucketCase<'_>) -> BTreeSet<u32> {
    let taken: HashSet<u32> = bucket.row.units.iter().map(|row| row.unit).collect();
    let shares = bucket.row.shares.iter();
    let all =
        shares.flat_map(|share| share.first_unit..share.first_unit.saturating_add(share.units));
    all.filter(|unit| !taken.contains(unit)).collect()
}

/// What Redis knows of the bucket, when it is of the bucket's epoch and serves.
fn loaded<'a>(bucket: &BucketCase<'a>) -> Option<&'a Memory> {
    bucket.row.memory.as_ref().filter(|memory| memory.open && memory.epoch == bucket.row.epoch)
}

/// Units that Redis would give to the next buyer: named by nobody, and returned or never granted.
fn redis_free(bucket: &BucketCase<'_>, memory: &Memory) -> HashSet<u32> {
    let unnamed = |index: &u32| {
        let named = memory.units.get(usize::try_from(*index).unwrap_or(usize::MAX));
        named.is_none_or(Option::is_none)
    };
    let returned = memory.returned.iter().copied().filter(|index| *index < memory.next);
    let indices = returned.chain(memory.next..memory.granted);
    indices.filter(unnamed).filter_map(|index| bucket.replay.indices.unit(index)).collect()
}

/// At rest no order is under way.
fn live(bucket: &BucketCase<'_>, findings: &mut Findings) {
    for order in bucket.row.orders.iter().filter(|order| order.state.is_live()) {
        let sentence = format!("order {} is still {:?}", order.order, order.state);
        findings.name(Inv3, bucket, sentence);
    }
}

fn memory(bucket: &BucketCase<'_>, findings: &mut Findings) {
    if bucket.row.settled {
        return;
    }
    let Some(memory) = loaded(bucket) else {
        let free = postgres_free(bucket).len();
        if free > 0 {
            let sentence = format!("Redis has not loaded it, {free} free units cannot be had");
            findings.name(Inv3, bucket, sentence);
        }
        return;
    };
    let end = bucket.replay.indices.end();
    if u64::from(memory.granted) != end {
        let sentence =
            format!("local indices end at {} in Redis, at {end} by the ledger", memory.granted);
        findings.name(Inv3, bucket, sentence);
    }
    let (known, free) = (redis_free(bucket, memory), postgres_free(bucket));
    let lost: BTreeSet<u32> = free.iter().copied().filter(|unit| !known.contains(unit)).collect();
    let extra: BTreeSet<u32> = known.into_iter().filter(|unit| !free.contains(unit)).collect();
    for (units, what) in
        [(lost, "free in Postgres and not in Redis"), (extra, "free in Redis and not in Postgres")]
    {
        if !units.is_empty() {
            findings.name(Inv3, bucket, format!("units {} are {what}", list(&units)));
        }
    }
    let mut times: HashMap<u32, u32> = HashMap::new();
    memory.returned.iter().for_each(|index| *times.entry(*index).or_default() += 1);
    let twice = times.into_iter().filter(|(_, times)| *times > 1).map(|(index, _)| index);
    let twice: BTreeSet<u32> =
        twice.filter_map(|index| bucket.replay.indices.unit(index)).collect();
    if !twice.is_empty() {
        findings.name(Inv3, bucket, format!("Redis has units {} twice as free", list(&twice)));
    }
}

fn list(units: &BTreeSet<u32>) -> String {
    let named: Vec<String> = units.iter().take(NAMED_MAX).map(u32::to_string).collect();
    let more = if units.len() > NAMED_MAX { ", …" } else { "" };
    named.join(", ") + more
}
