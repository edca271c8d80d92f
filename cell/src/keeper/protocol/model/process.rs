//! A process as the model has it: the stages of holds and of moves, and the take-over, each with at most one question to
//! a store under way. What follows from an answer is decided by the very functions that the cell calls.

use super::super::{
    AfterRefusal, Heard, Next, Refusal, Step, TakeOver, after, hold_refused, move_refused,
};
use super::Broken;
use super::stores::{Answer, Ask, ORDERS, Order, Orders, Settled, State, Unit};
use crate::keeper::protocol::batch::Said;

/// Which question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Take,
    Hold,
    Settle,
}

/// A question under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) ask: Ask,
    tries: u32,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Process {
    /// None: it has nothing to do with the bucket.
    pub(super) at: Option<TakeOver>,
    /// In doubt: the stages end, each after the batch that it has under way.
    stopping: bool,
    run: u8,
    /// What the take-over has read.
    read: Orders,
    /// What it has committed and therefore knows to be live.
    pub(super) book: [Option<Unit>; ORDERS],
    questions: [Option<Question>; 3],
    /// Holds of a refused batch that are sent one by one.
    rest: Vec<(Order, Unit)>,
    /// Grants that were never committed.
    pub(super) undone: Vec<Settled>,
    granted: i64,
    held: i64,
    settled: i64,
    followed: i64,
}

impl Process {
    /// Begins to take the bucket over.
    pub(super) fn claim(&mut self, epoch: i64, me: usize) {
        *self = Process { at: Some(TakeOver::new(epoch)), ..Process::default() };
        self.go_on(me);
    }

    /// Whether it keeps the bucket, and a stage may begin something.
    pub(super) fn is_idle(&self, stage: Stage) -> bool {
        let kept = self.at.is_some_and(|at| at.step == Step::Kept);
        kept && !self.stopping && self.question(stage).is_none()
    }

    /// Whether its epoch is about to end, and all that is to be done is found in the ledger by the next one.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Whether an order waits to be sent alone.
    pub(super) fn rests(&self, order: Order) -> bool {
        self.rest.iter().any(|(theirs, _)| *theirs == order)
    }

    pub(super) fn question(&self, stage: Stage) -> Option<&Question> {
        self.questions[stage as usize].as_ref()
    }

    /// All that is under way.
    pub(super) fn asked(&self) -> impl Iterator<Item = &Question> {
        self.questions.iter().flatten()
    }

    fn ask(&mut self, stage: Stage, ask: Ask) {
        self.questions[stage as usize] = Some(Question { ask, tries: 1 });
    }

    fn epoch(&self) -> i64 {
        self.at.map_or(0, |at| at.epoch)
    }

    /// Buyers ask for units.
    pub(super) fn grant(&mut self, tries: Vec<Order>) {
        let (run, epoch, batch) = (self.run, self.epoch(), self.granted + 1);
        self.ask(Stage::Hold, Ask::Grant { run, epoch, batch, tries });
    }

    /// A live order is to end or to be paid.
    pub(super) fn settle(&mut self, order: Order, to: State) {
        let (epoch, batch) = (self.epoch(), self.settled + 1);
        self.ask(Stage::Settle, Ask::Settle { epoch, batch, order, to });
    }

    /// Grants that were never committed go back.
    pub(super) fn give_back(&mut self) {
        let undone = std::mem::take(&mut self.undone);
        self.follow(undone);
    }

    fn follow(&mut self, settled: Vec<Settled>) {
        let (run, epoch, batch) = (self.run, self.epoch(), self.followed + 1);
        self.ask(Stage::Settle, Ask::Follow { run, epoch, batch, settled });
    }

    /// Hears an answer. Returns the orders that buyers are told to be theirs.
    pub(super) fn hear(
        &mut self,
        stage: Stage,
        answer: Answer,
        me: usize,
        broken: Broken,
    ) -> Vec<(Order, Unit)> {
        let question = self.questions[stage as usize].take();
        let Some(Question { ask, tries }) = question else { return Vec::new() };
        let told = match (stage, answer) {
            (Stage::Take, answer) => {
                self.hear_take(answer, broken);
                self.go_on(me);
                return Vec::new();
            }
            (_, Answer::Not(said)) => {
                self.failed(stage, ask, said, tries);
                Vec::new()
            }
            (_, Answer::Refused(why)) => {
                match after(Said::Refused, tries) {
                    Next::Refused => self.refused(ask, why),
                    Next::Repeat | Next::Doubt => self.stopping = true,
                }
                Vec::new()
            }
            (_, answer) => self.done(ask, answer, broken),
        };
        if self.stopping && self.questions.iter().all(Option::is_none) {
            // Every stage has ended: the epoch is over, and what it had to do is found in the ledger.
            let at = self.at.map(TakeOver::again);
            *self = Process { at, ..Process::default() };
            self.go_on(me);
        }
        told
    }

