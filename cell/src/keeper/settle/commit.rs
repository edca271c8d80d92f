//! Moves are committed, a batch at a time, and known in the book.

use super::{Committed, Reply, Work};
use crate::failpoint::{self, Failpoint};
use crate::inventory::{Settled, What};
use crate::keeper::protocol::{self, AfterRefusal, Next, Refusal};
use crate::keeper::{End, Keeper, Reign, Stage, sweep};
use crate::ledger::{LedgerError, Move, SettleBatch};
use proto::fault::Reason;
use proto::wire::events::ledger_entry::Kind;
use proto::wire::storefront::order::State;

/// A move, and who waits for it: nobody, when the sweep found it.
type Step = (Move, Option<Reply>);

/// See the module.
pub(super) struct Committer<'a> {
    keeper: &'a Keeper,
    reign: &'a Reign,
    /// The last batch that Postgres has.
    committed: i64,
}

impl<'a> Committer<'a> {
    pub(super) fn new(keeper: &'a Keeper, reign: &'a Reign) -> Committer<'a> {
        Committer { keeper, reign, committed: reign.settle_batch }
    }

    /// Does one batch of work.
    pub(super) async fn run(&mut self, work: Work) -> Result<Committed, End> {
        let (steps, undone): (Vec<Step>, _) = match work {
            Work::Asked(steps, undone) => {
                let steps = steps.into_iter().map(|(step, reply)| (step, Some(reply)));
                (steps.collect(), undone)
            }
            Work::Swept(moves) => {
                (moves.into_iter().map(|step| (step, None)).collect(), Vec::new())
            }
        };
        let mut done = Committed { follow: undone, told: Vec::with_capacity(steps.len()) };
        if steps.is_empty() {
            return Ok(done);
        }
        self.keeper.ports.metrics.settle_batch(steps.len());
        failpoint::reach(Failpoint::SettleAsked).await;
        let (moves, replies): (Vec<Move>, Vec<Option<Reply>>) = steps.into_iter().unzip();
        match self.commit(&moves).await {
            Ok(at_us) => self.note(moves.into_iter().zip(replies), at_us, &mut done),
            Err(error)
                if protocol::move_refused(Refusal::of(&error), moves.len())
                    != AfterRefusal::Doubt =>
            {
                let steps = self.still_due(moves.into_iter().zip(replies).collect()).await?;
                self.one_by_one(steps, &mut done).await?;
            }
            Err(error) => return Err(doubt(&error)),
        }
        Ok(done)
    }

    /// What Postgres does not want to end may not be over by its clock: then ours is ahead, and the sweep has been too early.
    async fn still_due(&mut self, mut steps: Vec<Step>) -> Result<Vec<Step>, End> {
        if steps.iter().all(|(_, reply)| reply.is_some()) {
            return Ok(steps);
        }
        let now_us = self.keeper.look_at_clock().await.map_err(|error| doubt(&error))?;
        let book = self.keeper.book();
        steps.retain(|(step, reply)| {
            let is_over = || book.order(step.order).is_some_and(|live| live.deadline_us <= now_us);
            reply.is_some() || step.kind != Kind::Expired || is_over()
        });
        Ok(steps)
    }

    async fn one_by_one(&mut self, steps: Vec<Step>, done: &mut Committed) -> Result<(), End> {
        for (step, reply) in steps {
            match self.commit(std::slice::from_ref(&step)).await {
                Ok(at_us) => self.note(std::iter::once((step, reply)), at_us, done),
                Err(LedgerError::Conflict(why)) => {
                    tracing::debug!(why, kind = ?step.kind, "an order cannot move");
                    match reply {
                        Some(reply) => drop(reply.send(Err(Reason::OrderStateConflict.into()))),
                        None => sweep::leave_for_now(self.keeper, &step),
                    }
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
        let _waiting = self.keeper.waits.begin(Stage::Settle);
        let mut tries = 1;
        loop {
            let done =
                failpoint::reply(Failpoint::SettleCommitted, batch.commit(pool, moves)).await;
            match self.keeper.ports.metrics.refused_late("settle", done) {
                Ok(at_us) => {
                    self.committed += 1;
                    return Ok(at_us);
                }
                Err(error) => match protocol::after(protocol::said_by_ledger(&error), tries) {
                    Next::Repeat => {
                        tracing::warn!(%error, "a move's outcome is unknown");
                        failpoint::reach(Failpoint::SettleRepeat).await;
                        tries += 1;
                    }
                    Next::Doubt => return Err(error.after_unknown()),
                    Next::Refused => return Err(error),
                },
            }
        }
    }

    /// The moves are committed: the book knows, and Redis will.
    fn note(&self, steps: impl Iterator<Item = Step>, at_us: i64, done: &mut Committed) {
        let metrics = &self.keeper.ports.metrics;
        let mut book = self.keeper.book();
        for (step, reply) in steps {
            metrics.moved(step.kind);
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
                | Kind::RefundRefused
                | Kind::GivenUp
                | Kind::Accepted
                | Kind::Granted
                | Kind::Held
                | Kind::Unspecified => (None, What::Paid),
            };
            if let Some(live) = ended {
                if step.kind == Kind::Expired {
                    metrics.delays.expired(at_us - live.deadline_us);
                }
                done.follow.push(Settled {
                    what,
                    buyer: live.buyer,
                    order: step.order,
                    rank: live.ticket,
                    indices: book.indices(&live.units),
                });
            }
            done.told.extend(reply);
        }
    }
}

fn doubt(error: &LedgerError) -> End {
    tracing::warn!(%error, "moves could not be committed");
    End::Doubt
}
