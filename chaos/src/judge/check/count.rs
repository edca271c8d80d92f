//! INV-2: in every bucket free, live and paid units add up to the granted ones, and the shares of a sale are disjoint
//! and add up to its stock.
//!
//! Free units are those of the shares that have no row, so the counts are compared with the rows they count.

use std::collections::{HashMap, HashSet};

use proto::invariant::Invariant::Inv2;

use crate::id::OrderId;
use crate::judge::case::{BucketCase, Findings, SaleCase};
use crate::told::OrderState;

pub(super) fn check(sale: &SaleCase<'_>, findings: &mut Findings) {
    shares(sale, findings);
    for bucket in &sale.buckets {
        counts(bucket, findings);
        rows(bucket, findings);
    }
}

/// Every unit of the sale is in exactly one share.
fn shares(sale: &SaleCase<'_>, findings: &mut Findings) {
    let stock = u64::from(sale.agreed.stock);
    let mut ranges: Vec<(u64, u64, &BucketCase<'_>)> = Vec::new();
    for bucket in &sale.buckets {
        for share in &bucket.row.shares {
            let first = u64::from(share.first_unit);
            ranges.push((first, first + u64::from(share.units), bucket));
        }
    }
    ranges.sort_by_key(|(first, end, _)| (*first, *end));
    let mut covered = 0;
    for (first, end, bucket) in ranges {
        if first < covered {
            let sentence =
                format!("it may sell units from {first} on, which another bucket may, too");
            findings.name(Inv2, bucket, sentence);
        } else if first > covered {
            findings.name(Inv2, sale, format!("no bucket may sell the units {covered}..{first}"));
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
    let replayed = i64::try_from(bucket.replay.granted).unwrap_or(i64::MAX);
    let of = |wanted: fn(OrderState) -> bool| {
        let states = row.units.iter().filter_map(|unit| bucket.orders.get(&unit.order));
        i64::try_from(states.filter(|order| wanted(order.state)).count()).unwrap_or(i64::MAX)
    };
    let live = of(OrderState::is_live);
    let paid = of(|state| state == OrderState::Paid);
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
    let promised = row.live + row.paid;
    if promised > row.granted {
        let sentence = format!("{promised} units are live or paid, {} were granted", row.granted);
        findings.name(Inv2, bucket, sentence);
    }
}

/// Every row is of a unit that the bucket may sell, and of an order that has so many.
fn rows(bucket: &BucketCase<'_>, findings: &mut Findings) {
    let foreign = bucket.row.units.iter().filter(|row| bucket.row.index_of(row.unit).is_none());
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
        let has = order.state.is_live() || order.state == OrderState::Paid;
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