    fn failed(&mut self, stage: Stage, ask: Ask, said: Said, tries: u32) {
        match after(said, tries) {
            Next::Repeat => {
                let tries = tries + 1;
                self.questions[stage as usize] = Some(Question { ask, tries });
            }
            Next::Refused | Next::Doubt => self.stopping = true,
        }
    }

    fn refused(&mut self, ask: Ask, why: Refusal) {
        match ask {
            Ask::Hold { epoch, batch, mut holds } => match hold_refused(why, holds.len()) {
                AfterRefusal::OneByOne => {
                    let first = holds.remove(0);
                    self.rest = holds;
                    self.ask(Stage::Hold, Ask::Hold { epoch, batch, holds: vec![first] });
                }
                AfterRefusal::Answer => {
                    self.undone.extend(holds.iter().map(|&(order, unit)| Settled {
                        order,
                        unit,
                        to: None,
                    }));
                    self.next_of_rest();
                }
                AfterRefusal::Doubt => self.stopping = true,
            },
            _ if move_refused(why, 1) == AfterRefusal::Doubt => self.stopping = true,
            _ => {}
        }
    }

    fn next_of_rest(&mut self) {
        if !self.rest.is_empty() {
            let (epoch, batch) = (self.epoch(), self.held + 1);
            let holds = vec![self.rest.remove(0)];
            self.ask(Stage::Hold, Ask::Hold { epoch, batch, holds });
        }
    }

    fn done(&mut self, ask: Ask, answer: Answer, broken: Broken) -> Vec<(Order, Unit)> {
        match (ask, answer) {
            (Ask::Grant { epoch, tries, .. }, Answer::Grants(grants)) => {
                self.granted += 1;
                let granted = tries.into_iter().zip(grants);
                let holds: Vec<_> =
                    granted.filter_map(|(order, unit)| Some((order, unit?))).collect();
                if !holds.is_empty() {
                    let batch = self.held + 1;
                    let told =
                        if broken == Broken::AnswerFirst { holds.clone() } else { Vec::new() };
                    self.ask(Stage::Hold, Ask::Hold { epoch, batch, holds });
                    return told;
                }
            }
            (Ask::Hold { holds, .. }, _) => {
                self.held += 1;
                for &(order, unit) in &holds {
                    self.book[order] = Some(unit);
                }
                self.next_of_rest();
                return holds;
            }
            (Ask::Settle { order, to, .. }, _) => {
                self.settled += 1;
                if let Some(unit) = self.book[order].take() {
                    let mut settled = std::mem::take(&mut self.undone);
                    settled.push(Settled { order, unit, to: Some(to) });
                    self.follow(settled);
                }
            }
            (Ask::Follow { .. }, _) => self.followed += 1,
            _ => {}
        }
        Vec::new()
    }

    fn hear_take(&mut self, answer: Answer, broken: Broken) {
        let Some(at) = self.at else { return };
        let heard = match answer {
            Answer::Done => Heard::Done,
            Answer::Epoch(epoch) => Heard::Epoch(epoch),
            Answer::Deposed => Heard::Deposed,
            Answer::Run(run) => {
                self.run = run;
                Heard::Done
            }
            Answer::Read { orders, hold_batch, settle_batch } => {
                let live = |of: Option<(Unit, State)>| match of {
                    Some((unit, State::Held)) => Some(unit),
                    _ => None,
                };
                self.book = orders.map(live);
                (self.held, self.settled) = (hold_batch, settle_batch);
                self.read = orders;
                Heard::Done
            }
            Answer::Grants(_) | Answer::Refused(_) | Answer::Not(_) => Heard::Failed,
        };
        self.at = Some(super::heard(at, heard, broken));
    }

    /// Asks what the take-over's next step asks.
    fn go_on(&mut self, me: usize) {
        let Some(at) = self.at else { return };
        let (run, epoch, orders) = (self.run, at.epoch, self.read);
        let ask = match at.step {
            Step::Reach => Ask::Reach,
            Step::Raise => Ask::Raise { from: epoch, me },
            Step::Find => Ask::Find { me },
            Step::Read => Ask::Read { epoch },
            step @ (Step::Close | Step::Fill | Step::Open) => {
                Ask::Load { step, run, epoch, orders }
            }
            Step::Kept => {
                self.read = Default::default();
                return;
            }
            Step::Deposed => {
                *self = Process::default();
                return;
            }
        };
        self.ask(Stage::Take, ask);
    }
}
