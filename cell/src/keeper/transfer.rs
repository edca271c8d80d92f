//! The stage that moves units: whatever transfer waits for this bucket is carried out, one step at a time.
//!
//! Units that leave are taken out of Redis first, so that nobody is granted them, and then given up in Postgres. Units
//! that come are accepted in Postgres first, then known in the book, then granted from in Redis. The record is told last.

use super::reign::End;
use super::{Keeper, MoveAsked, Reign};
use crate::failpoint::{self, Failpoint};
use crate::inventory::{InventoryError, Settled, What};
use crate::ledger::{LedgerError, Share, TransferSide};
use crate::transfer::{self, After, Outcome, Part, Seen, Step, TransferId};
use proto::id::{BuyerKey, OrderId};
use proto::invariant::Invariant;
use proto::limits::{BATCH_CALLS_MAX, BATCH_TRIES_MAX, LOCAL_INDICES_MAX};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// How often transfers are looked at when nothing new was decided.
const EVERY: Duration = Duration::from_secs(1);
/// In the place of a buyer, where there is none.
const NOBODY: BuyerKey = BuyerKey([0; 16]);

struct Stage<'a> {
    keeper: &'a Arc<Keeper>,
    reign: &'a Reign,
    /// The last batch that Redis has.
    moved: i64,
    /// What is known to be written down, of transfers that still wait.
    written: HashMap<(TransferId, Part), Vec<Share>>,
    /// Transfers that Postgres contradicts.
    left: HashSet<TransferId>,
}

/// Carries transfers out until it must end.
pub(super) async fn serve(keeper: &Arc<Keeper>, reign: &Reign) -> End {
    let mut changed = keeper.ports.transfers.changed();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (written, left) = (HashMap::new(), HashSet::new());
    let mut stage = Stage { keeper, reign, moved: 0, written, left };
    loop {
        tokio::select! {
            biased;
            () = reign.stop.cancelled() => return End::Stopped,
            _ = tick.tick() => {}
            Ok(()) = changed.changed() => {}
        }
        if let Err(end) = stage.round().await {
            return end;
        }
    }
}

