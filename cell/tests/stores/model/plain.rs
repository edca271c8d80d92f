//! The model: a bucket as one would explain it, in plain maps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use floodgate_cell::inventory::Grant;
use floodgate_cell::transfer::TransferId;
use proto::id::OrderId;
use proto::wire::storefront::order::State;

use super::CAP;
use crate::stores::order;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) buyer: u32,
    /// The numbers of the units that it has.
    pub(super) units: Vec<u32>,
    pub(super) state: State,
    pub(super) ticket: u64,
    pub(super) attempts: u32,
    pub(super) refunding: bool,
}

impl Order {
    pub(super) fn is_live(&self) -> bool {
        matches!(self.state, State::Held | State::Paying | State::Review)
    }
}

/// What both stores should say.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// By their numbers.
    pub(super) orders: BTreeMap<u32, Order>,
    /// By its local index under this epoch: which unit was given it.
    pub(super) numbers: Vec<u32>,
    /// Local indices whose units have left, and by which transfer.
    pub(super) left: BTreeMap<u32, TransferId>,
    /// Returned local indices in the order in which they are given out again.
    pub(super) returned: VecDeque<u32>,
    /// The first index that was never granted.
    pub(super) next: u32,
    /// Below which rank a buyer's tickets are spent; of whoever held something under this epoch, or has an order.
    pub(super) spent: BTreeMap<u32, u64>,
    /// The buyers' tickets, as Redis remembers them.
    pub(super) ranks: BTreeMap<u32, u64>,
    pub(super) next_rank: u64,
    /// Ranks below this are committed.
    pub(super) ranks_end: u64,
}

impl Model {
    pub(super) fn live_of(&self, buyer: u32) -> Option<(u32, &Order)> {
        let mut theirs = self.orders.iter().filter(|(_, one)| one.buyer == buyer && one.is_live());
        theirs.next().map(|(number, one)| (*number, one))
    }

    pub(super) fn is_live(&self, number: u32) -> bool {
        self.orders.get(&number).is_some_and(Order::is_live)
    }

    pub(super) fn paid_by(&self, buyer: u32) -> u32 {
        let theirs = self.orders.values().filter(|one| one.buyer == buyer);
        let paid = theirs.filter(|one| one.state == State::Paid).map(|one| one.units.len());
        u32::try_from(paid.sum::<usize>()).unwrap()
    }

    pub(super) fn is_spent(&self, buyer: u32, ticket: u64) -> bool {
        self.spent.get(&buyer).is_some_and(|below| ticket < *below)
    }

    /// Where the local indices end.
    pub(super) fn end(&self) -> u32 {
        u32::try_from(self.numbers.len()).unwrap()
    }

    pub(super) fn free(&self) -> u32 {
        self.end() - self.next + u32::try_from(self.returned.len()).unwrap()
    }

    /// The units that the bucket may sell or has sold.
    pub(super) fn units(&self) -> BTreeSet<u32> {
        let all = (0..).zip(&self.numbers).filter(|(index, _)| !self.left.contains_key(index));
        all.map(|(_, unit)| *unit).collect()
    }

    pub(super) fn indices(&self, units: &[u32]) -> Vec<u32> {
        let stays = |index: &u32| !self.left.contains_key(index);
        let index = |unit: &u32| {
            (0..self.end()).filter(stays).find(|index| self.numbers[*index as usize] == *unit)
        };
        units.iter().map(|unit| index(unit).unwrap()).collect()
    }

    pub(super) fn numbers_at(&self, indices: &[u32]) -> Vec<u32> {
        indices.iter().map(|index| self.numbers[*index as usize]).collect()
    }

    /// What Redis should answer to one hold, which is in force from then on when it is granted.
    pub(super) fn hold(&mut self, number: u32, buyer: u32, ticket: u64, quantity: u32) -> Grant {
        if let Some((live, _)) = self.live_of(buyer) {
            return Grant::Live(order(live));
        }
        if self.is_spent(buyer, ticket) {
            return Grant::Spent;
        }
        let paid = self.paid_by(buyer);
        if paid + quantity > CAP {
            return Grant::OverCap(u8::try_from(paid).unwrap());
        }
        if self.free() < quantity {
            return Grant::None;
        }
        let indices: Vec<u32> = (0..quantity)
            .map(|_| {
                self.returned.pop_front().unwrap_or_else(|| {
                    self.next += 1;
                    self.next - 1
                })
            })
            .collect();
        self.spent.insert(buyer, ticket + 1);
        let units = self.numbers_at(&indices);
        let state = State::Held;
        let held = Order { buyer, units, state, ticket, attempts: 0, refunding: false };
        self.orders.insert(number, held);
        Grant::Granted { paid: u8::try_from(paid).unwrap(), indices }
    }

    /// An order's units return, in their order.
    pub(super) fn give_back(&mut self, number: u32, state: State) {
        let one = self.orders.get_mut(&number).unwrap();
        (one.state, one.refunding) = (state, false);
        let units = std::mem::take(&mut one.units);
        let indices = self.indices(&units);
        self.returned.extend(indices);
    }

    /// Free units leave: first those that were never granted, then the last that were returned.
    pub(super) fn take_out(&mut self, transfer: TransferId, most: u32) -> Vec<u32> {
        let fresh = most.min(self.end() - self.next);
        let wanted = usize::try_from(most - fresh).unwrap().min(self.returned.len());
        let mut indices: Vec<u32> = (self.next..self.next + fresh).collect();
        self.next += fresh;
        indices.extend(self.returned.split_off(self.returned.len() - wanted));
        self.left.extend(indices.iter().map(|index| (*index, transfer)));
        indices
    }

    /// They did not leave after all.
    pub(super) fn put_back(&mut self, indices: &[u32]) {
        self.left.retain(|index, _| !indices.contains(index));
        self.returned.extend(indices);
    }

    /// What a take-over makes of it: indices in the order of the numbers, and free is what no order has.
    pub(super) fn take_over(&mut self, is_wiped: bool) {
        self.numbers = self.units().into_iter().collect();
        self.left.clear();
        let owned: Vec<u32> = self.orders.values().flat_map(|one| one.units.clone()).collect();
        let taken: BTreeSet<u32> = self.indices(&owned).into_iter().collect();
        self.next = taken.last().map_or(0, |last| last + 1);
        self.returned = (0..self.next).filter(|index| !taken.contains(index)).collect();
        self.spent.clear();
        for one in self.orders.values() {
            let below = self.spent.entry(one.buyer).or_default();
            *below = (*below).max(one.ticket + 1);
        }
        if is_wiped {
            // Nobody knows any more which of the committed ranks were given out.
            self.next_rank = self.ranks_end;
            self.ranks.clear();
        }
    }

    /// Who has each unit.
    pub(super) fn owners(&self) -> BTreeMap<u32, OrderId> {
        let all = self.orders.iter();
        all.flat_map(|(number, one)| one.units.iter().map(|unit| (*unit, order(*number)))).collect()
    }
}

/// The number of an order's id.
pub(super) fn number_of(order: OrderId) -> u32 {
    let [a, b, c, d, ..] = order.0;
    u32::from_be_bytes([a, b, c, d])
}
