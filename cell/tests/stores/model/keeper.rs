//! The keeper of one of the buckets, whom the test plays: joins and holds.

use std::collections::BTreeMap;

use floodgate_cell::inventory::{Grant, HoldTry, InventoryError, Joined, Settled, What};
use floodgate_cell::ledger::{self, GateRow, Hold, Move, Refund};
use proto::wire::storefront::order::State;

use super::plain::Model;
use super::transfers::{Accepted, Given, Moved};
use super::{Act, CAP, End, Try};
use crate::stores::{Bucket, InRedis, Stores, buyer, order};

/// Ranks that are committed at a time.
const BLOCK: u64 = 8;

/// A batch with its answer, to be sent again.
#[derive(Default)]
pub(super) struct Last {
    pub(super) tries: Vec<HoldTry>,
    pub(super) grants: Vec<Grant>,
    pub(super) held: Vec<Hold>,
    pub(super) held_at_us: i64,
    pub(super) moves: Vec<Move>,
    pub(super) moved_at_us: i64,
    pub(super) followed: Vec<Settled>,
    pub(super) freed: u32,
    pub(super) joiners: Vec<u32>,
    pub(super) joined: Vec<Joined>,
    pub(super) moved: Option<Moved>,
    pub(super) refund: Option<Refund>,
    pub(super) given: Option<Given>,
    pub(super) accepted: Option<Accepted>,
}

/// Batches that Redis has seen under this epoch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Batches {
    pub(super) holds: i64,
    pub(super) settles: i64,
    pub(super) joins: i64,
    pub(super) moves: i64,
}

pub(super) struct Keeper<'a> {
    pub(super) stores: &'a Stores,
    pub(super) bucket: Bucket,
    pub(super) at: InRedis,
    pub(super) model: Model,
    pub(super) batches: Batches,
    /// The number of its last order; those of the buckets lie apart.
    pub(super) orders: u32,
    requests: BTreeMap<u32, u32>,
    pub(super) last: Last,
}

