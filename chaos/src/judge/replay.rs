//! Replays a bucket's ledger from its first row: what every order and unit must look like now.
//!
//! An entry that cannot follow what stands before it is a flaw of the ledger; the replay goes on behind it.

use std::collections::{BTreeMap, HashMap};

use prost::Message;
use proto::invariant::Invariant;
use proto::wire::events::ledger_entry::Kind;
use proto::wire::events::{LedgerBatch, LedgerEntry};

use super::evidence::Bucket;
use super::indices::Indices;
use super::ranges::Ranges;
use crate::id::{BuyerKey, OrderId};
use crate::told::OrderState;

/// What the ledger says became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReplayedOrder {
    pub(super) state: OrderState,
    pub(super) buyer: BuyerKey,
    /// Units that it was given, sorted.
    pub(super) units: Vec<u32>,
    pub(super) ticket: u64,
    pub(super) amount_minor: i64,
    pub(super) held_at_us: i64,
    pub(super) paid_at_us: Option<i64>,
    /// Payment attempts.
    pub(super) attempts: u32,
    /// The payment by which it was paid.
    pub(super) paid_by: Option<String>,
    /// Whether a refund of it was asked for.
    pub(super) refunding: bool,
    /// Whether its units are still its own, although the money went back.
    pub(super) keeps_units: bool,
}

/// One bucket's part of a transfer.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) transfer: [u8; 16],
    /// Otherwise the units were given up.
    pub(super) accepted: bool,
    /// The bucket at the other end; none where that is the merchant.
    pub(super) peer: Option<u32>,
    pub(super) units: Ranges,
}

/// Something that cannot be true of a ledger.
#[derive(Clone, Debug)]
pub(super) struct Flaw {
    pub(super) invariant: Invariant,
    pub(super) sentence: String,
}

/// How live and paid units changed at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Unix microseconds by the cell's Postgres.
    pub at_us: i64,
    /// Units that became live, or ceased to be.
    pub live: i64,
    /// Units that were paid.
    pub paid: i64,
    /// Whether it was a hold: something was granted then.
    pub is_hold: bool,
    /// The bucket's number.
    pub bucket: u32,
}

/// Kinds of entries, with the one that is never written.
const KINDS: usize = 14;

/// What a bucket's ledger says.
#[derive(Clone, Debug, Default)]
pub(super) struct Replay {
    pub(super) orders: BTreeMap<OrderId, ReplayedOrder>,
    /// Units that are not free.
    pub(super) holders: HashMap<u32, OrderId>,
    /// Units that the bucket may sell.
    pub(super) shares: Ranges,
    /// Its parts of transfers.
    pub(super) parts: Vec<Part>,
    /// When the sale got more units in this bucket, or fewer, and how many: those of other buckets do not count.
    pub(super) stock: Vec<(i64, i64)>,
    /// What stands where in Redis, if it was loaded by the newest keeper.
    pub(super) indices: Indices,
    pub(super) moves: Vec<Move>,
    pub(super) flaws: Vec<Flaw>,
    /// How many entries of each kind, by the kind's number.
    pub(super) kinds: [u64; KINDS],
}

impl Replay {
    /// Replays the ledger of a bucket.
    pub(super) fn of(bucket: &Bucket) -> Replay {
        let mut replay = Replay::default();
        let mut loaded = false;
        for row in &bucket.rows {
            // Before its first transaction the newest keeper has loaded what there was.
            if row.epoch >= bucket.epoch && !loaded {
                (replay.indices, loaded) = (Indices::new(&replay.shares), true);
            }
            let Ok(batch) = LedgerBatch::decode(row.entries.as_slice()) else {
                replay.flaw(Invariant::Inv8, format!("row {} cannot be read", row.seq));
                continue;
            };
            for entry in &batch.entries {
                replay.apply(row.at_us, bucket.number, entry);
            }
        }
        if !loaded {
            replay.indices = Indices::new(&replay.shares);
        }
        replay
    }

