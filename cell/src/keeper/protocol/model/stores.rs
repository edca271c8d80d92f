//! The stores as the model has them: what the functions in SQL and in Lua do to one bucket, without anything else. Every
//! buyer has one order and may have one unit.

use super::super::{Refusal, Step};
use super::Broken;
use crate::keeper::protocol::batch::Said;

/// Units, and buyers with an order each.
pub(super) const UNITS: usize = 2;
pub(super) const ORDERS: usize = 3;

pub(super) type Order = usize;
pub(super) type Unit = usize;
/// What Postgres holds of each order.
pub(super) type Orders = [Option<(Unit, State)>; ORDERS];

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum State {
    Held,
    Paid,
    Ended,
}

/// What a process asks of a store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Ask {
    Reach,
    Raise { from: i64, me: usize },
    Find { me: usize },
    Read { epoch: i64 },
    Load { step: Step, run: u8, epoch: i64, orders: Orders },
    Grant { run: u8, epoch: i64, batch: i64, tries: Vec<Order> },
    Hold { epoch: i64, batch: i64, holds: Vec<(Order, Unit)> },
    Settle { epoch: i64, batch: i64, order: Order, to: State },
    Follow { run: u8, epoch: i64, batch: i64, settled: Vec<Settled> },
}

/// What Redis follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Settled {
    pub(super) order: Order,
    pub(super) unit: Unit,
    /// None: its hold was never committed.
    pub(super) to: Option<State>,
}

/// What a store answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    Done,
    Run(u8),
    Epoch(i64),
    Deposed,
    Read { orders: Orders, hold_batch: i64, settle_batch: i64 },
    Grants(Vec<Option<Unit>>),
    Refused(Refusal),
    Not(Said),
}

/// A bucket in Postgres.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Postgres {
    pub(super) epoch: i64,
    keeper: usize,
    hold_batch: i64,
    settle_batch: i64,
    pub(super) orders: Orders,
    /// The epoch of the ledger's last row.
    head: i64,
    /// An older epoch followed a newer one (INV-8).
    pub(super) went_back: bool,
    /// A unit that an order has was to be held (INV-1): only its key stood in the way.
    pub(super) clashed: bool,
}

impl Postgres {
    pub(super) fn take_over(&mut self, from: i64, keeper: usize) -> Answer {
        if self.epoch != from {
            return Answer::Deposed;
        }
        (self.epoch, self.keeper) = (from + 1, keeper);
        Answer::Epoch(self.epoch)
    }

    pub(super) fn find(&self, keeper: usize) -> Answer {
        if self.keeper == keeper { Answer::Epoch(self.epoch) } else { Answer::Done }
    }

    pub(super) fn read(&self, epoch: i64) -> Answer {
        if self.epoch != epoch {
            return Answer::Deposed;
        }
        let (hold_batch, settle_batch) = (self.hold_batch, self.settle_batch);
        Answer::Read { orders: self.orders, hold_batch, settle_batch }
    }

    /// What a batch under `epoch` that follows the batch `last` is answered. None: it is in its turn.
    fn turn(&mut self, epoch: i64, batch: i64, last: i64, broken: Broken) -> Option<Answer> {
        let fenced = broken != Broken::NoFence && self.epoch != epoch;
        if fenced || batch != last && batch != last + 1 {
            return Some(Answer::Not(Said::Contradicts));
        }
        (batch == last).then_some(Answer::Done)
    }

    fn append(&mut self, epoch: i64) {
        self.went_back |= epoch < self.head;
        self.head = epoch;
    }

    pub(super) fn hold(
        &mut self,
        (epoch, batch): (i64, i64),
        holds: &[(Order, Unit)],
        broken: Broken,
    ) -> Answer {
        if let Some(answer) = self.turn(epoch, batch, self.hold_batch, broken) {
            return answer;
        }
        if holds.iter().any(|(order, _)| self.orders[*order].is_some()) {
            return Answer::Refused(Refusal::Key);
        }
        let is_taken = |unit: Unit| self.owner(unit).is_some();
        if holds.iter().any(|(_, unit)| is_taken(*unit)) {
            self.clashed = true;
            return Answer::Refused(Refusal::Unit);
        }
        for &(order, unit) in holds {
            self.orders[order] = Some((unit, State::Held));
        }
        self.append(epoch);
        self.hold_batch = batch;
        Answer::Done
    }

    pub(super) fn settle(
        &mut self,
        (epoch, batch): (i64, i64),
        order: Order,
        to: State,
        broken: Broken,
    ) -> Answer {
        if let Some(answer) = self.turn(epoch, batch, self.settle_batch, broken) {
            return answer;
        }
        let Some((unit, State::Held)) = self.orders[order] else {
            return Answer::Refused(Refusal::State);
        };
        self.orders[order] = Some((unit, to));
        self.append(epoch);
        self.settle_batch = batch;
        Answer::Done
    }

