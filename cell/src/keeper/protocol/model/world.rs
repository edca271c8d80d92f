//! Everything at one moment, and what each event makes of it.

use super::super::Step;
use super::process::{Process, Stage};
use super::stores::{Answer, Ask, ORDERS, Order, Postgres, Record, Redis, State, UNITS, Unit};
use super::{Bounds, Broken, PROCESSES, Protocol};
use crate::keeper::protocol::batch::Said;

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) left: Bounds,
    pub(super) postgres: Postgres,
    pub(super) redis: Redis,
    /// A copy of Redis' record, of which Redis may be made anew.
    pub(super) copy: Option<Record>,
    pub(super) processes: [Process; PROCESSES],
    /// Questions that nobody waits for any more, and that may still arrive.
    pub(super) late: Vec<Ask>,
    /// Who has asked for a unit before. Those who have not are all alike.
    pub(super) asked: [bool; ORDERS],
    /// What buyers were told.
    pub(super) told: [Option<Unit>; ORDERS],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Claim(usize),
    Hold(usize, Vec<Order>),
    Move(usize, Order, State),
    GiveBack(usize),
    /// The store carries a question out, and the process hears the answer: to hear it later is to ask the next one later.
    Answer(usize, Stage),
    /// The store does not get a question in time, or at all.
    LoseQuestion(usize, Stage),
    /// The store carries it out, and the process hears nothing.
    LoseAnswer(usize, Stage),
    /// A question arrives that nobody waits for any more.
    Arrive(usize),
    Crash(usize),
    Copy,
    Wipe,
    Restart,
    Replace,
}

impl World {
    /// What buyers may ask this process for: one each, or the first two in a batch.
    pub(super) fn wanted(&self, process: &Process) -> impl Iterator<Item = Vec<Order>> {
        let fresh = self.asked.iter().position(|asked| !asked);
        let wanted = |order: &Order| {
            let is_open = self.told[*order].is_none() && process.book[*order].is_none();
            is_open && (self.asked[*order] || Some(*order) == fresh)
        };
        let orders: Vec<Order> = (0..ORDERS).filter(wanted).collect();
        let two = match (&orders[..], fresh) {
            ([one], Some(fresh)) if fresh + 1 < ORDERS => Some(vec![*one, fresh + 1]),
            ([one, two, ..], _) => Some(vec![*one, *two]),
            _ => None,
        };
        orders.into_iter().map(|order| vec![order]).chain(two)
    }

    /// Redis' record, if its keeper serves from it.
    pub(super) fn served(&self) -> Option<&Record> {
        let current = |record: &&Record| {
            record.open && record.epoch == self.postgres.epoch && record.run == self.redis.run
        };
        self.redis.record.as_ref().filter(current)
    }

    pub(super) fn none_is_stranded(&self, record: &Record) -> bool {
        let keeper = self.processes.iter().find(|process| {
            process.at.is_some_and(|at| at.step == Step::Kept && at.epoch == record.epoch)
        });
        // Without a keeper the bucket is about to be taken over, and loaded anew.
        let Some(keeper) = keeper else { return true };
        let under_way = |order: Order| {
            keeper.undone.iter().any(|settled| settled.order == order)
                || keeper.rests(order)
                || keeper.asked().any(|question| match &question.ask {
                    Ask::Grant { tries, .. } => tries.contains(&order),
                    Ask::Hold { holds, .. } => holds.iter().any(|(theirs, _)| *theirs == order),
                    Ask::Settle { order: theirs, .. } => *theirs == order,
                    Ask::Follow { settled, .. } => settled.iter().any(|one| one.order == order),
                    _ => false,
                })
        };
        (0..UNITS).all(|unit| match (self.postgres.owner(unit), record.units[unit]) {
            (None, Some(order)) => under_way(order) || keeper.is_stopping(),
            _ => true,
        })
    }

