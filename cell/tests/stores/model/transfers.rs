//! Units that leave a bucket, and units that come to one.

use floodgate_cell::inventory::{InventoryError, Settled, What};
use floodgate_cell::ledger::{Share, TransferSide};
use floodgate_cell::transfer::{TransferId, ranges};
use proto::id::{BuyerKey, OrderId};

use super::End;
use super::keeper::Keeper;

/// A batch of moves in Redis with its answer, to be sent again.
#[derive(Clone, Debug)]
pub(super) enum Moved {
    Out(TransferId, u32, Vec<u32>),
    In(u32, u32),
}

/// What was given up, and to whom.
pub(super) type Given = (TransferId, Option<u32>, Vec<Share>);
/// What was accepted, and from whom.
pub(super) type Accepted = (TransferId, Option<u32>, Vec<Share>);

impl Keeper<'_> {
    /// Free units leave, at most `most`: they are taken out in Redis, and given up in Postgres. Returns those that did.
    pub(super) async fn give(
        &mut self,
        transfer: TransferId,
        peer: Option<u32>,
        (most, end): (u32, End),
    ) -> Option<Vec<u32>> {
        let expected = self.model.take_out(transfer, most);
        self.batches.moves += 1;
        let of = (self.bucket.epoch, self.batches.moves);
        let indices = self.take_out_as(of, transfer, most).await.unwrap();
        assert_eq!(indices, expected);
        self.last.moved = Some(Moved::Out(transfer, most, indices.clone()));
        match end {
            End::Undone => self.stay(transfer, indices).await,
            End::DiesBefore => {
                self.model.put_back(&indices);
                self.take_over(false).await;
            }
            End::Done | End::DiesAfter => {
                let units = self.model.numbers_at(&indices);
                self.give_up(transfer, peer, ranges(units.clone())).await;
                if end == End::DiesAfter {
                    self.take_over(false).await;
                }
                return Some(units);
            }
        }
        None
    }

    async fn give_up(&mut self, transfer: TransferId, peer: Option<u32>, units: Vec<Share>) {
        let (pool, side) = (&self.stores.pool, self.side(transfer, peer));
        assert_eq!(side.find(pool, false).await.unwrap(), None);
        assert_eq!(side.give_up(pool, &units).await.unwrap(), units);
        assert_eq!(side.find(pool, false).await.unwrap().as_ref(), Some(&units));
        self.last.given = Some((transfer, peer, units));
    }

    /// What was taken out and not given up is free again.
    async fn stay(&mut self, transfer: TransferId, indices: Vec<u32>) {
        self.model.put_back(&indices);
        if !indices.is_empty() {
            let (buyer, order) = (BuyerKey([0; 16]), OrderId(transfer.0));
            let returned = Settled { what: What::Returned, buyer, order, rank: 0, indices };
            self.follow(vec![returned], true).await;
        }
    }

    /// Units come: they are accepted in Postgres, and appended in Redis. Returns whether they were.
    pub(super) async fn accept(
        &mut self,
        transfer: TransferId,
        peer: Option<u32>,
        (units, end): (&[Share], End),
    ) -> bool {
        if matches!(end, End::Undone | End::DiesBefore) {
            // Postgres was not reached, and Redis not asked.
            return false;
        }
        let (pool, side) = (&self.stores.pool, self.side(transfer, peer));
        assert_eq!(side.find(pool, true).await.unwrap(), None);
        assert_eq!(side.accept(pool, units).await.unwrap(), units);
        self.last.accepted = Some((transfer, peer, units.to_vec()));
        let indices_end = self.model.end();
        let numbers = units.iter().flat_map(|one| one.first_unit..one.first_unit + one.units);
        self.model.numbers.extend(numbers);
        if end == End::DiesAfter {
            self.take_over(false).await;
            return true;
        }
        let count = self.model.end() - indices_end;
        self.batches.moves += 1;
        let of = (self.bucket.epoch, self.batches.moves);
        assert_eq!(self.append_as(of, indices_end, count).await.unwrap(), self.model.end());
        self.last.moved = Some(Moved::In(indices_end, count));
        true
    }

    pub(super) fn side(&self, transfer: TransferId, peer: Option<u32>) -> TransferSide {
        TransferSide { bucket: self.bucket.bucket, epoch: self.bucket.epoch, transfer, peer }
    }

    pub(super) async fn take_out_as(
        &self,
        of: (i64, i64),
        transfer: TransferId,
        most: u32,
    ) -> Result<Vec<u32>, InventoryError> {
        self.stores.inventory.take_out(&self.at.run, &self.at.keys, of, transfer, most).await
    }

    pub(super) async fn append_as(
        &self,
        of: (i64, i64),
        end: u32,
        units: u32,
    ) -> Result<u32, InventoryError> {
        self.stores.inventory.append(&self.at.run, &self.at.keys, of, (end, units)).await
    }
}
