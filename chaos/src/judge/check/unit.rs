//! INV-1: no unit number is in two live orders, and no more are paid than there are.

use std::collections::{BTreeMap, BTreeSet};

use proto::invariant::Invariant::Inv1;

use crate::id::OrderId;
use crate::judge::case::{Findings, SaleCase};
use crate::told::{OrderState, Said};

pub(super) fn check(sale: &SaleCase<'_>, findings: &mut Findings) {
    for (unit, orders) in shared_units(sale) {
        let sentence = format!("it is in {} orders at once: {}", orders.len(), list(&orders));
        findings.name(Inv1, format!("{sale}, unit {unit}"), sentence);
    }
    for (unit, buyers) in told_units(sale) {
        let sentence = format!("these buyers were all told that it is theirs: {buyers:?}");
        findings.name(Inv1, format!("{sale}, unit {unit}"), sentence);
    }
    let (sold, units) = (sold(sale), u64::from(sale.agreed.units()));
    if sold > units {
        findings.name(Inv1, sale, format!("{sold} units are paid, there are {units}"));
    }
    let stock = sale.agreed.stock;
    for bucket in &sale.buckets {
        for row in bucket.row.units.iter().filter(|row| row.unit >= stock) {
            let sentence = format!("order {} has it, but the sale has {stock} units", row.order);
            findings.name(Inv1, format!("{sale}, unit {}", row.unit), sentence);
        }
    }
}

/// Units that were paid for, by the orders of all cells.
pub(in crate::judge) fn sold(sale: &SaleCase<'_>) -> u64 {
    let paid = sale.orders().filter(|(_, order)| order.state == OrderState::Paid);
    paid.map(|(_, order)| u64::from(order.quantity)).sum()
}

/// Units that somebody was promised beyond what there is.
pub(in crate::judge) fn oversold(sale: &SaleCase<'_>) -> u64 {
    let rows: usize = sale.buckets.iter().map(|bucket| bucket.row.units.len()).sum();
    let units = sale.buckets.iter().flat_map(|bucket| bucket.row.units.iter().map(|row| row.unit));
    let distinct: BTreeSet<u32> = units.filter(|unit| *unit < sale.agreed.stock).collect();
    let twice = u64::try_from(rows - distinct.len()).unwrap_or(u64::MAX);
    let promised =
        sale.orders().filter(|(_, order)| order.state == OrderState::Paid || order.state.is_live());
    let promised: u64 = promised.map(|(_, order)| u64::from(order.quantity)).sum();
    let told = u64::try_from(told_units(sale).len()).unwrap_or(u64::MAX);
    twice.max(told).max(promised.saturating_sub(sale.agreed.units().into()))
}

/// Units with a row in more than one order.
fn shared_units(sale: &SaleCase<'_>) -> BTreeMap<u32, BTreeSet<OrderId>> {
    let mut orders: BTreeMap<u32, BTreeSet<OrderId>> = BTreeMap::new();
    for row in sale.buckets.iter().flat_map(|bucket| &bucket.row.units) {
        orders.entry(row.unit).or_default().insert(row.order);
    }
    orders.retain(|_, orders| orders.len() > 1);
    orders
}

/// Units that more than one buyer was told they had paid for, and of which none gave them back for the money.
fn told_units(sale: &SaleCase<'_>) -> BTreeMap<u32, BTreeSet<u32>> {
    let mut buyers: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for told in &sale.told {
        let (Some(buyer), Said::Order(order)) = (told.buyer, &told.said) else { continue };
        if order.state == OrderState::Paid && !sale.is_refunded(order.order) {
            for unit in &order.units {
                buyers.entry(*unit).or_default().insert(buyer);
            }
        }
    }
    buyers.retain(|_, buyers| buyers.len() > 1);
    buyers
}

fn list(orders: &BTreeSet<OrderId>) -> String {
    orders.iter().map(OrderId::to_string).collect::<Vec<_>>().join(", ")
}