impl Stage<'_> {
    async fn round(&mut self) -> Result<(), End> {
        let place = &self.keeper.place;
        let waiting = self.keeper.ports.transfers.of(&place.sale, place.number);
        self.written
            .retain(|known, _| waiting.iter().any(|(seen, part)| *known == (seen.id, *part)));
        self.left.retain(|known| waiting.iter().any(|(seen, _)| *known == seen.id));
        for (seen, part) in waiting {
            if self.reign.stop.is_cancelled() {
                return Err(End::Stopped);
            }
            if !self.left.contains(&seen.id) {
                self.step(&seen, part).await?;
            }
        }
        Ok(())
    }

    async fn step(&mut self, seen: &Seen, part: Part) -> Result<(), End> {
        let record = &seen.record;
        let side = TransferSide {
            bucket: self.keeper.place.bucket,
            epoch: self.reign.epoch,
            transfer: seen.id,
            peer: if part == Part::Give { record.to } else { record.from },
        };
        if !self.written.contains_key(&(seen.id, part)) {
            match side.find(self.keeper.ports.pool(self.keeper), part == Part::Accept).await {
                Ok(Some(written)) => drop(self.written.insert((seen.id, part), written)),
                Ok(None) => {}
                Err(LedgerError::Stale(why)) => {
                    tracing::warn!(why, "postgres contradicts");
                    return Err(End::Doubt);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot see how far a transfer has come");
                    return Ok(());
                }
            }
        }
        let written = self.written.get(&(seen.id, part)).map(Vec::as_slice);
        match transfer::next(record, part, written) {
            Step::Tell(record) => {
                self.keeper.ports.transfers.tell(seen, record);
                Ok(())
            }
            Step::GiveUp { most } => self.give_up(seen, side, most).await,
            Step::Accept { units } => self.accept(seen, side, units).await,
        }
    }

    async fn give_up(&mut self, seen: &Seen, side: TransferSide, most: u32) -> Result<(), End> {
        failpoint::reach(Failpoint::TransferAsked).await;
        let indices = self.take_out(seen.id, most).await?;
        let count = u32::try_from(indices.len()).unwrap_or(u32::MAX);
        let units = {
            let mut book = self.keeper.book();
            book.leave(count);
            book.units(&indices)
        };
        let Some(units) = units else {
            self.keeper.ports.metrics.broken(Invariant::Inv2);
            tracing::error!(?indices, "redis let units go that the bucket does not have");
            return Err(End::Doubt);
        };
        let units = transfer::ranges(units);
        let given_up = side.give_up(self.keeper.ports.pool(self.keeper), &units);
        let committed = failpoint::reply(Failpoint::TransferGivenUp, given_up).await;
        match self.after(Part::Give, &units, committed) {
            After::Follow => {
                self.keeper.book().give_up(&units);
                tracing::info!(sale = %self.keeper.place.sale, bucket = side.bucket.bucket, units = count, to = ?side.peer, "gave units up");
                self.keeper.ports.metrics.gave_up(count);
                self.tell(seen, Part::Give, units).await;
                Ok(())
            }
            After::Again => self.give_back(seen.id, &indices),
            After::Leave | After::TakeOver => Err(End::Doubt),
        }
    }

    async fn accept(
        &mut self,
        seen: &Seen,
        side: TransferSide,
        units: Vec<Share>,
    ) -> Result<(), End> {
        let count = units.iter().map(|share| share.units).fold(0, u32::saturating_add);
        let (end, granted) = {
            let book = self.keeper.book();
            (book.indices_end(), book.granted)
        };
        if granted.saturating_add(count) > LOCAL_INDICES_MAX {
            tracing::error!(transfer = ?seen.record, "more units than any sale has");
            self.left.insert(seen.id);
            return Ok(());
        } else if end.saturating_add(count) > LOCAL_INDICES_MAX {
            // A take-over leaves out what is no longer here.
            return Err(End::Doubt);
        }
        failpoint::reach(Failpoint::TransferAccept).await;
        let accepted = side.accept(self.keeper.ports.pool(self.keeper), &units);
        let committed = failpoint::reply(Failpoint::TransferAccepted, accepted).await;
        match self.after(Part::Accept, &units, committed) {
            After::Follow => {
                // The book first: it must know every unit that Redis may grant.
                let end = self.keeper.book().append(&units);
                failpoint::reach(Failpoint::TransferBooked).await;
                self.append(end, count).await?;
                self.keeper.book().accept(count);
                tracing::info!(sale = %self.keeper.place.sale, bucket = side.bucket.bucket, units = count, from = ?side.peer, "accepted units");
                self.keeper.ports.metrics.accepted(count);
                self.tell(seen, Part::Accept, units).await;
                Ok(())
            }
            After::Again => Ok(()),
            After::Leave => {
                self.keeper.ports.metrics.broken(Invariant::Inv2);
                tracing::error!(transfer = ?seen.record, "a bucket of this cell has units that are in transit; nobody sells them until people have looked");
                self.left.insert(seen.id);
                Ok(())
            }
            After::TakeOver => Err(End::Doubt),
        }
    }

    fn after(
        &self,
        part: Part,
        units: &[Share],
        committed: Result<Vec<Share>, LedgerError>,
    ) -> After {
        if let Err(error) = &committed {
            tracing::warn!(%error, ?part, "a transfer could not be committed");
        }
        transfer::after(part, units, &Outcome::from(committed))
    }

    async fn tell(&mut self, seen: &Seen, part: Part, units: Vec<Share>) {
        failpoint::reach(Failpoint::TransferTell).await;
        let told = transfer::told(&seen.record, part, &units);
        self.written.insert((seen.id, part), units);
        self.keeper.ports.transfers.tell(seen, told);
        self.keeper.ports.reports.changed(self.keeper);
    }

    /// What was taken out and not given up is free again.
    fn give_back(&self, transfer: TransferId, indices: &[u32]) -> Result<(), End> {
        self.keeper.book().leave(0);
        for some in indices.chunks(BATCH_CALLS_MAX) {
            let returned = Settled {
                what: What::Returned,
                buyer: NOBODY,
                order: OrderId(transfer.0),
                rank: 0,
                indices: some.to_vec(),
            };
            if !self.keeper.undo(MoveAsked::undone(returned)) {
                return Err(End::Doubt);
            }
        }
        Ok(())
    }

    async fn take_out(&mut self, transfer: TransferId, most: u32) -> Result<Vec<u32>, End> {
        let inventory = self.keeper.ports.inventory(self.keeper);
        let batch = (self.reign.epoch, self.moved + 1);
        for _ in 0..BATCH_TRIES_MAX {
            let (run, keys) = (&self.reign.run, &self.reign.keys);
            let taken = inventory.take_out(run, keys, batch, transfer, most);
            match failpoint::reply(Failpoint::TransferTaken, taken).await {
                Ok(indices) => {
                    self.moved += 1;
                    return Ok(indices);
                }
                Err(error) => doubtful(error)?,
            }
        }
        Err(End::Doubt)
    }

    async fn append(&mut self, end: u32, units: u32) -> Result<(), End> {
        let inventory = self.keeper.ports.inventory(self.keeper);
        let batch = (self.reign.epoch, self.moved + 1);
        for _ in 0..BATCH_TRIES_MAX {
            let (run, keys) = (&self.reign.run, &self.reign.keys);
            let appended = inventory.append(run, keys, batch, (end, units));
            match failpoint::reply(Failpoint::TransferAppended, appended).await {
                Ok(_) => {
                    self.moved += 1;
                    return Ok(());
                }
                Err(error) => doubtful(error)?,
            }
        }
        Err(End::Doubt)
    }
}

/// Whether the same batch may be sent again.
fn doubtful(error: InventoryError) -> Result<(), End> {
    match error {
        InventoryError::Unknown(why) => {
            tracing::warn!(why, "a move's outcome is unknown");
            Ok(())
        }
        InventoryError::Forgotten(why) | InventoryError::Stale(why) => {
            tracing::warn!(why, "redis contradicts");
            Err(End::Doubt)
        }
    }
}