    pub(super) fn happen(&mut self, event: Event, model: &Protocol) -> Option<()> {
        match event {
            Event::Claim(me) => {
                self.left.claims -= 1;
                self.processes[me].claim(self.postgres.epoch, me);
            }
            Event::Hold(me, tries) => {
                self.left.holds -= 1;
                tries.iter().for_each(|order| self.asked[*order] = true);
                self.processes[me].grant(tries);
            }
            Event::Move(me, order, to) => {
                self.left.moves -= 1;
                self.processes[me].settle(order, to);
            }
            Event::GiveBack(me) => self.processes[me].give_back(),
            Event::Answer(me, stage) => {
                let ask = self.processes[me].question(stage)?.ask.clone();
                let answer = self.carry_out(&ask, model)?;
                for (order, unit) in self.processes[me].hear(stage, answer, me, model.broken) {
                    self.told[order] = Some(unit);
                }
            }
            Event::LoseQuestion(me, stage) | Event::LoseAnswer(me, stage) => {
                self.left.lost -= 1;
                let ask = self.processes[me].question(stage)?.ask.clone();
                if event == Event::LoseQuestion(me, stage) {
                    self.late.push(ask);
                } else {
                    self.carry_out(&ask, model)?;
                }
                self.processes[me].hear(stage, Answer::Not(Said::Unknown), me, model.broken);
            }
            Event::Arrive(number) => {
                let ask = self.late.remove(number);
                self.carry_out(&ask, model)?;
            }
            Event::Crash(me) => {
                self.left.crashes -= 1;
                let process = std::mem::take(&mut self.processes[me]);
                self.late.extend(process.asked().map(|question| question.ask.clone()));
            }
            Event::Copy => self.copy.clone_from(&self.redis.record),
            Event::Wipe | Event::Restart | Event::Replace => {
                self.left.forgets -= 1;
                self.redis.run += u8::from(event != Event::Wipe);
                self.redis.record = if event == Event::Replace { self.copy.clone() } else { None };
            }
        }
        Some(())
    }

    /// Forgets late questions that cannot matter any more: those that only read, those to a server that is gone, and those
    /// under an epoch that Postgres has left.
    pub(super) fn forget_late(&mut self, broken: Broken) {
        let (run, epoch) = (self.redis.run, self.postgres.epoch);
        self.late.retain(|ask| match ask {
            Ask::Reach | Ask::Find { .. } | Ask::Read { .. } => false,
            Ask::Raise { from, .. } => *from == epoch,
            Ask::Load { run: of, .. }
            | Ask::Grant { run: of, .. }
            | Ask::Follow { run: of, .. } => *of == run || broken == Broken::AnyRun,
            Ask::Hold { epoch: under, .. } | Ask::Settle { epoch: under, .. } => {
                *under == epoch || broken == Broken::NoFence
            }
        });
        self.late.sort();
    }

    /// None: the bounds do not allow it.
    fn carry_out(&mut self, ask: &Ask, model: &Protocol) -> Option<Answer> {
        let broken = model.broken;
        let elsewhere = |run: u8| broken != Broken::AnyRun && run != self.redis.run;
        Some(match ask {
            Ask::Reach => Answer::Run(self.redis.run),
            Ask::Raise { .. } if self.postgres.epoch >= self.left.epochs => return None,
            Ask::Raise { from, me } => self.postgres.take_over(*from, *me + 1),
            Ask::Find { me } => self.postgres.find(*me + 1),
            Ask::Read { epoch } => self.postgres.read(*epoch),
            Ask::Load { run, .. } | Ask::Grant { run, .. } | Ask::Follow { run, .. }
                if elsewhere(*run) =>
            {
                Answer::Not(Said::Contradicts)
            }
            Ask::Load { step, epoch, orders, .. } => self.redis.load(*step, *epoch, orders),
            Ask::Grant { epoch, batch, tries, .. } => {
                self.redis.hold((*epoch, *batch), tries, broken)
            }
            Ask::Follow { epoch, batch, settled, .. } => {
                self.redis.settle((*epoch, *batch), settled, broken)
            }
            Ask::Hold { epoch, batch, holds } => {
                self.postgres.hold((*epoch, *batch), holds, broken)
            }
            Ask::Settle { epoch, batch, order, to } => {
                self.postgres.settle((*epoch, *batch), *order, *to, broken)
            }
        })
    }
}
