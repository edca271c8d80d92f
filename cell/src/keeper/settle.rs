//! The stage that moves orders on: a batch is committed by Postgres, known in the book, and then followed in Redis, so
//! that a unit is free only after the end of its order is written.

use super::reign::End;
use super::{Keeper, Reign};
use crate::failpoint::{self, Failpoint};
use crate::inventory::{InventoryError, Settled, What};
use crate::ledger::{LedgerError, Move, SettleBatch};
use proto::fault::{Fault, Reason};
use proto::limits::{BATCH_CALLS_MAX, BATCH_TRIES_MAX};
use proto::wire::events::ledger_entry::Kind;
use proto::wire::storefront::order::State;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use tokio::sync::{mpsc::Receiver, oneshot};

/// Something for this stage to do.
#[derive(Debug)]
pub(crate) enum MoveAsked {
    /// A move to commit, as the book of `epoch` suggests it.
    Move { step: Move, epoch: i64, reply: oneshot::Sender<Result<(), Fault>> },
    /// A grant that was never committed, to be taken back.
    Undone(Settled),
}

impl MoveAsked {
    /// A move that holds under `epoch` alone, and what comes of it: the receiver fails when that epoch ends first. The
    /// next one then finds in the ledger what there is to do. A refusal says that the order is not in the state, or not
    /// at the time, that the move needs; it does not say which, so nobody may conclude what will become of the order.
    pub(crate) fn new(step: Move, epoch: i64) -> (MoveAsked, oneshot::Receiver<Result<(), Fault>>) {
        let (reply, moved) = oneshot::channel();
        (MoveAsked::Move { step, epoch, reply }, moved)
    }

    /// A grant to take back.
    pub(crate) fn undone(settled: Settled) -> MoveAsked {
        MoveAsked::Undone(settled)
    }
}

struct Stage<'a> {
    keeper: &'a Arc<Keeper>,
    reign: &'a Reign,
    /// The last batch that Postgres has.
    committed: i64,
    /// The last batch that Redis has.
    followed: i64,
}

type Reply = oneshot::Sender<Result<(), Fault>>;

/// Works the queue off until it must end.
pub(super) async fn serve(
    keeper: &Arc<Keeper>,
    moves: &mut Receiver<MoveAsked>,
    reign: &Reign,
) -> End {
    let mut stage = Stage { keeper, reign, committed: reign.settle_batch, followed: 0 };
    let mut taken = Vec::with_capacity(BATCH_CALLS_MAX);
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            tokio::select! {
                biased;
                () = reign.stop.cancelled() => return End::Stopped,
                count = moves.recv_many(&mut taken, keeper.ports.batch_calls_max) => if count == 0 { return End::Stopped },
            }
            waiting.extend(taken.drain(..));
        }
        let (steps, undone) = next_batch(&mut waiting, reign.epoch);
        if let Err(end) = stage.run(steps, undone).await {
            return end;
        }
    }
}

/// A batch in which every order stands once; a second move of an order waits for the next one. What an earlier epoch
/// asked for is dropped.
fn next_batch(waiting: &mut VecDeque<MoveAsked>, now: i64) -> (Vec<(Move, Reply)>, Vec<Settled>) {
    let (mut steps, mut undone, mut again) = (Vec::new(), Vec::new(), VecDeque::new());
    let mut orders = HashSet::new();
    for asked in waiting.drain(..) {
        match asked {
            MoveAsked::Undone(settled) => undone.push(settled),
            MoveAsked::Move { epoch, .. } if epoch != now => {}
            MoveAsked::Move { step, reply, .. } if orders.insert(step.order) => {
                steps.push((step, reply))
            }
            asked @ MoveAsked::Move { .. } => again.push_back(asked),
        }
    }
    *waiting = again;
    (steps, undone)
}

