//! A keeper's book: what it has committed and therefore knows. It is read anew with every take-over, and only this
//! keeper's commits change it, so it is never ahead of the ledger.

use super::SaleTerms;
use super::due::Due;
use super::protocol::Memory;
use super::shares::Shares;
use crate::admission::{Gate, Step};
use crate::ledger::{Loaded, Share};
use proto::fault::Fault;
use proto::id::{BuyerKey, OrderId};
use proto::wire::cell::{BucketState, Order};
use proto::wire::storefront::order::State;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// How an attempt to pay ended: the order's state then, or why it was refused.
pub(crate) type AttemptEnd = Result<Order, Fault>;

/// A payment attempt that somebody in this process is working on.
pub(crate) type Attempt = watch::Receiver<Option<AttemptEnd>>;

/// An order that is HELD, PAYING or in REVIEW.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) buyer: BuyerKey,
    pub(crate) units: Vec<u32>,
    pub(crate) state: State,
    pub(crate) ticket: u64,
    pub(crate) deadline_us: i64,
    pub(crate) amount_minor: i64,
    /// Attempts to pay so far.
    pub(crate) attempts: u32,
    /// The provider's id of the payment, once there is one.
    pub(crate) intent: Option<String>,
    /// The attempt under way here.
    pub(crate) attempt: Option<Attempt>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) terms: SaleTerms,
    /// False until everything was read.
    pub(crate) open: bool,
    pub(crate) epoch: i64,
    pub(crate) gate: Gate,
    /// Ranks given out.
    pub(crate) joined: u64,
    /// No rank from here on was given out: more may have been asked for than was heard of.
    asked: u64,
    pub(crate) granted: u32,
    pub(crate) paid: u32,
    live: u32,
    /// Free units that were taken out of Redis to be given up.
    leaving: u32,
    shares: Shares,
    orders: HashMap<OrderId, Live>,
    due: Due,
    /// Paid orders whose refunds are under way here.
    pub(crate) refunds: HashSet<OrderId>,
    version: u64,
    told: BucketState,
    freed: Arc<Notify>,
}

impl Book {
    /// The book of a bucket that is not kept yet.
    pub(crate) fn closed(terms: SaleTerms) -> Book {
        Book {
            terms,
            open: false,
            epoch: 0,
            gate: Gate::default(),
            joined: 0,
            asked: 0,
            granted: 0,
            paid: 0,
            live: 0,
            leaving: 0,
            shares: Shares::default(),
            orders: HashMap::new(),
            due: Due::default(),
            refunds: HashSet::new(),
            version: 0,
            told: BucketState::default(),
            freed: Arc::default(),
        }
    }

    /// Begins anew with what was loaded; for the ranks `ghosts` nobody waits.
    pub(crate) fn load(&mut self, loaded: &Loaded, ghosts: Range<u64>) {
        let start_us = self.terms.record.start_ms.cast_signed() * 1_000;
        let step = Step {
            tail: loaded.tail,
            cursor: loaded.cursor,
            used_us: loaded.gate_us.max(start_us),
        };
        let joined = loaded.given.unwrap_or(loaded.ranks);
        let spent: Vec<u64> = loaded.spent.iter().map(|ticket| ticket.rank).collect();
        self.gate = if self.terms.is_standard() {
            Gate::always_open(step)
        } else {
            Gate::new(step, &spent, ghosts)
        };
        self.epoch = loaded.epoch;
        (self.joined, self.asked) = (joined, joined);
        self.granted = loaded.granted;
        self.shares = Shares::new(&loaded.shares);
        (self.live, self.paid, self.leaving) = (0, 0, 0);
        self.orders.clear();
        self.due.clear();
        for holder in &loaded.holders {
            let quantity = u32::try_from(holder.units.len()).unwrap_or(u32::MAX);
            let state = State::try_from(holder.state).unwrap_or_default();
            if state == State::Paid {
                self.paid += quantity;
                continue;
            }
            let live = Live {
                buyer: holder.buyer,
                units: holder.units.clone(),
                state,
                ticket: holder.ticket,
                deadline_us: holder.deadline_us,
                amount_minor: holder.amount_minor,
                attempts: holder.attempt,
                intent: holder.intent.clone(),
                attempt: None,
            };
            self.hold(holder.order, live);
        }
        self.open = true;
    }

