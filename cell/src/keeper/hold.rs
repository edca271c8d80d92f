//! The stage that holds units: a batch is granted by Redis, committed by Postgres, and then answered.

use super::protocol::{self, AfterRefusal, Next, Refusal};
use super::reign::End;
use super::{HoldAsked, Keeper, Live, MoveAsked, Need, Reign, Stage as At, Why};
use crate::failpoint::{self, Failpoint};
use crate::inventory::{Grant, HoldTry, Settled, What};
use crate::ledger::{Hold, HoldBatch, LedgerError};
use crate::link::Reply;
use crate::seeded;
use proto::fault::{Fault, Reason};
use proto::id::OrderId;
use proto::invariant::Invariant;
use proto::limits::BATCH_CALLS_MAX;
use proto::rank::{Standing, standing};
use proto::wire::cell::{Order, answer::Kind};
use proto::wire::storefront::order::State;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc::Receiver;

/// When a buyer may ask again whose turn has not come, and one whose last order is just ending.
const NOT_ADMITTED_MS: u32 = 1_000;
const ENDING_MS: u32 = 300;
/// When a buyer may ask again after Postgres refused for reasons of its own.
const REFUSED_MS: u32 = 1_000;

struct Stage<'a> {
    keeper: &'a Arc<Keeper>,
    reign: &'a Reign,
    /// The last batch that Postgres has.
    committed: i64,
    /// The last batch that Redis has.
    granted: i64,
}

/// A hold that Redis granted, with the caller who waits for it.
struct Granted {
    asked: HoldAsked,
    hold: Hold,
    indices: Vec<u32>,
}

/// Works the queue off until it must end.
pub(super) async fn serve(
    keeper: &Arc<Keeper>,
    holds: &mut Receiver<HoldAsked>,
    reign: &Reign,
) -> End {
    let mut stage = Stage { keeper, reign, committed: reign.hold_batch, granted: 0 };
    let mut batch = Vec::with_capacity(BATCH_CALLS_MAX);
    loop {
        tokio::select! {
            biased;
            () = reign.stop.cancelled() => return End::Stopped,
            taken = holds.recv_many(&mut batch, keeper.ports.batch_calls_max) => if taken == 0 { return End::Stopped },
        }
        let ran = tokio::select! {
            ran = stage.run(batch.drain(..)) => ran,
            never = keeper.waits.refuse_while_slow(Need::Commit, holds, |asked, fault| {
                keeper.refuse_early(asked.reply, fault);
            }) => match never {},
        };
        if let Err(end) = ran {
            return end;
        }
    }
}