impl Stage<'_> {
    async fn run(&mut self, steps: Vec<(Move, Reply)>, undone: Vec<Settled>) -> Result<(), End> {
        let mut follow = undone;
        let mut told = Vec::with_capacity(steps.len());
        if !steps.is_empty() {
            self.keeper.ports.metrics.settle_batch(steps.len());
            failpoint::reach(Failpoint::SettleAsked).await;
            let (moves, replies): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
            match self.commit(&moves).await {
                Ok(_) => self.note(moves.into_iter().zip(replies), &mut follow, &mut told),
                Err(LedgerError::Conflict(_)) => {
                    self.one_by_one(moves.into_iter().zip(replies), &mut follow, &mut told).await?;
                }
                Err(error) => return Err(doubt(&error)),
            }
        }
        let followed = self.follow(&follow).await;
        for reply in told {
            // Whoever asked may have gone: the move stands all the same.
            drop(reply.send(Ok(())));
        }
        followed
    }

    async fn one_by_one(
        &mut self,
        steps: impl Iterator<Item = (Move, Reply)>,
        follow: &mut Vec<Settled>,
        told: &mut Vec<Reply>,
    ) -> Result<(), End> {
        for (step, reply) in steps {
            match self.commit(std::slice::from_ref(&step)).await {
                Ok(_) => self.note(std::iter::once((step, reply)), follow, told),
                Err(LedgerError::Conflict(why)) => {
                    tracing::debug!(why, kind = ?step.kind, "an order cannot move");
                    drop(reply.send(Err(Reason::OrderStateConflict.into())));
                }
                Err(error) => return Err(doubt(&error)),
            }
        }
        Ok(())
    }

    async fn commit(&mut self, moves: &[Move]) -> Result<i64, LedgerError> {
        let batch = SettleBatch {
            bucket: self.keeper.place.bucket,
            epoch: self.reign.epoch,
            batch: self.committed + 1,
        };
        let pool = self.keeper.ports.pool(self.keeper);
        let mut tries = 1;
        loop {
            let done =
                failpoint::reply(Failpoint::SettleCommitted, batch.commit(pool, moves)).await;
            match self.keeper.ports.metrics.refused_late("settle", done) {
                Ok(at_us) => {
                    self.committed += 1;
                    return Ok(at_us);
                }
                Err(LedgerError::Unknown(error)) if tries < BATCH_TRIES_MAX => {
                    tracing::warn!(%error, "a move's outcome is unknown");
                    failpoint::reach(Failpoint::SettleRepeat).await;
                    tries += 1;
                }
                Err(error) if tries > 1 => return Err(error.after_unknown()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The moves are committed: the book knows, and Redis will.
    fn note(
        &self,
        steps: impl Iterator<Item = (Move, Reply)>,
        follow: &mut Vec<Settled>,
        told: &mut Vec<Reply>,
    ) {
        let mut book = self.keeper.book();
        for (step, reply) in steps {
            self.keeper.ports.metrics.moved(step.kind);
            let (ended, what) = match step.kind {
                Kind::Expired => (book.end(step.order, State::Expired), What::Returned),
                Kind::Cancelled => (book.end(step.order, State::Cancelled), What::Returned),
                Kind::Paid => (book.end(step.order, State::Paid), What::Paid),
                Kind::Paying => {
                    if let Some(live) = book.order_mut(step.order) {
                        live.attempts = step.attempt;
                        live.intent.clone_from(&step.intent);
                    }
                    book.turn(step.order, State::Paying);
                    (None, What::Paid)
                }
                Kind::Declined => {
                    book.turn(step.order, State::Held);
                    (None, What::Paid)
                }
                Kind::Review => {
                    book.turn(step.order, State::Review);
                    (None, What::Paid)
                }
                Kind::Refunded
                | Kind::Refunding
                | Kind::GivenUp
                | Kind::Accepted
                | Kind::Granted
                | Kind::Held
                | Kind::Unspecified => (None, What::Paid),
            };
            if let Some(live) = ended {
                follow.push(Settled {
                    what,
                    buyer: live.buyer,
                    order: step.order,
                    rank: live.ticket,
                    indices: book.indices(&live.units),
                });
            }
            told.push(reply);
        }
    }

    async fn follow(&mut self, settled: &[Settled]) -> Result<(), End> {
        if settled.is_empty() {
            return Ok(());
        }
        let inventory = self.keeper.ports.inventory(self.keeper);
        let batch = (self.reign.epoch, self.followed + 1);
        failpoint::reach(Failpoint::SettleNoted).await;
        for _ in 0..BATCH_TRIES_MAX {
            let done = inventory.settle(&self.reign.run, &self.reign.keys, batch, settled);
            let done = failpoint::reply(Failpoint::SettleFollowed, done).await;
            match self.keeper.ports.metrics.refused_late("settle", done) {
                Ok(_) => {
                    self.followed += 1;
                    return Ok(());
                }
                Err(InventoryError::Unknown(why)) => {
                    tracing::warn!(why, "a return's outcome is unknown")
                }
                Err(InventoryError::Forgotten(why) | InventoryError::Stale(why)) => {
                    tracing::warn!(why, "redis contradicts");
                    return Err(End::Doubt);
                }
            }
        }
        Err(End::Doubt)
    }
}

fn doubt(error: &LedgerError) -> End {
    tracing::warn!(%error, "moves could not be committed");
    End::Doubt
}
