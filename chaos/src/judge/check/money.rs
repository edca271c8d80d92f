//! INV-5: an order has at most one capture that was not refunded, a paid order exactly one, and no capture stays
//! unclaimed.

use std::collections::BTreeMap;

use proto::invariant::Invariant::Inv5;

use crate::id::OrderId;
use crate::judge::case::{Case, Findings, SaleCase};
use crate::judge::evidence::{Intent, OrderRow};
use crate::told::OrderState;

pub(super) fn check(case: &Case<'_>, findings: &mut Findings) {
    let (orders, unclaimed) = by_order(case);
    for intent in unclaimed.iter().filter(|intent| intent.unrefunded_captures() > 0) {
        let made_for = intent.order.as_deref().unwrap_or("nothing");
        let sentence = format!("took {} for {made_for}, which is no order", intent.captured);
        findings.name(Inv5, format!("payment {}", intent.id), sentence);
    }
    for sale in &case.sales {
        for (_, order) in sale.orders() {
            let intents = orders.get(&order.order).map_or(&[][..], Vec::as_slice);
            let amount = i64::from(order.quantity) * sale.agreed.price_minor;
            if let Some(sentence) = complaint(order, intents, amount) {
                findings.name(Inv5, format!("{sale}, order {}", order.order), sentence);
            }
        }
    }
}

/// Captures of the sale's orders that were not given back and that no paid order claims.
pub(in crate::judge) fn double_charges(case: &Case<'_>, sale: &SaleCase<'_>) -> u64 {
    let (orders, _) = by_order(case);
    let excess = sale.orders().map(|(_, row)| {
        let intents = orders.get(&row.order).map_or(&[][..], Vec::as_slice);
        captures(intents).saturating_sub(u32::from(row.state == OrderState::Paid))
    });
    excess.map(u64::from).sum()
}

/// Captures of no order at all that were not given back.
pub(in crate::judge) fn unclaimed_charges(case: &Case<'_>) -> u64 {
    let (_, unclaimed) = by_order(case);
    unclaimed.iter().map(|intent| u64::from(intent.unrefunded_captures())).sum()
}

fn complaint(order: &OrderRow, intents: &[&Intent], amount: i64) -> Option<String> {
    if let Some(intent) = intents.iter().find(|intent| intent.refunded > intent.captured) {
        let (id, back, taken) = (&intent.id, intent.refunded, intent.captured);
        return Some(format!("payment {id} gave {back} back of the {taken} that it took"));
    }
    let captures = captures(intents);
    let named = |intent: &&&Intent| order.intent.as_deref() == Some(intent.id.as_str());
    if order.state == OrderState::Refunded
        && intents.iter().find(named).is_none_or(|one| one.captured == 0)
    {
        return Some(format!("it is refunded, and its payment {:?} took nothing", order.intent));
    }
    if order.state != OrderState::Paid {
        return (captures > 0)
            .then(|| format!("it is {:?} and {captures} captures of it were kept", order.state));
    }
    if captures != 1 {
        return Some(format!("it is paid and has {captures} captures that were not refunded"));
    }
    let kept = intents.iter().find(|intent| intent.unrefunded_captures() > 0)?;
    if order.intent.as_deref() != Some(kept.id.as_str()) {
        return Some(format!("it names payment {:?}, the money is in {}", order.intent, kept.id));
    }
    let taken = i64::try_from(kept.captured - kept.refunded).unwrap_or(i64::MAX);
    (taken != amount).then(|| format!("{taken} were taken for it, it costs {amount}"))
}

fn captures(intents: &[&Intent]) -> u32 {
    intents.iter().map(|intent| intent.unrefunded_captures()).sum()
}

type ByOrder<'a> = BTreeMap<OrderId, Vec<&'a Intent>>;

/// The payments of each order, and those of none that any cell knows.
fn by_order<'a>(case: &Case<'a>) -> (ByOrder<'a>, Vec<&'a Intent>) {
    let rows = case.sales.iter().flat_map(|sale| sale.orders());
    let mut orders: ByOrder<'a> = rows.map(|(_, row)| (row.order, Vec::new())).collect();
    let mut unclaimed = Vec::new();
    for intent in &case.evidence.intents {
        match intent.order_id().and_then(|order| orders.get_mut(&order)) {
            Some(intents) => intents.push(intent),
            None => unclaimed.push(intent),
        }
    }
    (orders, unclaimed)
}