impl Stage<'_> {
    async fn run(&mut self, batch: impl Iterator<Item = HoldAsked>) -> Result<(), End> {
        let asked = self.fit(batch);
        if asked.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let grants = self.grant(&asked).await?;
        let mut granted = Vec::with_capacity(asked.len());
        let mut later = Vec::new();
        for (asked, grant) in asked.into_iter().zip(grants) {
            match grant {
                Grant::Granted { paid, indices } => {
                    granted.push(self.granted(asked, paid, indices)?)
                }
                // It may be an order of this very batch, so it is answered after the commit.
                Grant::Live(order) => later.push((asked, order)),
                Grant::Spent => self.repeat(asked, Reason::TicketSpent.into()),
                Grant::OverCap(_) => self.repeat(asked, Reason::OverCap.into()),
                Grant::None => {
                    let again_ms = self.keeper.book().gate.leave_unmet(asked.rank, asked.quantity);
                    asked.reply.refuse(&Fault::later(Reason::NoUnitNow, again_ms));
                }
            }
        }
        let committed = self.commit_all(granted).await;
        for (asked, order) in later {
            self.answer_live(asked, order);
        }
        self.keeper.ports.metrics.hold_batch(began.elapsed());
        committed
    }

    /// Those of a batch that may be tried; the others are answered.
    fn fit(&self, batch: impl Iterator<Item = HoldAsked>) -> Vec<HoldAsked> {
        let now_us = self.keeper.now_us().unwrap_or(0);
        let mut fit = Vec::with_capacity(BATCH_CALLS_MAX);
        for asked in batch {
            if asked.reply.is_late() {
                asked.reply.refuse(&Reason::DeadlinePassed.into());
                continue;
            }
            let book = self.keeper.book();
            if let Some(live) = book.order(asked.order) {
                let answer = same_request(live, asked.quantity)
                    .map(|()| book.show(asked.order, live, now_us));
                drop(book);
                answer_with(asked.reply, answer);
                continue;
            }
            let closed = book.terms.closed(now_us);
            let cap = book.terms.record.cap;
            let cursor = if self.keeper.place.standard { book.joined } else { book.gate.cursor() };
            let cursor = if seeded::planted!(GateIgnored) { u64::MAX } else { cursor };
            let stands = standing(asked.rank, book.gate.tail(), cursor);
            drop(book);
            // What was asked before is answered as it was, whatever has happened since.
            match (closed, stands) {
                (Some(fault), _) => self.repeat(asked, fault),
                (None, Standing::Waiting(_)) => {
                    asked.reply.refuse(&Fault::later(Reason::NotAdmitted, NOT_ADMITTED_MS));
                }
                (None, Standing::Passed) => self.repeat(asked, Reason::TicketExpired.into()),
                (None, Standing::Admitted) if asked.quantity == 0 => {
                    asked.reply.refuse(&Fault::field("quantity", "must be at least 1"));
                }
                (None, Standing::Admitted) if asked.quantity > cap => {
                    asked.reply.refuse(&Reason::OverCap.into());
                }
                (None, Standing::Admitted) => fit.push(asked),
            }
        }
        fit
    }

    async fn grant(&mut self, asked: &[HoldAsked]) -> Result<Vec<Grant>, End> {
        let tries: Vec<_> = asked
            .iter()
            .map(|asked| HoldTry {
                buyer: asked.buyer,
                order: asked.order,
                rank: asked.rank,
                quantity: asked.quantity,
            })
            .collect();
        let inventory = self.keeper.ports.inventory(self.keeper);
        let cap = self.keeper.book().terms.record.cap;
        let batch = (self.reign.epoch, self.granted + 1);
        let mut times = 1;
        failpoint::reach(Failpoint::HoldAsked).await;
        loop {
            let grants = inventory.hold(&self.reign.run, &self.reign.keys, batch, cap, &tries);
            let grants = failpoint::reply(Failpoint::HoldGranted, grants).await;
            match self.keeper.ports.metrics.refused_late("hold", grants) {
                Ok(grants) => {
                    self.granted += 1;
                    return Ok(grants);
                }
                Err(error) => {
                    tracing::warn!(%error, times, "a batch of grants has no answer");
                    match protocol::after(protocol::said_by_redis(&error), times) {
                        Next::Repeat => times += 1,
                        Next::Refused | Next::Doubt => return Err(End::Doubt),
                    }
                }
            }
        }
    }

    fn granted(&self, asked: HoldAsked, paid: u8, indices: Vec<u32>) -> Result<Granted, End> {
        let book = self.keeper.book();
        let Some(mut units) = book.units(&indices) else {
            drop(book);
            self.keeper.ports.metrics.broken(Invariant::Inv2);
            tracing::error!(?indices, "redis granted units that the bucket does not have");
            return Err(End::Doubt);
        };
        // As a take-over would read them, so that every answer about the order is the same.
        units.sort_unstable();
        let hold = Hold {
            order: asked.order,
            buyer: asked.buyer,
            ticket: asked.rank,
            units,
            first_slot: paid,
            amount_minor: book.terms.amount_minor(asked.quantity),
        };
        drop(book);
        Ok(Granted { asked, hold, indices })
    }

    /// Commits the batch as one; if a single hold stands in the way, one by one.
    async fn commit_all(&mut self, granted: Vec<Granted>) -> Result<(), End> {
        if granted.is_empty() {
            return Ok(());
        }
        match self.commit(&granted).await {
            Ok(at_us) => {
                self.done(granted, at_us).await;
                Ok(())
            }
            Err(error)
                if protocol::hold_refused(Refusal::of(&error), granted.len())
                    == AfterRefusal::OneByOne =>
            {
                for one in granted {
                    let one = vec![one];
                    match self.commit(&one).await {
                        Ok(at_us) => self.done(one, at_us).await,
                        Err(error) => self.failed(one, error)?,
                    }
                }
                Ok(())
            }
            Err(error) => self.failed(granted, error),
        }
    }

    async fn commit(&mut self, granted: &[Granted]) -> Result<i64, LedgerError> {
        let record = self.keeper.book().terms.record.clone();
        let batch = HoldBatch {
            bucket: self.keeper.place.bucket,
            epoch: self.reign.epoch,
            batch: self.committed + 1,
            revision: record.revision,
            currency: &record.currency,
        };
        let holds: Vec<Hold> = granted.iter().map(|granted| granted.hold.clone()).collect();
        let pool = self.keeper.ports.pool(self.keeper);
        let _waiting = self.keeper.waits.begin(At::Hold);
        #[cfg(feature = "drills")]
        if seeded::planted!(AnswerBeforeCommit) {
            self.committed += 1;
            seeded::commit_later(pool, &batch, &holds);
            return Ok(self.keeper.now_us().unwrap_or(0));
        }
        let mut tries = 1;
        loop {
            let done = failpoint::reply(Failpoint::HoldCommitted, batch.commit(pool, &holds)).await;
            match self.keeper.ports.metrics.refused_late("hold", done) {
                Ok(at_us) => {
                    self.committed += 1;
                    return Ok(at_us);
                }
                Err(error) => match protocol::after(protocol::said_by_ledger(&error), tries) {
                    Next::Repeat => {
                        tracing::warn!(%error, "a hold's outcome is unknown");
                        failpoint::reach(Failpoint::HoldRepeat).await;
                        tries += 1;
                    }
                    Next::Doubt => return Err(error.after_unknown()),
                    Next::Refused => return Err(error),
                },
            }
        }
    }

    /// The holds are committed: they are known, and their buyers are told.
    async fn done(&self, granted: Vec<Granted>, at_us: i64) {
        let answers = self.note(granted, at_us);
        failpoint::reach(Failpoint::HoldAnswer).await;
        for (reply, shown) in answers {
            reply.send(Kind::Order(shown));
        }
    }

    /// Writes committed holds into the book. Returns what their buyers are told.
    fn note(&self, granted: Vec<Granted>, at_us: i64) -> Vec<(Reply, Order)> {
        self.keeper.ports.metrics.held(granted.len());
        let mut answers = Vec::with_capacity(granted.len());
        let mut book = self.keeper.book();
        let ttl_us = i64::from(book.terms.record.hold_ttl_ms) * 1_000;
        let now_us = self.keeper.now_us().unwrap_or(at_us);
        for Granted { asked, hold, .. } in granted {
            let live = Live {
                buyer: hold.buyer,
                units: hold.units,
                state: State::Held,
                ticket: hold.ticket,
                deadline_us: at_us + ttl_us,
                amount_minor: hold.amount_minor,
                attempts: 0,
                intent: None,
                attempt: None,
            };
            let shown = book.show(hold.order, &live, now_us);
            book.hold(hold.order, live);
            answers.push((asked.reply, shown));
        }
        answers
    }

    /// The holds did not happen, or perhaps did: what was granted goes back, or the bucket is in doubt.
    fn failed(&self, granted: Vec<Granted>, error: LedgerError) -> Result<(), End> {
        let refusal = match &error {
            LedgerError::Stale(_) | LedgerError::Unknown(_) => {
                tracing::warn!(%error, "a hold could not be committed");
                return Err(End::Doubt);
            }
            // A unit that is taken was not Redis' to grant (INV-1).
            LedgerError::Taken(constraint) if constraint == "unit_once" => {
                self.keeper.ports.metrics.broken(Invariant::Inv1);
                tracing::error!("redis granted a unit that an order has");
                return Err(End::Doubt);
            }
            LedgerError::Taken(constraint) if constraint == "unit_slot" => Reason::OverCap.into(),
            LedgerError::Taken(constraint) if constraint == "order_ticket" => {
                Reason::TicketSpent.into()
            }
            LedgerError::Taken(_) => Reason::RequestIdReused.into(),
            LedgerError::NotSelling => {
                let now_us = self.keeper.now_us().unwrap_or(0);
                let closed = self.keeper.book().terms.closed(now_us);
                closed.unwrap_or_else(|| Fault::new(Reason::SaleNotOpen))
            }
            LedgerError::Conflict(_) | LedgerError::Refused(_) => {
                tracing::error!(%error, "postgres refuses holds");
                Fault::later(Reason::Overloaded, REFUSED_MS)
            }
        };
        for Granted { asked, hold, indices } in granted {
            let undone = Settled {
                what: What::Undone,
                buyer: hold.buyer,
                order: hold.order,
                rank: hold.ticket,
                indices,
            };
            if !self.keeper.undo(MoveAsked::undone(undone)) {
                return Err(End::Doubt);
            }
            self.repeat(asked, refusal.clone());
        }
        Ok(())
    }

    /// Answers with the order that the same request made before, if it did; otherwise with the refusal.
    fn repeat(&self, asked: HoldAsked, otherwise: Fault) {
        let why = Why::Repeat { quantity: asked.quantity, otherwise };
        self.keeper.look(asked.buyer, asked.order, why, asked.reply);
    }

    /// Answers with the buyer's live order, whatever the request.
    fn answer_live(&self, asked: HoldAsked, order: OrderId) {
        let now_us = self.keeper.now_us().unwrap_or(0);
        let book = self.keeper.book();
        let live = book.order(order).filter(|live| live.buyer == asked.buyer);
        let answer = match live {
            Some(live) if order == asked.order => {
                same_request(live, asked.quantity).map(|()| book.show(order, live, now_us))
            }
            Some(live) => Ok(book.show(order, live, now_us)),
            // Its end is committed and on its way to Redis.
            None => Err(Fault::later(Reason::NoUnitNow, ENDING_MS)),
        };
        drop(book);
        answer_with(asked.reply, answer);
    }
}

pub(super) fn same_request(live: &Live, quantity: u32) -> Result<(), Fault> {
    if u32::try_from(live.units.len()).is_ok_and(|units| units == quantity) {
        Ok(())
    } else {
        Err(Reason::RequestIdReused.into())
    }
}

pub(super) fn answer_with(reply: Reply, answer: Result<Order, Fault>) {
    match answer {
        Ok(order) => reply.send(Kind::Order(order)),
        Err(fault) => reply.refuse(&fault),
    }
}
