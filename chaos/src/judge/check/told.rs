//! INV-6: every acknowledged hold and payment is in the ledger. What a buyer was told must still be true, or must have
//! become what may follow it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proto::invariant::Invariant::Inv6;

use crate::id::OrderId;
use crate::judge::case::{Findings, SaleCase};
use crate::told::{Ask, OrderState, OrderTold, Said, Told};

pub(super) fn check(sale: &SaleCase<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for (told, order) in orders_told(sale) {
        let buyer = told.buyer.unwrap_or(u32::MAX);
        if let Some(sentence) = complaint(sale, buyer, order)
            // The same lie told ten times is one lie.
            && seen.insert((order.order, sentence.clone()))
        {
            findings.name(Inv6, format!("{sale}, order {}", order.order), sentence);
        }
    }
    for (order, sentence) in denials(sale) {
        findings.name(Inv6, format!("{sale}, order {order}"), sentence);
    }
    for sentence in turns(sale) {
        findings.name(Inv6, sale, sentence);
    }
}

/// Orders of which a buyer was told something that is not so.
pub(in crate::judge) fn lost_acknowledgements(sale: &SaleCase<'_>) -> u64 {
    let told = orders_told(sale);
    let lost = told
        .filter(|(told, order)| complaint(sale, told.buyer.unwrap_or(u32::MAX), order).is_some());
    let mut lost: BTreeSet<OrderId> = lost.map(|(_, order)| order.order).collect();
    lost.extend(denials(sale).into_keys());
    u64::try_from(lost.len()).unwrap_or(u64::MAX)
}

/// Orders of which a buyer was told in a refusal that they are over or do not exist, and that is not so.
fn denials(sale: &SaleCase<'_>) -> BTreeMap<OrderId, String> {
    let mut asked: HashMap<u64, OrderId> = HashMap::new();
    let mut found = BTreeMap::new();
    for told in &sale.told {
        match &told.said {
            Said::Asked(
                Ask::Checkout { order } | Ask::CancelOrder { order } | Ask::GetOrder { order },
            ) => {
                asked.insert(told.call, *order);
            }
            Said::Refused { reason } => {
                let Some(order) = asked.get(&told.call) else { continue };
                let Some((_, row)) = sale.order(*order) else { continue };
                let over = matches!(row.state, OrderState::Expired | OrderState::Cancelled);
                if reason == "NOT_FOUND" || (reason == "ORDER_EXPIRED" && !over) {
                    let buyer = told.buyer.unwrap_or(u32::MAX);
                    let sentence =
                        format!("buyer {buyer} was told {reason}, it is {:?}", row.state);
                    found.insert(*order, sentence);
                }
            }
            _ => {}
        }
    }
    found
}

fn orders_told<'a>(sale: &SaleCase<'a>) -> impl Iterator<Item = (&'a Told, &'a OrderTold)> {
    sale.told.iter().filter_map(|told| match &told.said {
        Said::Order(order) => Some((*told, order)),
        _ => None,
    })
}

/// What is wrong with what the buyer was told, by the ledger and by the rows.
fn complaint(sale: &SaleCase<'_>, buyer: u32, told: &OrderTold) -> Option<String> {
    use OrderState::{Held, Paid, Paying, Refunded, Review};
    let state = told.state;
    let Some((bucket, row)) = sale.order(told.order) else {
        return Some(format!("buyer {buyer} was told that it is {state:?}, no cell knows it"));
    };
    let Some(entry) = bucket.replay.orders.get(&told.order) else {
        return Some(format!(
            "buyer {buyer} was told that it is {state:?}, its hold is not in the ledger"
        ));
    };
    if sale.pseudonyms.get(&buyer).is_some_and(|pseudonym| *pseudonym != entry.buyer) {
        return Some(format!("buyer {buyer} was told of it, it belongs to somebody else"));
    }
    let mut units = told.units.clone();
    units.sort_unstable();
    let gave_back =
        matches!(state, OrderState::Expired | OrderState::Cancelled) && units.is_empty();
    if units != entry.units && !gave_back {
        return Some(format!(
            "buyer {buyer} was told of the units {units:?}, it has {:?}",
            entry.units
        ));
    }
    if told.amount_minor != entry.amount_minor {
        let (told, held) = (told.amount_minor, entry.amount_minor);
        return Some(format!(
            "buyer {buyer} was told that it costs {told}, the ledger says {held}"
        ));
    }
    let kept = match state {
        Held => true,
        Paying | Review => entry.attempts > 0,
        Paid => matches!(row.state, Paid | Refunded) && matches!(entry.state, Paid | Refunded),
        _ => row.state == state && entry.state == state,
    };
    (!kept).then(|| {
        let (row, ledger) = (row.state, entry.state);
        format!(
            "buyer {buyer} was told that it is {state:?}, it is {row:?}, by the ledger {ledger:?}"
        )
    })
}

/// What was told of one order, call after call, never turns back from an end.
fn turns(sale: &SaleCase<'_>) -> Vec<String> {
    let mut ends: BTreeMap<OrderId, (u64, OrderState)> = BTreeMap::new();
    let mut asked: BTreeMap<u64, u64> = BTreeMap::new();
    let mut found = Vec::new();
    for told in &sale.told {
        match &told.said {
            Said::Asked(_) => {
                asked.insert(told.call, told.at_us);
            }
            Said::Order(order) => {
                let asked_us = asked.get(&told.call).copied().unwrap_or(0);
                if let Some((at_us, end)) = ends.get(&order.order)
                    // Answers may overtake each other; only what was asked after the end was told must agree with it.
                    && asked_us > *at_us
                    && *end != order.state
                    && order.state != OrderState::Refunded
                {
                    found.push(format!(
                        "order {} was told to be {end:?} and then {:?}",
                        order.order, order.state
                    ));
                }
                if order.state.is_final() {
                    ends.entry(order.order).or_insert((told.at_us, order.state));
                }
            }
            _ => {}
        }
    }
    found
}
