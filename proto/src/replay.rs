//! What a bucket's ledger says of its orders and units, entry by entry from the first one.
//!
//! An entry that cannot follow what stands before it is a flaw, and the replay goes on behind it as well as it can. It
//! remembers what is not free: its memory is in proportion to the units of live and paid orders (about 200 bytes each, and
//! fixed 10 kB). Of orders that ended it keeps a count and a sum of hashes, 256 of each by the first byte of their ids,
//! which is enough to compare them with a table.

mod order;
mod ranges;

pub use order::{Ended, ReplayedOrder, intent_mark};
pub use ranges::{Ranges, pairs};

use crate::id::OrderId;
use crate::invariant::Invariant;
use crate::wire::events::{LedgerEntry, ledger_entry::Kind};
use crate::wire::storefront::order::State;
use order::next_state;
use std::collections::BTreeMap;

/// Parts over which ended orders are counted.
const PARTS: usize = 256;

/// Something that cannot be true of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Which promise it breaks.
    pub invariant: Invariant,
    /// What is wrong.
    pub sentence: String,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Replay {
    orders: BTreeMap<OrderId, ReplayedOrder>,
    units: BTreeMap<u32, OrderId>,
    granted: Ranges,
    /// What becomes of one order is asked, not of a bucket: its units are nobody else's business.
    one_order: bool,
    live: u64,
    paid: u64,
    ended: Vec<Ended>,
    last_end: Option<State>,
    flaws: Vec<Flaw>,
}

impl Default for Replay {
    fn default() -> Replay {
        Replay {
            orders: BTreeMap::new(),
            units: BTreeMap::new(),
            granted: Ranges::default(),
            one_order: false,
            live: 0,
            paid: 0,
            ended: vec![Ended::default(); PARTS],
            last_end: None,
            flaws: Vec::new(),
        }
    }
}

impl Replay {
    /// A replay of the entries of a single order.
    pub(crate) fn of_one_order() -> Replay {
        Replay { one_order: true, ..Replay::default() }
    }

    /// An order that has units.
    pub fn order(&self, id: &OrderId) -> Option<&ReplayedOrder> {
        self.orders.get(id)
    }

    /// The orders that have units and whose ids begin with `part`.
    pub fn orders_in(&self, part: u8) -> impl Iterator<Item = (&OrderId, &ReplayedOrder)> {
        let (mut first, mut last) = ([0; 16], [255; 16]);
        (first[0], last[0]) = (part, part);
        self.orders.range(OrderId(first)..=OrderId(last))
    }

    /// How many orders there have been.
    pub fn order_count(&self) -> u64 {
        self.orders.len() as u64 + self.ended.iter().map(|ended| ended.count).sum::<u64>()
    }

    /// The orders that ended and whose ids begin with `part`.
    pub fn ended_in(&self, part: u8) -> Ended {
        self.ended[usize::from(part)]
    }

    /// Who has each unit that is not free, by unit.
    pub fn units(&self) -> &BTreeMap<u32, OrderId> {
        &self.units
    }

    /// The units that the bucket may sell.
    pub fn granted(&self) -> &Ranges {
        &self.granted
    }

    /// Units of live orders.
    pub fn live(&self) -> u64 {
        self.live
    }

    /// Units of orders that are paid, or were refunded without giving them back.
    pub fn paid(&self) -> u64 {
        self.paid
    }

    /// How the order ended that ended last.
    pub(crate) fn last_end(&self) -> Option<State> {
        self.last_end
    }

    /// What was found wrong since this was asked last.
    pub fn take_flaws(&mut self) -> Vec<Flaw> {
        std::mem::take(&mut self.flaws)
    }

    /// Goes on by one entry.
    pub fn apply(&mut self, entry: &LedgerEntry) {
        let kind = entry.kind();
        match kind {
            Kind::Granted | Kind::Accepted => return self.take_in(entry),
            Kind::GivenUp => return self.give_up(entry),
            _ => {}
        }
        let Ok(id) = OrderId::try_from(&entry.order[..]) else {
            return self.flaw(Invariant::Inv6, format!("an entry {kind:?} names no order"));
        };
        match kind {
            Kind::Held => self.hold(id, entry),
            Kind::Refunded => self.refund(id, entry),
            _ => self.move_on(id, kind, entry),
        }
    }

    fn take_in(&mut self, entry: &LedgerEntry) {
        let Some(ranges) = pairs(&entry.units) else {
            return self
                .flaw(Invariant::Inv2, format!("{:?} names no range of units", entry.kind()));
        };
        for (first, last) in ranges {
            if !self.granted.add(first, last) {
                let sentence = format!("units {first} to {last} are granted a second time");
                self.flaw(Invariant::Inv2, sentence);
            }
        }
    }