    fn apply(&mut self, at_us: i64, bucket: u32, entry: &LedgerEntry) {
        let kind = entry.kind();
        self.kinds[kind as usize % KINDS] += 1;
        if matches!(kind, Kind::Granted | Kind::GivenUp | Kind::Accepted) {
            return self.move_units(at_us, kind, entry);
        }
        let Ok(id) = OrderId::try_from(entry.order.as_slice()) else {
            let sentence = format!("an entry of kind {kind:?} names no order");
            return self.flaw(Invariant::Inv6, sentence);
        };
        self.note_move(at_us, bucket, id, entry);
        match kind {
            Kind::Held => self.hold(at_us, id, entry),
            Kind::Refunding => self.refunding(id),
            Kind::RefundRefused => self.refund_refused(id, entry),
            Kind::Refunded => self.refund(id, entry),
            _ => self.move_on(at_us, id, kind, entry),
        }
    }

    fn note_move(&mut self, at_us: i64, bucket: u32, id: OrderId, entry: &LedgerEntry) {
        let units = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let held = self.orders.get(&id).map_or(0, |order| units(order.units.len()));
        let (live, paid) = match entry.kind() {
            Kind::Held => (units(entry.units.len()), 0),
            Kind::Expired | Kind::Cancelled => (-held, 0),
            Kind::Paid => (-held, held),
            Kind::Refunded if self.pays(id, entry) => (0, -units(entry.units.len())),
            _ => return,
        };
        let is_hold = entry.kind() == Kind::Held;
        self.moves.push(Move { at_us, live, paid, is_hold, bucket });
    }

    fn hold(&mut self, at_us: i64, id: OrderId, entry: &LedgerEntry) {
        if self.orders.contains_key(&id) {
            return self.flaw(Invariant::Inv6, format!("order {id} is held a second time"));
        }
        let Ok(buyer) = BuyerKey::try_from(entry.buyer.as_slice()) else {
            return self.flaw(Invariant::Inv6, format!("the hold of order {id} names no buyer"));
        };
        for unit in &entry.units {
            if !self.shares.has(*unit) {
                let sentence =
                    format!("order {id} holds unit {unit}, which the bucket does not have");
                self.flaw(Invariant::Inv2, sentence);
            }
            if let Some(other) = self.holders.insert(*unit, id) {
                let sentence =
                    format!("unit {unit} is held by order {id} while order {other} has it");
                self.flaw(Invariant::Inv1, sentence);
            }
        }
        let mut units = entry.units.clone();
        units.sort_unstable();
        let order = ReplayedOrder {
            state: OrderState::Held,
            buyer,
            units,
            ticket: entry.ticket,
            amount_minor: entry.amount_minor,
            held_at_us: at_us,
            paid_at_us: None,
            attempts: 0,
            paid_by: None,
            refunding: false,
            keeps_units: false,
        };
        self.orders.insert(id, order);
    }

    fn move_on(&mut self, at_us: i64, id: OrderId, kind: Kind, entry: &LedgerEntry) {
        use OrderState::{Cancelled, Expired, Held, Paid, Paying, Review};
        let Some(order) = self.orders.get_mut(&id) else {
            let sentence = format!("order {id} is {kind:?} without having been held");
            return self.flaw(Invariant::Inv6, sentence);
        };
        let next = match (kind, order.state) {
            (Kind::Expired, Held | Paying | Review) => Expired,
            (Kind::Cancelled, Held) => Cancelled,
            (Kind::Paying, Held) => Paying,
            (Kind::Declined, Paying) => Held,
            (Kind::Paid, Paying | Review) => Paid,
            (Kind::Review, Paying) => Review,
            (_, state) => {
                let sentence = format!("order {id} is {kind:?} while it is {state:?}");
                return self.flaw(Invariant::Inv6, sentence);
            }
        };
        order.state = next;
        if kind == Kind::Paid {
            order.paid_by = Some(entry.intent.clone());
            order.paid_at_us = Some(at_us);
        }
        if kind == Kind::Paying {
            order.attempts += 1;
            if entry.attempt != order.attempts {
                let sentence = format!(
                    "attempt {} of order {id} follows {}",
                    entry.attempt,
                    order.attempts - 1
                );
                self.flaw(Invariant::Inv6, sentence);
            }
        }
        if matches!(next, Expired | Cancelled) {
            self.give_back(id, entry);
        }
    }

    /// Whether the entry is about the payment by which the order was paid: the capture of any other is nobody's.
    fn pays(&self, id: OrderId, entry: &LedgerEntry) -> bool {
        let paid_by = self.orders.get(&id).and_then(|order| order.paid_by.as_ref());
        paid_by.is_some_and(|intent| *intent == entry.intent)
    }