    /// A batch of joins is asked for ranks: nobody knows how many it takes until it is answered.
    pub(crate) fn ask_ranks(&mut self, joiners: usize) {
        self.asked = self.joined + joiners as u64;
    }

    /// Ranks below `end` were given out, as Redis has answered.
    pub(crate) fn give_ranks(&mut self, end: u64) {
        self.joined = self.joined.max(end);
        self.asked = self.joined;
    }

    /// What is remembered of the line. None before the first take-over.
    pub(super) fn memory(&self) -> Option<Memory> {
        let (epoch, answered) = (self.epoch, self.joined);
        (epoch > 0).then_some(Memory { epoch, answered, asked: self.asked.max(answered) })
    }

    /// Whether somebody here is about to pay, or waits for a payment's outcome.
    pub(super) fn is_paying(&self) -> bool {
        self.orders.values().any(|live| live.attempt.is_some())
    }

    /// Units that no order has.
    pub(crate) fn free(&self) -> u32 {
        self.granted.saturating_sub(self.live + self.paid)
    }

    /// Units that somebody who is admitted now could get.
    pub(crate) fn obtainable(&self) -> u32 {
        self.free().saturating_sub(self.leaving)
    }

    /// Told when there is something to be had after there was nothing: then nobody should wait for the next tick.
    pub(crate) fn freed(&self) -> Arc<Notify> {
        Arc::clone(&self.freed)
    }

    /// Something changed; `before` it, so much was obtainable.
    fn note_free(&self, before: u32) {
        if before == 0 && self.obtainable() > 0 {
            self.freed.notify_one();
        }
    }

    /// Units held, being paid, or in review.
    pub(crate) fn live(&self) -> u32 {
        self.live
    }

    /// So many free units are about to be given up.
    pub(crate) fn leave(&mut self, units: u32) {
        let before = self.obtainable();
        self.leaving = units;
        self.note_free(before);
    }

    /// What was leaving was given up.
    pub(crate) fn give_up(&mut self, units: &[Share]) {
        let count: u32 = units.iter().map(|share| share.units).sum();
        self.leaving = 0;
        self.granted -= count.min(self.granted);
        self.shares.remove(units);
    }

    /// Where the local indices end.
    pub(crate) fn indices_end(&self) -> u32 {
        self.shares.end()
    }

    /// Units were accepted, of which Redis does not know yet. Returns where the local indices ended before them.
    pub(crate) fn append(&mut self, units: &[Share]) -> u32 {
        let end = self.shares.end();
        self.shares.append(units);
        end
    }

    /// Accepted units may be granted.
    pub(crate) fn accept(&mut self, units: u32) {
        let before = self.obtainable();
        self.granted += units;
        self.note_free(before);
    }

    /// Whether no order is live.
    pub(crate) fn is_quiet(&self) -> bool {
        self.orders.is_empty()
    }

    /// The unit numbers of local indices. None when one of them is not ours.
    pub(crate) fn units(&self, indices: &[u32]) -> Option<Vec<u32>> {
        indices.iter().map(|&index| self.shares.unit(index)).collect()
    }

    /// The local indices of unit numbers.
    pub(crate) fn indices(&self, units: &[u32]) -> Vec<u32> {
        units.iter().filter_map(|&unit| self.shares.index(unit)).collect()
    }

    /// A live order.
    pub(crate) fn order(&self, order: OrderId) -> Option<&Live> {
        self.orders.get(&order)
    }

    /// A live order, to change what is not about stock.
    pub(crate) fn order_mut(&mut self, order: OrderId) -> Option<&mut Live> {
        self.orders.get_mut(&order)
    }

    /// Live orders in `state`.
    pub(crate) fn in_state(&self, state: State) -> Vec<OrderId> {
        self.orders
            .iter()
            .filter(|(_, live)| live.state == state)
            .map(|(order, _)| *order)
            .collect()
    }

