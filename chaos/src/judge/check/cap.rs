//! INV-4: a buyer's live and paid units never exceed the cap.

use std::collections::{BTreeMap, BTreeSet};

use proto::invariant::Invariant::Inv4;

use crate::id::{BuyerKey, OrderId};
use crate::judge::case::{BucketCase, Findings, SaleCase};
use crate::told::{OrderState, Said};

pub(super) fn check(sale: &SaleCase<'_>, findings: &mut Findings) {
    rows(sale, findings);
    told(sale, findings);
    sale.buckets.iter().for_each(|bucket| memory(bucket, findings));
}

/// By the rows of all cells: how many units, and in which places.
fn rows(sale: &SaleCase<'_>, findings: &mut Findings) {
    let cap = sale.agreed.cap;
    for bucket in &sale.buckets {
        for row in &bucket.row.units {
            if bucket.orders.get(&row.order).is_some_and(|order| order.buyer != row.buyer) {
                let sentence =
                    format!("it counts for buyer {}, order {} is another's", row.buyer, row.order);
                findings.name(Inv4, format!("{sale}, unit {}", row.unit), sentence);
            }
        }
    }
    let mut slots: BTreeMap<BuyerKey, Vec<u32>> = BTreeMap::new();
    for row in sale.buckets.iter().flat_map(|bucket| &bucket.row.units) {
        slots.entry(row.buyer).or_default().push(row.slot);
    }
    for (buyer, slots) in slots {
        let subject = format!("{sale}, buyer {buyer}");
        let distinct: BTreeSet<u32> = slots.iter().copied().collect();
        if slots.len() > cap as usize {
            findings.name(Inv4, subject, format!("has {} units, the cap is {cap}", slots.len()));
        } else if distinct.len() < slots.len() || distinct.iter().any(|slot| *slot >= cap) {
            let sentence =
                format!("has units in the places {slots:?}, which must differ and be below {cap}");
            findings.name(Inv4, subject, sentence);
        }
    }
}

/// By what the buyers themselves were told.
fn told(sale: &SaleCase<'_>, findings: &mut Findings) {
    let mut paid: BTreeMap<u32, BTreeSet<(u32, OrderId)>> = BTreeMap::new();
    for told in &sale.told {
        let (Some(buyer), Said::Order(order)) = (told.buyer, &told.said) else { continue };
        if order.state == OrderState::Paid && !sale.is_refunded(order.order) {
            let units = order.units.iter().map(|unit| (*unit, order.order));
            paid.entry(buyer).or_default().extend(units);
        }
    }
    let cap = sale.agreed.cap as usize;
    for (buyer, units) in paid.into_iter().filter(|(_, units)| units.len() > cap) {
        let sentence = format!("was told of {} paid units, the cap is {cap}", units.len());
        findings.name(Inv4, format!("{sale}, buyer {buyer}"), sentence);
    }
}

/// By what Redis will count on when the buyer comes again.
fn memory(bucket: &BucketCase<'_>, findings: &mut Findings) {
    let Some(memory) = &bucket.row.memory else { return };
    if bucket.row.settled || !memory.open || memory.epoch != bucket.row.epoch {
        return;
    }
    let mut owned: BTreeMap<BuyerKey, u32> = BTreeMap::new();
    for row in &bucket.row.units {
        *owned.entry(row.buyer).or_default() += 1;
    }
    for buyer in &memory.buyers {
        let (known, owned) = (buyer.live + buyer.paid, owned.remove(&buyer.buyer).unwrap_or(0));
        if known != owned {
            let sentence =
                format!("Redis counts {known} units of buyer {}, Postgres {owned}", buyer.buyer);
            findings.name(Inv4, bucket, sentence);
        }
    }
    for (buyer, owned) in owned {
        let sentence = format!("Redis counts no unit of buyer {buyer}, Postgres {owned}");
        findings.name(Inv4, bucket, sentence);
    }
}