    fn refunding(&mut self, id: OrderId) {
        match self.orders.get_mut(&id) {
            Some(order) if order.state == OrderState::Paid => order.refunding = true,
            _ => {
                self.flaw(Invariant::Inv6, format!("order {id} is to be refunded and is not paid"))
            }
        }
    }

    /// The provider keeps the money: the order is what it was before somebody asked.
    fn refund_refused(&mut self, id: OrderId, entry: &LedgerEntry) {
        let pays = self.pays(id, entry);
        let asked = match self.orders.get_mut(&id) {
            Some(order) if pays => std::mem::replace(&mut order.refunding, false),
            _ => false,
        };
        if !asked {
            let sentence = format!("a refund of order {id} is refused and nobody asked for it");
            self.flaw(Invariant::Inv6, sentence);
        }
    }

    /// Money went back. If the order was paid with it, that is its end; otherwise it stays as it was.
    fn refund(&mut self, id: OrderId, entry: &LedgerEntry) {
        if !self.pays(id, entry) {
            return;
        }
        let Some(order) = self.orders.get_mut(&id) else { return };
        if order.state == OrderState::Refunded {
            return self.flaw(Invariant::Inv5, format!("order {id} is refunded a second time"));
        }
        let asked = std::mem::replace(&mut order.refunding, false);
        order.state = OrderState::Refunded;
        order.keeps_units = entry.units.is_empty();
        if !asked {
            self.flaw(Invariant::Inv6, format!("order {id} is refunded and nobody asked for it"));
        }
        if !entry.units.is_empty() {
            self.give_back(id, entry);
        }
    }

    /// The bucket gets units, or gives some up.
    fn move_units(&mut self, at_us: i64, kind: Kind, entry: &LedgerEntry) {
        let Some(units) = Ranges::of_pairs(&entry.units) else {
            let sentence = format!("an entry of kind {kind:?} names no ranges of units");
            return self.flaw(Invariant::Inv2, sentence);
        };
        let count = i64::try_from(units.count()).unwrap_or(i64::MAX);
        if kind == Kind::GivenUp {
            self.no_order_has(&units);
            if !self.shares.take_all(&units) {
                let sentence = "it gives units up that it does not have".to_owned();
                self.flaw(Invariant::Inv2, sentence);
            }
        } else if !self.shares.add_all(&units) {
            self.flaw(Invariant::Inv2, "it gets units that it has already".to_owned());
        }
        if kind == Kind::Granted {
            return self.stock.push((at_us, count));
        }
        let accepted = kind == Kind::Accepted;
        if accepted {
            self.indices.append(&units);
        }
        if entry.peer.is_none() {
            self.stock.push((at_us, if accepted { count } else { -count }));
        }
        match <[u8; 16]>::try_from(entry.transfer.as_slice()) {
            Ok(transfer) => self.parts.push(Part { transfer, accepted, peer: entry.peer, units }),
            Err(_) => {
                self.flaw(Invariant::Inv2, format!("an entry of kind {kind:?} names no transfer"))
            }
        }
    }

    fn no_order_has(&mut self, units: &Ranges) {
        let mut taken: Vec<(u32, OrderId)> = self
            .holders
            .iter()
            .filter(|(unit, _)| units.has(**unit))
            .map(|(unit, id)| (*unit, *id))
            .collect();
        taken.sort_unstable();
        for (unit, order) in taken {
            self.flaw(Invariant::Inv2, format!("it gives unit {unit} up, which order {order} has"));
        }
    }

    /// The very units that were held are free again, no others.
    fn give_back(&mut self, id: OrderId, entry: &LedgerEntry) {
        let mut units = entry.units.clone();
        units.sort_unstable();
        let held = self.orders.get(&id).map_or(&[][..], |order| &order.units);
        if units != held {
            let sentence = format!("order {id} gives back the units {units:?}, it held {held:?}");
            self.flaw(Invariant::Inv2, sentence);
        }
        for unit in units {
            if self.holders.get(&unit) == Some(&id) {
                self.holders.remove(&unit);
            }
        }
    }

    fn flaw(&mut self, invariant: Invariant, sentence: String) {
        self.flaws.push(Flaw { invariant, sentence });
    }
}

#[cfg(test)]
mod tests;
