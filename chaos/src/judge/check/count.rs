//! INV-2: in every bucket free, live and paid units add up to the granted ones, and the shares of a sale and the units on
//! their way are disjoint and add up to its stock, without what the merchant took back.
//!
//! Free units are those of the shares that have no row, so the counts are compared with the rows they count.

use std::collections::{HashMap, HashSet};

use proto::invariant::Invariant::Inv2;

use super::transfer;
use crate::id::OrderId;
use crate::judge::case::{BucketCase, Findings, SaleCase};
use crate::judge::ranges::Ranges;
use crate::judge::replay::ReplayedOrder;
use crate::told::OrderState;

pub(super) fn check(sale: &SaleCase<'_>, findings: &mut Findings) {
    shares(sale, findings);
    for bucket in &sale.buckets {
        counts(bucket, findings);
        rows(bucket, findings);
    }
}

/// Every unit of the sale is in exactly one share, or on its way, or was taken back.
fn shares(sale: &SaleCase<'_>, findings: &mut Findings) {
    let stock = u64::from(sale.agreed.stock);
    let mut ranges: Vec<(u64, u64, Option<&BucketCase<'_>>)> = Vec::new();
    for bucket in &sale.buckets {
        for share in &bucket.row.shares {
            let first = u64::from(share.first_unit);
            ranges.push((first, first + u64::from(share.units), Some(bucket)));
        }
    }
    for elsewhere in [transfer::on_their_way(sale), transfer::surrendered(sale)] {
        ranges.extend(elsewhere.iter().map(|(first, end)| (first, end, None)));
    }
    ranges.sort_by_key(|(first, end, _)| (*first, *end));
    let mut covered = 0;
    for (first, end, bucket) in ranges {
        match bucket {
            Some(bucket) if first < covered => {
                let sentence =
                    format!("it may sell units from {first} on, which are elsewhere, too");
                findings.name(Inv2, bucket, sentence);
            }
            None if first < covered => {
                let sentence = format!("a bucket may sell units from {first} on, which it gave up");
                findings.name(Inv2, sale, sentence);
            }
            _ if first > covered => {
                findings.name(
                    Inv2,
                    sale,
                    format!("no bucket may sell the units {covered}..{first}"),
                );
            }
            _ => {}
        }
        covered = covered.max(end);
    }
    if covered != stock {
        findings.name(
            Inv2,
            sale,
            format!("the shares end at unit {covered}, the stock is {stock}"),
        );
    }
}

/// The bucket's own counts against its shares, its rows and its ledger.
fn counts(bucket: &BucketCase<'_>, findings: &mut Findings) {
    let row = bucket.row;
    let shared = i64::try_from(row.share_units()).unwrap_or(i64::MAX);
    let replayed = i64::try_from(bucket.replay.shares.count()).unwrap_or(i64::MAX);
    let of = |wanted: fn(OrderState) -> bool| {
        let states = row.units.iter().filter_map(|unit| bucket.orders.get(&unit.order));
        i64::try_from(states.filter(|order| wanted(order.state)).count()).unwrap_or(i64::MAX)
    };
    let live = of(OrderState::is_live);
    // A refund after the sale was settled leaves the units where they are.
    let paid = of(|state| matches!(state, OrderState::Paid | OrderState::Refunded));
    for (what, counted, found) in [
        ("granted units, its shares", row.granted, shared),
        ("granted units, its ledger", row.granted, replayed),
        ("live units, its rows", row.live, live),
        ("paid units, its rows", row.paid, paid),
    ] {
        if counted != found {
            findings.name(Inv2, bucket, format!("it counts {counted} {what} say {found}"));
        }
    }
    let mut shares = Ranges::default();
    for share in &row.shares {
        let first = u64::from(share.first_unit);
        shares.add(first, first + u64::from(share.units));
    }
    if shares != bucket.replay.shares {
        findings.name(Inv2, bucket, "its shares are not those of its ledger");
    }
    let promised = row.live + row.paid;
    if promised > row.granted {
        let sentence = format!("{promised} units are live or paid, {} were granted", row.granted);
        findings.name(Inv2, bucket, sentence);
    }
}

/// Every row is of a unit that the bucket may sell, and of an order that has so many.
fn rows(bucket: &BucketCase<'_>, findings: &mut Findings) {
    let foreign = bucket.row.units.iter().filter(|row| !bucket.row.has(row.unit));
    for row in foreign {
        let sentence = format!("order {} has unit {} of another bucket", row.order, row.unit);
        findings.name(Inv2, bucket, sentence);
    }
    let known = |order| bucket.orders.contains_key(order);
    for row in bucket.row.units.iter().filter(|row| !known(&row.order)) {
        let sentence =
            format!("unit {} belongs to order {}, which is not there", row.unit, row.order);
        findings.name(Inv2, bucket, sentence);
    }
    let mut owned: HashMap<OrderId, HashSet<u32>> = HashMap::new();
    for row in &bucket.row.units {
        owned.entry(row.order).or_default().insert(row.unit);
    }
    for order in &bucket.row.orders {
        let keeps = |order: &ReplayedOrder| order.keeps_units;
        let has = match order.state {
            OrderState::Refunded => bucket.replay.orders.get(&order.order).is_some_and(keeps),
            state => state.is_live() || state == OrderState::Paid,
        };
        let wanted = if has { order.quantity } else { 0 };
        let units = owned.get(&order.order).map_or(0, HashSet::len);
        if units != wanted as usize {
            let sentence = format!(
                "order {} is {:?} and should have {wanted} units, it has {}",
                order.order, order.state, units
            );
            findings.name(Inv2, bucket, sentence);
        }
    }
}