    fn give_up(&mut self, entry: &LedgerEntry) {
        let Some(ranges) = pairs(&entry.units) else {
            return self.flaw(Invariant::Inv2, "GivenUp names no range of units".into());
        };
        for (first, last) in ranges {
            if let Some((unit, order)) = self.units.range(first..=last).next() {
                let sentence = format!("unit {unit} is given up while order {order} has it");
                self.flaw(Invariant::Inv2, sentence);
            }
            if !self.granted.take(first, last) {
                let sentence = format!("units {first} to {last} are given up and were not granted");
                self.flaw(Invariant::Inv2, sentence);
            }
        }
    }

    fn hold(&mut self, id: OrderId, entry: &LedgerEntry) {
        if self.orders.contains_key(&id) || self.one_order && self.last_end.is_some() {
            return self.flaw(Invariant::Inv6, format!("order {id} is held a second time"));
        }
        let Some(order) = ReplayedOrder::held(entry) else {
            return self.flaw(
                Invariant::Inv6,
                format!("the hold of order {id} names no buyer or no unit"),
            );
        };
        for &unit in &order.units {
            if !self.one_order && !self.granted.contains(unit) {
                self.flaw(Invariant::Inv2, format!("unit {unit} of order {id} was not granted"));
            }
            if let Some(other) = self.units.insert(unit, id) {
                let sentence =
                    format!("unit {unit} is held by order {id} while order {other} has it");
                self.flaw(Invariant::Inv1, sentence);
            }
        }
        self.live += order.quantity();
        self.orders.insert(id, order);
    }

    fn move_on(&mut self, id: OrderId, kind: Kind, entry: &LedgerEntry) {
        let Some(order) = self.orders.get_mut(&id) else {
            return self.flaw(Invariant::Inv6, format!("order {id} is {kind:?} and is not known"));
        };
        let Some(next) = next_state(kind, order.state) else {
            let sentence = format!("order {id} is {kind:?} while it is {:?}", order.state);
            return self.flaw(Invariant::Inv6, sentence);
        };
        let attempt = order.attempt + u32::from(kind == Kind::Paying);
        // A hold that merely runs out is about no attempt.
        if entry.attempt != attempt && (kind == Kind::Paying || entry.attempt != 0) {
            let sentence = format!(
                "order {id} is {kind:?} by attempt {} after {}",
                entry.attempt, order.attempt
            );
            self.flaws.push(Flaw { invariant: Invariant::Inv6, sentence });
        }
        order.state = next;
        if kind == Kind::Paying {
            (order.attempt, order.intent) = (entry.attempt, intent_mark(&entry.intent));
        }
        let quantity = order.quantity();
        match next {
            State::Paid if kind == Kind::Paid => {
                self.live -= quantity.min(self.live);
                self.paid += quantity;
            }
            State::Expired | State::Cancelled => {
                self.live -= quantity.min(self.live);
                self.end(id, &entry.units);
            }
            _ => {}
        }
    }

    /// A refund of the capture that the order is paid by ends it; of any other capture it says nothing of the order.
    fn refund(&mut self, id: OrderId, entry: &LedgerEntry) {
        let mark = intent_mark(&entry.intent);
        let Some(order) = self.orders.get_mut(&id) else { return };
        if order.state != State::Paid || order.intent != mark {
            return;
        }
        order.state = State::Refunded;
        if entry.units.is_empty() {
            return;
        }
        self.paid -= order.quantity().min(self.paid);
        self.end(id, &entry.units);
    }

    /// An order ended, and the very units that it had are free again.
    fn end(&mut self, id: OrderId, freed: &[u32]) {
        let Some(order) = self.orders.remove(&id) else { return };
        let mut freed = freed.to_vec();
        freed.sort_unstable();
        if freed[..] != *order.units {
            let sentence =
                format!("order {id} gives back units {freed:?} and had {:?}", order.units);
            self.flaw(Invariant::Inv2, sentence);
        }
        for unit in &order.units {
            if self.units.get(unit) == Some(&id) {
                self.units.remove(unit);
            }
        }
        self.last_end = Some(order.state);
        self.ended[usize::from(id.0[0])].add(order.digest(id));
    }

    fn flaw(&mut self, invariant: Invariant, sentence: String) {
        self.flaws.push(Flaw { invariant, sentence });
    }
}

#[cfg(test)]
#[path = "replay/tests.rs"]
mod tests;
