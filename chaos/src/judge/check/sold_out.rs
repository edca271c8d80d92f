//! INV-3: whoever says "sold out" has sold everything, at that moment. It is final; a refund or new stock may change it
//! later.
//!
//! When a unit was paid for its cell's ledger says, unless that cell's clock cannot be right, because it dates something
//! before a client asked for it or after the client was told of it. Of such a cell everything counts from the first
//! moment at which it may have been: when its buyer asked to pay.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use proto::invariant::Invariant::Inv3;

use crate::id::{BuyerKey, OrderId};
use crate::judge::case::{BucketCase, Findings, SaleCase};
use crate::told::{Ask, OrderState, Said};

/// How long whoever says something may not have heard of a change.
const NEWS_US: i64 = 1_000_000;

/// By how much the clocks of clients and cells may differ.
const CLOCKS_APART_US: i64 = 100_000;

pub(super) fn check(sale: &SaleCase<'_>, findings: &mut Findings) {
    let times = times(sale);
    let told = sale.told.iter().find(|told| {
        let says_so = match &told.said {
            Said::Refused { reason } => reason == "SOLD_OUT",
            Said::Page(page) => page.sold_out,
            _ => false,
        };
        let at_us = signed(told.at_us);
        says_so
            && !times.iter().any(|(from, to)| *from <= at_us && at_us < to.saturating_add(NEWS_US))
    });
    let (sold, stock) = (super::sold(sale), u64::from(sale.agreed.units()));
    if let Some(told) = told {
        let who = told.buyer.map_or("everybody".to_owned(), |buyer| format!("buyer {buyer}"));
        let sentence = format!(
            "{who} was told too early that it is sold out; {sold} of {stock} units are sold in the end"
        );
        findings.name(Inv3, sale, sentence);
    }
}

/// The times, unix microseconds, from and to which every unit of the sale was paid for.
fn times(sale: &SaleCase<'_>) -> Vec<(i64, i64)> {
    let clients = Clients::of(sale);
    let wrong = sale.buckets.iter().filter(|bucket| !clients.agree(bucket));
    let wrong: BTreeSet<&str> = wrong.map(|bucket| bucket.row.cell.as_str()).collect();
    let mut changes: Vec<(i64, i64, i64)> = Vec::new();
    for bucket in &sale.buckets {
        let replay = &bucket.replay;
        if wrong.contains(bucket.row.cell.as_str()) {
            // When money went back nobody knows: perhaps after all that was told.
            changes.extend(
                replay
                    .orders
                    .iter()
                    .filter(|(_, order)| order.paid_at_us.is_some())
                    .map(|(id, order)| (clients.asked_to_pay(*id), count(order.units.len()), 0)),
            );
            changes.extend(replay.stock.iter().map(|(_, units)| (i64::MIN, 0, *units)));
        } else {
            changes.extend(replay.moves.iter().map(|one| (one.at_us, one.paid, 0)));
            changes.extend(replay.stock.iter().map(|(at_us, units)| (*at_us, 0, *units)));
        }
    }
    // What was added counts before what was sold of it at the same moment.
    changes.sort_by_key(|(at_us, paid, stock)| (*at_us, *paid, Reverse(*stock)));
    let (mut paid, mut stock, mut since) = (0, 0, None);
    let mut times = Vec::new();
    for (at_us, more_paid, more_stock) in changes {
        (paid, stock) = (paid + more_paid, stock + more_stock);
        match since {
            None if paid > 0 && paid >= stock => since = Some(at_us),
            Some(from) if paid < stock => {
                times.push((from, at_us));
                since = None;
            }
            _ => {}
        }
    }
    times.extend(since.map(|from| (from, i64::MAX)));
    times
}

/// When clients asked for something and were told of it, by their own clock: unix microseconds.
#[derive(Default)]
struct Clients {
    /// First asked for units.
    reserve: HashMap<BuyerKey, i64>,
    /// First asked to pay.
    checkout: HashMap<OrderId, i64>,
    /// First told of the order, and of its payment.
    held: HashMap<OrderId, i64>,
    paid: HashMap<OrderId, i64>,
}

impl Clients {
    fn of(sale: &SaleCase<'_>) -> Clients {
        let mut clients = Clients::default();
        for told in &sale.told {
            let at_us = signed(told.at_us);
            match &told.said {
                Said::Asked(Ask::Reserve { .. }) => {
                    let buyer = told.buyer.and_then(|buyer| sale.pseudonyms.get(&buyer));
                    if let Some(buyer) = buyer {
                        clients.reserve.entry(*buyer).or_insert(at_us);
                    }
                }
                Said::Asked(Ask::Checkout { order }) => {
                    clients.checkout.entry(*order).or_insert(at_us);
                }
                Said::Order(order) => {
                    clients.held.entry(order.order).or_insert(at_us);
                    if order.state == OrderState::Paid {
                        clients.paid.entry(order.order).or_insert(at_us);
                    }
                }
                _ => {}
            }
        }
        clients
    }

    /// Whether the clock of the bucket's cell may be right.
    fn agree(&self, bucket: &BucketCase<'_>) -> bool {
        bucket.replay.orders.iter().all(|(id, order)| {
            let held_from = self.reserve.get(&order.buyer);
            let paid_from = self.checkout.get(id);
            may_be(order.held_at_us, held_from, self.held.get(id))
                && order.paid_at_us.is_none_or(|at_us| may_be(at_us, paid_from, self.paid.get(id)))
        })
    }

    /// Before that an order was not paid for.
    fn asked_to_pay(&self, order: OrderId) -> i64 {
        self.checkout.get(&order).copied().unwrap_or(i64::MIN)
    }
}

/// Whether something can have been at `at_us` that was asked for and told at these times.
fn may_be(at_us: i64, asked: Option<&i64>, told: Option<&i64>) -> bool {
    let early = asked.is_some_and(|asked| at_us < asked.saturating_sub(CLOCKS_APART_US));
    let late = told.is_some_and(|told| at_us > told.saturating_add(CLOCKS_APART_US));
    !early && !late
}

fn signed(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

fn count(units: usize) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
