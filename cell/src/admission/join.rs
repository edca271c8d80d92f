//! The stage that gives buyers their places: a batch is deduplicated and numbered by Redis, from ranks that Postgres
//! has, and answered with tickets.

use crate::failpoint::{self, Failpoint};
use crate::inventory::Joined;
use crate::keeper::protocol::{self, Next};
use crate::keeper::{End, JoinAsked, Keeper, Need, Reign, Stage as At};
use crate::ledger::{self, GateRow};
use proto::fault::{Fault, Reason};
use proto::limits::{BATCH_CALLS_MAX, RANK_BLOCK};
use proto::ticket::Ticket;
use proto::wire::cell::{Place, answer::Kind};
use std::sync::Arc;
use tokio::sync::mpsc::Receiver;

struct Stage<'a> {
    keeper: &'a Arc<Keeper>,
    reign: &'a Reign,
    /// End of the committed ranks.
    ranks: u64,
    /// The last batch that Redis has.
    batch: i64,
}

/// Works the queue off until it must end.
pub(crate) async fn serve(
    keeper: &Arc<Keeper>,
    joins: &mut Receiver<JoinAsked>,
    reign: &Reign,
) -> End {
    let mut stage = Stage { keeper, reign, ranks: reign.ranks, batch: 0 };
    let mut batch = Vec::with_capacity(BATCH_CALLS_MAX);
    loop {
        tokio::select! {
            biased;
            () = reign.stop.cancelled() => return End::Stopped,
            taken = joins.recv_many(&mut batch, keeper.ports.batch_calls_max) => if taken == 0 { return End::Stopped },
        }
        keeper.ports.metrics.join_batch(batch.len());
        let ran = tokio::select! {
            ran = stage.run(&mut batch) => ran,
            never = keeper.waits.refuse_while_slow(Need::Rank, joins, |asked, fault| {
                keeper.refuse_early(asked.reply, fault);
            }) => match never {},
        };
        if let Err(end) = ran {
            return end;
        }
    }
}

impl Stage<'_> {
    async fn run(&mut self, batch: &mut Vec<JoinAsked>) -> Result<(), End> {
        // A block holds more than a batch, so the second round has ranks for everybody.
        while !batch.is_empty() {
            let late = batch.extract_if(.., |asked| asked.reply.is_late());
            late.for_each(|asked| asked.reply.refuse(&Reason::DeadlinePassed.into()));
            let joined = self.number(batch).await?;
            failpoint::reach(Failpoint::JoinAnswer).await;
            let mut without = Vec::new();
            for (asked, joined) in batch.drain(..).zip(joined) {
                match joined {
                    Joined::Rank(rank) => self.answer(asked, rank),
                    Joined::OverCap => asked.reply.refuse(&Reason::OverCap.into()),
                    Joined::NoRank => without.push(asked),
                }
            }
            *batch = without;
            if !batch.is_empty() {
                self.commit_block().await?;
            }
        }
        Ok(())
    }

    async fn number(&mut self, batch: &[JoinAsked]) -> Result<Vec<Joined>, End> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let buyers: Vec<_> = batch.iter().map(|asked| asked.buyer).collect();
        let (tail, cap) = {
            let mut book = self.keeper.book();
            book.ask_ranks(buyers.len());
            (book.gate.tail(), book.terms.record.cap)
        };
        let inventory = self.keeper.ports.inventory(self.keeper);
        let number = (self.reign.epoch, self.batch + 1);
        let (run, keys) = (&self.reign.run, &self.reign.keys);
        let mut tries = 1;
        failpoint::reach(Failpoint::JoinAsked).await;
        loop {
            let said = inventory.join(run, keys, number, (tail, self.ranks, cap), &buyers);
            let said = failpoint::reply(Failpoint::JoinNumbered, said).await;
            match self.keeper.ports.metrics.refused_late("join", said) {
                Ok(joined) => {
                    self.batch += 1;
                    let end = joined.iter().filter_map(Joined::rank).max().map_or(0, |max| max + 1);
                    self.keeper.book().give_ranks(end);
                    return Ok(joined);
                }
                Err(error) => {
                    tracing::warn!(%error, tries, "a batch of joins has no answer");
                    match protocol::after(protocol::said_by_redis(&error), tries) {
                        Next::Repeat => tries += 1,
                        Next::Refused | Next::Doubt => return Err(End::Doubt),
                    }
                }
            }
        }
    }

    async fn commit_block(&mut self) -> Result<(), End> {
        let ranks = self.ranks + RANK_BLOCK;
        let row = GateRow { ranks, tail: 0, cursor: 0, gate_us: 0 };
        let pool = self.keeper.ports.pool(self.keeper);
        let _waiting = self.keeper.waits.begin(At::Join);
        failpoint::reach(Failpoint::JoinBlock).await;
        let set = ledger::set_gate(pool, self.keeper.place.bucket, self.reign.epoch, row);
        let set = failpoint::reply(Failpoint::JoinBlockSet, set).await;
        match self.keeper.ports.metrics.refused_late("join", set) {
            Ok(()) => {
                self.ranks = ranks;
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "cannot commit further ranks");
                Err(End::Doubt)
            }
        }
    }

    fn answer(&self, asked: JoinAsked, rank: u64) {
        let Some(key) = self.keeper.ports.tickets.load().first().cloned() else {
            asked.reply.refuse(&Fault::later(Reason::BucketMoving, 1_000));
            return;
        };
        let ticket = Ticket {
            sale: self.keeper.place.sale.clone(),
            bucket: self.keeper.place.number,
            buyer: asked.buyer,
            window: 0,
            index: rank,
            weight: 1,
        };
        asked.reply.send(Kind::Place(Place { ticket: key.sign(&ticket), rank }));
    }
}
