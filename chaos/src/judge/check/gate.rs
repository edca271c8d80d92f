//! INV-12: over any interval from the start on no more tickets are admitted than rate times interval plus burst.
//!
//! The ledger says when a rank was used and the told log when its buyer was told to come in; by then it and all ranks
//! before it had been admitted. So both give a floor under what was admitted by a moment.

use std::collections::HashMap;

use proto::invariant::Invariant::Inv12;
use proto::limits::ADMISSION_BURST_MS;

use crate::judge::case::{Findings, SaleCase};
use crate::told::Said;

pub(super) fn check(sale: &SaleCase<'_>, findings: &mut Findings) {
    let starts = sale.buckets.iter().filter_map(|bucket| bucket.row.start_us);
    let Some(start_us) = starts.min().filter(|_| sale.agreed.flash) else { return };
    let mut seen = used(sale);
    seen.extend(told(sale));
    seen.sort_unstable();
    let rate = u64::from(sale.agreed.admission_rate);
    // Each bucket may round its part up.
    let spare = u64::try_from(sale.buckets.len()).unwrap_or(0);
    let mut admitted: HashMap<u32, u64> = HashMap::new();
    for (at_us, bucket, rank) in seen {
        let admitted_in_bucket = admitted.entry(bucket).or_default();
        *admitted_in_bucket = (*admitted_in_bucket).max(rank + 1);
        let after_us = u64::try_from(at_us - start_us).unwrap_or(0);
        let most = rate * (after_us + ADMISSION_BURST_MS * 1_000) / 1_000_000 + spare;
        let total: u64 = admitted.values().sum();
        if total > most {
            let after_ms = after_us / 1_000;
            let sentence = format!(
                "{total} tickets were admitted {after_ms} ms after its start, at most {most} may be"
            );
            findings.name(Inv12, sale, sentence);
            return;
        }
    }
}

/// When a rank was used at the latest: time, bucket, rank.
fn used(sale: &SaleCase<'_>) -> Vec<(i64, u32, u64)> {
    let buckets = sale.buckets.iter();
    let orders = buckets.flat_map(|bucket| {
        let orders = bucket.replay.orders.values();
        orders.map(|order| (order.held_at_us, bucket.row.number, order.ticket))
    });
    orders.collect()
}

/// When a buyer was told to come in.
fn told(sale: &SaleCase<'_>) -> Vec<(i64, u32, u64)> {
    let told = sale.told.iter().filter_map(|told| match &told.said {
        Said::Ticket(ticket) if ticket.admitted => {
            Some((i64::try_from(told.at_us).ok()?, ticket.bucket, ticket.rank))
        }
        _ => None,
    });
    told.collect()
}
