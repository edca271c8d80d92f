//! Replays a bucket's ledger from its first row: what every order and unit must look like now.
//!
//! An entry that cannot follow what stands before it is a flaw of the ledger; the replay goes on behind it.

use std::collections::{BTreeMap, HashMap};

use prost::Message;
use proto::invariant::Invariant;
use proto::wire::events::ledger_entry::Kind;
use proto::wire::events::{LedgerBatch, LedgerEntry};

use super::evidence::Bucket;
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
    /// Payment attempts.
    pub(super) attempts: u32,
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

/// What a bucket's ledger says.
#[derive(Clone, Debug, Default)]
pub(super) struct Replay {
    pub(super) orders: BTreeMap<OrderId, ReplayedOrder>,
    /// Units that are not free.
    pub(super) holders: HashMap<u32, OrderId>,
    pub(super) granted: u64,
    pub(super) moves: Vec<Move>,
    pub(super) flaws: Vec<Flaw>,
    /// How many entries of each kind, by the kind's number.
    pub(super) kinds: [u64; 10],
}

impl Replay {
    /// Replays the ledger of a bucket.
    pub(super) fn of(bucket: &Bucket) -> Replay {
        let mut replay = Replay::default();
        for row in &bucket.rows {
            let Ok(batch) = LedgerBatch::decode(row.entries.as_slice()) else {
                replay.flaw(Invariant::Inv8, format!("row {} cannot be read", row.seq));
                continue;
            };
            for entry in &batch.entries {
                replay.apply(row.at_us, bucket.number, entry);
            }
        }
        replay
    }

    fn apply(&mut self, at_us: i64, bucket: u32, entry: &LedgerEntry) {
        let kind = entry.kind();
        self.kinds[kind as usize % 10] += 1;
        if kind == Kind::Granted {
            match entry.units.as_slice() {
                &[first, last] if first <= last => self.granted += u64::from(last - first) + 1,
                _ => self.flaw(Invariant::Inv2, "a grant names no range of units".to_owned()),
            }
            return;
        }
        let Ok(id) = OrderId::try_from(entry.order.as_slice()) else {
            let sentence = format!("an entry of kind {kind:?} names no order");
            return self.flaw(Invariant::Inv6, sentence);
        };
        self.note_move(at_us, bucket, id, entry);
        match kind {
            Kind::Held => self.hold(at_us, id, entry),
            // Money went back for a capture that the order never claimed; the order stays as it was.
            Kind::Refunded => {}
            _ => self.move_on(id, kind, entry),
        }
    }

    fn note_move(&mut self, at_us: i64, bucket: u32, id: OrderId, entry: &LedgerEntry) {
        let units = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let held = self.orders.get(&id).map_or(0, |order| units(order.units.len()));
        let (live, paid) = match entry.kind() {
            Kind::Held => (units(entry.units.len()), 0),
            Kind::Expired | Kind::Cancelled => (-held, 0),
            Kind::Paid => (-held, held),
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
            attempts: 0,
        };
        self.orders.insert(id, order);
    }

    fn move_on(&mut self, id: OrderId, kind: Kind, entry: &LedgerEntry) {
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
mod tests {
    use super::super::evidence::LedgerRow;
    use super::*;

    fn entry(kind: Kind, order: u8, units: &[u32], attempt: u32) -> LedgerEntry {
        LedgerEntry {
            kind: kind.into(),
            order: vec![order; 16],
            buyer: if kind == Kind::Held { vec![order + 100; 16] } else { Vec::new() },
            units: units.to_vec(),
            attempt,
            ..Default::default()
        }
    }

    fn replay(entries: &[LedgerEntry]) -> Replay {
        let rows = (1..).zip(entries).map(|(seq, entry)| LedgerRow {
            seq,
            epoch: 1,
            at_us: seq * 10,
            entries: LedgerBatch { entries: vec![entry.clone()] }.encode_to_vec(),
            root: vec![],
            hash: vec![],
        });
        Replay::of(&Bucket { rows: rows.collect(), ..Bucket::default() })
    }

    #[test]
    fn a_ledger_says_what_became_of_orders_and_units() {
        let replay = replay(&[
            entry(Kind::Granted, 0, &[0, 9], 0),
            entry(Kind::Held, 1, &[1, 0], 0),
            entry(Kind::Held, 2, &[2], 0),
            entry(Kind::Paying, 1, &[], 1),
            entry(Kind::Declined, 1, &[], 1),
            entry(Kind::Cancelled, 2, &[2], 0),
            entry(Kind::Paying, 1, &[], 2),
            entry(Kind::Held, 3, &[2], 0),
            entry(Kind::Paid, 1, &[], 2),
            entry(Kind::Refunded, 2, &[], 0),
            entry(Kind::Expired, 3, &[2], 0),
        ]);
        assert!(replay.flaws.is_empty(), "{:?}", replay.flaws);
        assert_eq!(replay.granted, 10);
        let states: Vec<_> = replay.orders.values().map(|order| order.state).collect();
        assert_eq!(states, [OrderState::Paid, OrderState::Cancelled, OrderState::Expired]);
        let paid = &replay.orders[&OrderId([1; 16])];
        assert_eq!((paid.units.as_slice(), paid.attempts, paid.held_at_us), (&[0, 1][..], 2, 20));
        let mut held: Vec<_> = replay.holders.keys().copied().collect();
        held.sort_unstable();
        assert_eq!(held, [0, 1]);
    }

    #[test]
    fn impossible_entries_are_flaws() {
        let held = || entry(Kind::Held, 1, &[0], 0);
        let rows: [(&[LedgerEntry], Invariant, &str); 8] = [
            (&[held(), entry(Kind::Held, 2, &[0], 0)], Invariant::Inv1, "while order"),
            (&[held(), held()], Invariant::Inv6, "a second time"),
            (&[entry(Kind::Paid, 1, &[], 1)], Invariant::Inv6, "without having been held"),
            (&[held(), entry(Kind::Paid, 1, &[], 1)], Invariant::Inv6, "while it is Held"),
            (&[held(), entry(Kind::Paying, 1, &[], 2)], Invariant::Inv6, "attempt 2"),
            (&[held(), entry(Kind::Expired, 1, &[1], 0)], Invariant::Inv2, "gives back"),
            (&[entry(Kind::Granted, 1, &[4], 0)], Invariant::Inv2, "no range"),
            (&[LedgerEntry::default()], Invariant::Inv6, "names no order"),
        ];
        for (entries, invariant, words) in rows {
            let flaws = replay(entries).flaws;
            let [flaw] = flaws.as_slice() else { panic!("{words}: {flaws:?}") };
            assert_eq!(flaw.invariant, invariant, "{words}");
            assert!(flaw.sentence.contains(words), "{}", flaw.sentence);
        }
    }
}