    /// A hold was committed.
    pub(crate) fn hold(&mut self, order: OrderId, live: Live) {
        self.live += u32::try_from(live.units.len()).unwrap_or(u32::MAX);
        self.gate.spend(live.ticket);
        self.orders.insert(order, live);
        self.set_due(order);
    }

    /// A live order has come into another state and is still live.
    pub(crate) fn turn(&mut self, order: OrderId, state: State) {
        if let Some(live) = self.orders.get_mut(&order) {
            live.state = state;
        }
        self.set_due(order);
    }

    /// Somebody begins to pay a live order, or to end it: the sweep leaves it alone.
    pub(crate) fn begin_attempt(&mut self, order: OrderId, attempt: Attempt) {
        if let Some(live) = self.orders.get_mut(&order) {
            live.attempt = Some(attempt);
        }
        self.set_due(order);
    }

    /// Nobody is at it any more.
    pub(crate) fn end_attempt(&mut self, order: OrderId) {
        if let Some(live) = self.orders.get_mut(&order) {
            live.attempt = None;
        }
        self.set_due(order);
    }

    /// The sweep leaves an order alone until `from_us`, or until something becomes of it.
    pub(crate) fn postpone(&mut self, order: OrderId, from_us: i64) {
        if self.orders.contains_key(&order) {
            self.due.put(order, from_us);
        }
    }

    /// An order is the sweep's while it is HELD and nobody is at it.
    fn set_due(&mut self, order: OrderId) {
        match self.orders.get(&order) {
            Some(live) if live.state == State::Held && live.attempt.is_none() => {
                self.due.put(order, live.deadline_us);
            }
            _ => self.due.remove(order),
        }
    }

    /// A live order ended: paid, or its units are free.
    pub(crate) fn end(&mut self, order: OrderId, state: State) -> Option<Live> {
        let before = self.obtainable();
        let live = self.orders.remove(&order)?;
        self.due.remove(order);
        let quantity = u32::try_from(live.units.len()).unwrap_or(u32::MAX);
        self.live -= quantity.min(self.live);
        if state == State::Paid {
            self.paid += quantity;
        }
        self.note_free(before);
        Some(live)
    }

    /// A paid order was refunded: its units are free.
    pub(crate) fn refund(&mut self, units: &[u32]) {
        let before = self.obtainable();
        let quantity = u32::try_from(units.len()).unwrap_or(u32::MAX);
        self.paid -= quantity.min(self.paid);
        self.note_free(before);
    }

    /// Orders that the sweep may end when it is `until_us`, the longest overdue first.
    pub(crate) fn due(&self, until_us: i64, most: usize) -> Vec<OrderId> {
        self.due.at(until_us, most)
    }

    /// From when on the first order is due.
    pub(crate) fn first_due(&self) -> Option<i64> {
        self.due.first()
    }

    /// An order as its buyer is told.
    pub(crate) fn show(&self, order: OrderId, live: &Live, now_us: i64) -> Order {
        let left_us = (live.deadline_us - now_us).max(0);
        Order {
            order: order.0.to_vec().into(),
            state: live.state.into(),
            units: live.units.clone(),
            amount_minor: live.amount_minor,
            currency: self.terms.record.currency.clone(),
            time_left_ms: u32::try_from(left_us / 1_000).unwrap_or(u32::MAX),
        }
    }

    /// What routers are told, with a new version when it differs from what they were told last.
    pub(crate) fn tell(
        &mut self,
        number: u32,
        now_us: i64,
        admitted_milli_per_s: u32,
    ) -> BucketState {
        let state = BucketState {
            sale: self.terms.record.sale.clone(),
            bucket: number,
            epoch: self.epoch.cast_unsigned(),
            version: self.version,
            phase: self.terms.phase(now_us).into(),
            tail: self.gate.tail(),
            cursor: self.gate.cursor(),
            joined: self.joined,
            granted: self.granted,
            free: self.free(),
            live: self.live,
            paid: self.paid,
            admitted_milli_per_s,
        };
        if state != self.told {
            self.version += 1;
            self.told = BucketState { version: self.version, ..state };
        }
        self.told.clone()
    }
}

#[cfg(test)]
mod tests;
