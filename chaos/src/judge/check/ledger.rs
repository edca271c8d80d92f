//! INV-6, its other half: the ledger and the rows tell the same story of every order.

use std::collections::HashMap;

use proto::invariant::Invariant::Inv6;

use crate::id::OrderId;
use crate::judge::case::{BucketCase, Findings, SaleCase};
use crate::judge::evidence::OrderRow;
use crate::judge::replay::ReplayedOrder;

pub(super) fn check(sale: &SaleCase<'_>, findings: &mut Findings) {
    for bucket in &sale.buckets {
        for flaw in &bucket.replay.flaws {
            findings.name(flaw.invariant, bucket, flaw.sentence.clone());
        }
        for (id, order) in &bucket.replay.orders {
            match bucket.orders.get(id) {
                None => findings.name(Inv6, bucket, format!("order {id} has no row")),
                Some(row) => {
                    if let Some(what) = difference(order, row) {
                        let sentence = format!("order {id} in ledger and row: {what}");
                        findings.name(Inv6, bucket, sentence);
                    }
                }
            }
        }
        let rows = bucket.row.orders.iter().map(|row| row.order);
        for id in rows.filter(|id| !bucket.replay.orders.contains_key(id)) {
            findings.name(Inv6, bucket, format!("order {id} is not in the ledger"));
        }
        holders(bucket, findings);
    }
}

fn difference(order: &ReplayedOrder, row: &OrderRow) -> Option<String> {
    if order.state != row.state {
        Some(format!("{:?}, {:?}", order.state, row.state))
    } else if order.buyer != row.buyer {
        Some(format!("buyer {}, buyer {}", order.buyer, row.buyer))
    } else if order.units.len() != row.quantity as usize {
        Some(format!("{} units, {} units", order.units.len(), row.quantity))
    } else if i64::try_from(order.ticket) != Ok(row.ticket) {
        Some(format!("ticket {}, ticket {}", order.ticket, row.ticket))
    } else if order.attempts != row.attempt {
        Some(format!("{} attempts, {} attempts", order.attempts, row.attempt))
    } else {
        None
    }
}

/// Units with a row are those that the ledger has not given back.
fn holders(bucket: &BucketCase<'_>, findings: &mut Findings) {
    let mut rows: HashMap<u32, OrderId> =
        bucket.row.units.iter().map(|row| (row.unit, row.order)).collect();
    for (unit, order) in &bucket.replay.holders {
        match rows.remove(unit) {
            Some(holder) if holder == *order => {}
            Some(holder) => {
                let sentence =
                    format!("unit {unit} is order {order}'s by the ledger, {holder}'s by its row");
                findings.name(Inv6, bucket, sentence);
            }
            None => {
                let sentence =
                    format!("unit {unit} is order {order}'s by the ledger and has no row");
                findings.name(Inv6, bucket, sentence);
            }
        }
    }
    for (unit, holder) in rows {
        let sentence = format!("unit {unit} is order {holder}'s by its row and free by the ledger");
        findings.name(Inv6, bucket, sentence);
    }
}