    /// The order that has a unit.
    pub(super) fn owner(&self, unit: Unit) -> Option<Order> {
        owner(&self.orders, unit)
    }
}

fn owner(orders: &Orders, unit: Unit) -> Option<Order> {
    orders
        .iter()
        .position(|of| of.is_some_and(|(theirs, state)| theirs == unit && state != State::Ended))
}

/// A bucket's record in Redis, with the keys of its epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Record {
    pub(super) epoch: i64,
    pub(super) open: bool,
    /// The server's run in which it was written.
    pub(super) run: u8,
    /// The order that has each unit.
    pub(super) units: [Option<Order>; UNITS],
    /// Returned units, the first to go first.
    pub(super) free: Vec<Unit>,
    /// The first unit never granted.
    pub(super) next: usize,
    /// Buyers whose ticket is spent, and those with a live order.
    spent: [bool; ORDERS],
    live: [bool; ORDERS],
    hold_batch: i64,
    hold_answer: Vec<Option<Unit>>,
    settle_batch: i64,
}

/// A server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Redis {
    pub(super) run: u8,
    pub(super) record: Option<Record>,
}

const CONTRADICTS: Answer = Answer::Not(Said::Contradicts);

impl Redis {
    /// `load_begin`, the slices, and `load_open`.
    pub(super) fn load(&mut self, step: Step, epoch: i64, orders: &Orders) -> Answer {
        let run = self.run;
        if step == Step::Close {
            if self.record.as_ref().is_some_and(|record| record.epoch > epoch) {
                return CONTRADICTS;
            }
            self.record = Some(Record { epoch, run, ..Record::default() });
            return Answer::Done;
        }
        let loading = |record: &&mut Record| record.epoch == epoch && !record.open;
        let Some(record) = self.record.as_mut().filter(loading) else { return CONTRADICTS };
        if step == Step::Open {
            record.open = true;
            return Answer::Done;
        }
        record.units = std::array::from_fn(|unit| owner(orders, unit));
        record.next = record.units.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let nobodys = |unit: &Unit| record.units[*unit].is_none();
        record.free = (0..record.next).filter(nobodys).collect();
        record.spent = orders.map(|of| of.is_some());
        record.live = orders.map(|of| of.is_some_and(|(_, state)| state == State::Held));
        Answer::Done
    }

    fn begin(
        &mut self,
        (epoch, batch): (i64, i64),
        last: fn(&Record) -> i64,
        broken: Broken,
    ) -> Option<&mut Record> {
        self.record.as_mut().filter(|record| {
            let last = last(record);
            let in_turn = broken == Broken::AnyRun || batch == last || batch == last + 1;
            record.open && record.epoch == epoch && in_turn
        })
    }

    /// `hold.lua`.
    pub(super) fn hold(&mut self, of: (i64, i64), tries: &[Order], broken: Broken) -> Answer {
        let (_, batch) = of;
        let Some(record) = self.begin(of, |record| record.hold_batch, broken) else {
            return CONTRADICTS;
        };
        if batch == record.hold_batch {
            return Answer::Grants(record.hold_answer.clone());
        }
        let grant = |&order: &Order| {
            if record.live[order] || record.spent[order] {
                return None;
            }
            let unit = if record.free.is_empty() {
                (record.next < UNITS).then(|| {
                    record.next += 1;
                    record.next - 1
                })
            } else {
                Some(record.free.remove(0))
            }?;
            record.units[unit] = Some(order);
            (record.live[order], record.spent[order]) = (true, true);
            Some(unit)
        };
        let answer: Vec<_> = tries.iter().map(grant).collect();
        (record.hold_batch, record.hold_answer) = (batch, answer.clone());
        Answer::Grants(answer)
    }

    /// `settle.lua`.
    pub(super) fn settle(&mut self, of: (i64, i64), settled: &[Settled], broken: Broken) -> Answer {
        let (_, batch) = of;
        let Some(record) = self.begin(of, |record| record.settle_batch, broken) else {
            return CONTRADICTS;
        };
        if batch == record.settle_batch {
            return Answer::Done;
        }
        for &Settled { order, unit, to } in settled {
            if to != Some(State::Paid) && record.units[unit] == Some(order) {
                record.units[unit] = None;
                record.free.push(unit);
            }
            if record.live[order] {
                record.live[order] = false;
                record.spent[order] = to.is_some();
            }
        }
        record.settle_batch = batch;
        Answer::Done
    }
}

impl Record {
    /// Whether it would grant a unit.
    pub(super) fn is_free(&self, unit: Unit) -> bool {
        unit >= self.next || self.free.contains(&unit)
    }

    /// Whether every unit either names its order or is free, once (INV-2).
    pub(super) fn adds_up(&self) -> bool {
        (0..UNITS).all(|unit| {
            let times = self.free.iter().filter(|free| **free == unit).count();
            let times = times + usize::from(unit >= self.next);
            times == usize::from(self.units[unit].is_none())
        })
    }
}