impl Keeper<'_> {
    /// Of a bucket with these units, which is loaded for the first time.
    pub(super) async fn begin(stores: &Stores, bucket: Bucket, units: Vec<u32>) -> Keeper<'_> {
        let orders = 1_000 * bucket.bucket.bucket.cast_unsigned();
        let model = Model { numbers: units, ..Model::default() };
        let (at, _) = super::reign::load(stores, &bucket).await;
        Keeper {
            stores,
            bucket,
            at,
            model,
            batches: Batches::default(),
            orders,
            requests: BTreeMap::new(),
            last: Last::default(),
        }
    }

    /// Does what concerns this bucket alone.
    pub(super) async fn act(&mut self, act: &Act) {
        match act {
            Act::Join(joiners) => self.join(joiners).await,
            Act::Hold(tries, end) => self.hold(tries, *end).await,
            Act::Settle { orders, follow, twice } => self.settle(orders, *follow, *twice).await,
            Act::Again => self.again().await,
            Act::Stale => self.stale().await,
            Act::TakeOver { twice } => self.take_over_after_another(*twice).await,
            Act::Give { .. } | Act::Add { .. } => {}
        }
    }

    /// Buyer `n` of this bucket, for the stores.
    pub(super) fn number_of_buyer(&self, n: u32) -> u32 {
        100 * self.bucket.bucket.bucket.cast_unsigned() + n
    }

    async fn join(&mut self, joiners: &[u32]) {
        let joiners: Vec<u32> = joiners.iter().map(|n| self.number_of_buyer(*n)).collect();
        let joined = self.ask_ranks(&joiners).await;
        if joined.contains(&Joined::NoRank) {
            self.model.ranks_end += BLOCK;
            let row = GateRow { ranks: self.model.ranks_end, tail: 0, cursor: 0, gate_us: 0 };
            let (pool, bucket) = (&self.stores.pool, self.bucket.bucket);
            ledger::set_gate(pool, bucket, self.bucket.epoch, row).await.unwrap();
            self.ask_ranks(&joiners).await;
        }
    }

    async fn ask_ranks(&mut self, joiners: &[u32]) -> Vec<Joined> {
        let expected: Vec<Joined> =
            joiners.iter().map(|&joiner| self.expect_rank(joiner)).collect();
        self.batches.joins += 1;
        let joined = self.join_as((self.bucket.epoch, self.batches.joins), joiners).await.unwrap();
        assert_eq!(joined, expected, "ranks of {joiners:?}");
        (self.last.joiners, self.last.joined) = (joiners.to_vec(), joined.clone());
        joined
    }

    fn expect_rank(&mut self, joiner: u32) -> Joined {
        let model = &mut self.model;
        let is_of_use =
            |rank: &u64| model.live_of(joiner).is_some() || !model.is_spent(joiner, *rank);
        if let Some(rank) = model.ranks.get(&joiner).copied().filter(is_of_use) {
            return Joined::Rank(rank);
        }
        if model.paid_by(joiner) >= CAP {
            return Joined::OverCap;
        }
        if model.next_rank >= model.ranks_end {
            return Joined::NoRank;
        }
        model.ranks.insert(joiner, model.next_rank);
        model.next_rank += 1;
        Joined::Rank(model.next_rank - 1)
    }

    pub(super) async fn join_as(
        &self,
        of: (i64, i64),
        joiners: &[u32],
    ) -> Result<Vec<Joined>, InventoryError> {
        let joiners: Vec<_> = joiners.iter().map(|&n| buyer(n)).collect();
        let gate = (0, self.model.ranks_end, CAP);
        self.stores.inventory.join(&self.at.run, &self.at.keys, of, gate, &joiners).await
    }

    /// The batch's entries with their orders' and buyers' numbers. Who never joined tries with a ticket far off.
    fn tries(&mut self, tries: &[Try]) -> Vec<(u32, u32, HoldTry)> {
        let mut made: Vec<(u32, u32, HoldTry)> = Vec::new();
        for one in tries {
            let of = self.number_of_buyer(one.buyer);
            let before = self.requests.get(&of).copied();
            // An order's id that was used up stays used up: the ledger remembers it, as its own test shows.
            let is_open = |number: &u32| {
                self.model.is_live(*number) || made.iter().any(|(made, ..)| made == number)
            };
            let again = before.filter(|number| one.again && is_open(number));
            let number = again.unwrap_or(self.orders + 1);
            self.orders = self.orders.max(number);
            self.requests.insert(of, number);
            let rank = self.model.ranks.get(&of).copied().unwrap_or(10_000 + u64::from(number));
            let (buyer, order) = (buyer(of), order(number));
            made.push((number, of, HoldTry { buyer, order, rank, quantity: one.quantity }));
        }
        made
    }

    async fn hold(&mut self, tries: &[Try], end: End) {
        let batch = self.tries(tries);
        let expected: Vec<Grant> = batch
            .iter()
            .map(|(number, of, entry)| self.model.hold(*number, *of, entry.rank, entry.quantity))
            .collect();
        let entries: Vec<HoldTry> = batch.iter().map(|(.., entry)| *entry).collect();
        self.batches.holds += 1;
        let of = (self.bucket.epoch, self.batches.holds);
        let grants = self.hold_as(of, &entries).await.unwrap();
        assert_eq!(grants, expected, "{tries:?}");
        let holds: Vec<Hold> = entries
            .iter()
            .zip(&grants)
            .filter_map(|(entry, grant)| self.hold_of(entry, grant))
            .collect();
        (self.last.tries, self.last.grants) = (entries, grants.clone());
        let granted = |((number, of, entry), grant): (&(u32, u32, HoldTry), &Grant)| match grant {
            Grant::Granted { .. } => Some((*number, *of, entry.rank)),
            _ => None,
        };
        let granted: Vec<_> = batch.iter().zip(&grants).filter_map(granted).collect();
        if matches!(end, End::Done | End::DiesAfter) && !holds.is_empty() {
            self.last.held_at_us = self.bucket.hold(&self.stores.pool, &holds).await.unwrap();
            self.last.held = holds;
        }
        match end {
            End::Done => {}
            End::DiesAfter => self.take_over(false).await,
            End::Undone => self.undo(&granted).await,
            End::DiesBefore => {
                for (number, ..) in granted {
                    self.model.orders.remove(&number);
                }
                self.take_over(false).await;
            }
        }
    }

    pub(super) async fn hold_as(
        &self,
        of: (i64, i64),
        entries: &[HoldTry],
    ) -> Result<Vec<Grant>, InventoryError> {
        self.stores.inventory.hold(&self.at.run, &self.at.keys, of, CAP, entries).await
    }

    /// Holds that Redis has granted and that were never committed.
    async fn undo(&mut self, granted: &[(u32, u32, u64)]) {
        let undone: Vec<Settled> =
            granted.iter().map(|(number, ..)| self.settled(What::Undone, *number)).collect();
        for &(number, of, rank) in granted {
            self.model.give_back(number, State::Expired);
            self.model.orders.remove(&number);
            self.model.spent.insert(of, rank);
        }
        self.follow(undone, false).await;
    }

    /// What Redis is to hear of an order, which has its units still.
    pub(super) fn settled(&self, what: What, number: u32) -> Settled {
        let one = &self.model.orders[&number];
        let indices = self.model.indices(&one.units);
        Settled { what, buyer: buyer(one.buyer), order: order(number), rank: one.ticket, indices }
    }

    fn hold_of(&self, entry: &HoldTry, grant: &Grant) -> Option<Hold> {
        let Grant::Granted { paid, indices } = grant else { return None };
        Some(Hold {
            order: entry.order,
            buyer: entry.buyer,
            ticket: entry.rank,
            units: self.model.numbers_at(indices),
            first_slot: *paid,
            amount_minor: 1_999 * i64::from(entry.quantity),
        })
    }
}
