//! INV-7: nothing is reserved without a ticket of this buyer and sale that the gate admits, and a ticket serves one
//! order.

use std::collections::{HashMap, HashSet};

use proto::invariant::Invariant::Inv7;
use ring::digest;

use crate::id::{BuyerKey, OrderId};
use crate::judge::OrderRow;
use crate::judge::case::{BucketCase, Findings, SaleCase};
use crate::told::{Ask, Said};

pub(super) fn check(sale: &SaleCase<'_>, findings: &mut Findings) {
    let given = tickets_given(sale);
    let asked = orders_asked(sale);
    for bucket in &sale.buckets {
        serves_one(bucket, findings);
        for (id, order) in &bucket.replay.orders {
            let rank = order.ticket;
            // A STANDARD sale has no gate.
            if sale.agreed.flash && i64::try_from(rank).unwrap_or(i64::MAX) >= bucket.row.cursor {
                let sentence = format!(
                    "order {id} used the ticket with rank {rank}, the gate stands at {}",
                    bucket.row.cursor
                );
                findings.name(Inv7, bucket, sentence);
            }
            if !given.contains(&(bucket.row.number, rank, order.buyer)) {
                let sentence =
                    format!("order {id} used a ticket (rank {rank}) that its buyer was not given");
                findings.name(Inv7, bucket, sentence);
            }
            if !asked.contains(id) {
                findings.name(Inv7, bucket, format!("nobody asked for order {id}"));
            }
        }
        spent(bucket, findings);
    }
}

/// Tickets that buyers were given: bucket, rank, buyer.
fn tickets_given(sale: &SaleCase<'_>) -> HashSet<(u32, u64, BuyerKey)> {
    let tickets = sale.told.iter().filter_map(|told| match &told.said {
        Said::Ticket(ticket) => Some((ticket.bucket, ticket.rank, ticket.pseudonym)),
        _ => None,
    });
    tickets.collect()
}

/// Orders that the calls which were sent can have made.
fn orders_asked(sale: &SaleCase<'_>) -> HashSet<OrderId> {
    let asked = sale.told.iter().filter_map(|told| match &told.said {
        Said::Asked(Ask::Reserve { request, .. }) => {
            let buyer = sale.pseudonyms.get(&told.buyer?)?;
            Some(order_id(&sale.agreed.sale, *buyer, request.0))
        }
        _ => None,
    });
    asked.collect()
}

/// The order that a request makes: the first half of SHA-256(sale, 0, buyer, request id).
fn order_id(sale: &str, buyer: BuyerKey, request: [u8; 16]) -> OrderId {
    let text = [sale.as_bytes(), &[0], &buyer.0, &request].concat();
    let mut id = [0; 16];
    id.copy_from_slice(&digest::digest(&digest::SHA256, &text).as_ref()[..16]);
    OrderId(id)
}

/// By the ledger and by the rows.
fn serves_one(bucket: &BucketCase<'_>, findings: &mut Findings) {
    let replayed = bucket.replay.orders.iter();
    let replayed =
        replayed.map(|(id, order)| (i64::try_from(order.ticket).unwrap_or(i64::MAX), *id));
    let rows = bucket.row.orders.iter().map(|row| (row.ticket, row.order));
    let mut served: HashMap<i64, OrderId> = HashMap::new();
    for (rank, id) in replayed.chain(rows) {
        let other = *served.entry(rank).or_insert(id);
        if other != id {
            let sentence =
                format!("the ticket with rank {rank} served the orders {other} and {id}");
            findings.name(Inv7, bucket, sentence);
        }
    }
}

/// Redis must refuse a ticket that Postgres knows to be spent.
fn spent(bucket: &BucketCase<'_>, findings: &mut Findings) {
    let Some(memory) = &bucket.row.memory else { return };
    if bucket.row.settled || !memory.open || memory.epoch != bucket.row.epoch {
        return;
    }
    // A take-over brings back those whose turn has not passed; the others the gate refuses.
    let forgotten = |order: &&OrderRow| {
        let known = memory.buyers.binary_search_by_key(&order.buyer, |known| known.buyer);
        let is_known = known.is_ok_and(|place| order.ticket < memory.buyers[place].spent_below);
        !is_known && order.ticket >= bucket.row.tail
    };
    for order in bucket.row.orders.iter().filter(forgotten) {
        let sentence = format!(
            "order {} spent the ticket with rank {}, Redis would take it again",
            order.order, order.ticket
        );
        findings.name(Inv7, bucket, sentence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_deriving_an_order_agree() {
        let sale = "s0123456789abcdef";
        let ours = order_id(sale, BuyerKey([7; 16]), [1; 16]);
        let theirs = proto::id::OrderId::derive(sale, proto::id::BuyerKey([7; 16]), [1; 16]);
        assert_eq!(ours.0, theirs.0);
    }
}
