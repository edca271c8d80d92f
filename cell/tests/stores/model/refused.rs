//! What must change nothing: a batch that is sent again, and whatever is done under an older epoch.

use floodgate_cell::inventory::{HoldTry, InventoryError, LineHint, close};
use floodgate_cell::ledger::{self, GateRow, Hold, LedgerError, SettleBatch, Share, TransferSide};
use floodgate_cell::transfer::TransferId;
use proto::wire::storefront::order::State;
use std::fmt::Debug;

use super::keeper::Keeper;
use super::reign::planned;
use super::transfers::Moved;
use crate::stores::{Bucket, KEEPER, buyer, order};

/// Nobody uses this order or transfer.
const ORDER: u32 = 999_999;
const TRANSFER: TransferId = TransferId([0xee; 16]);

impl Keeper<'_> {
    /// The last batch of every stage, sent again, has the answer that it had.
    pub(super) async fn again(&self) {
        let before = self.stores.counts(self.bucket.bucket).await;
        self.again_to_redis().await;
        self.again_to_postgres().await;
        assert_eq!(self.stores.counts(self.bucket.bucket).await, before, "nothing was written");
    }

    async fn again_to_redis(&self) {
        let (epoch, batches, last) = (self.bucket.epoch, self.batches, &self.last);
        if batches.holds > 0 {
            let grants = self.hold_as((epoch, batches.holds), &last.tries).await.unwrap();
            assert_eq!(grants, last.grants);
        }
        if batches.settles > 0 {
            let freed = self.settle_as((epoch, batches.settles), &last.followed).await.unwrap();
            assert_eq!(freed, last.freed);
        }
        if batches.joins > 0 {
            let joined = self.join_as((epoch, batches.joins), &last.joiners).await.unwrap();
            assert_eq!(joined, last.joined);
        }
        let of = (epoch, batches.moves);
        match last.moved.as_ref().filter(|_| batches.moves > 0) {
            Some(Moved::Out(transfer, most, indices)) => {
                assert_eq!(&self.take_out_as(of, *transfer, *most).await.unwrap(), indices);
            }
            Some(Moved::In(end, units)) => {
                assert_eq!(self.append_as(of, *end, *units).await.unwrap(), end + units);
            }
            None => {}
        }
    }

    async fn again_to_postgres(&self) {
        let (epoch, last, pool) = (self.bucket.epoch, &self.last, &self.stores.pool);
        let bucket = self.bucket.bucket;
        if self.bucket.hold_batch > 0 {
            let of = (epoch, self.bucket.hold_batch);
            let at_us = self.bucket.hold_as(pool, of, &last.held).await.unwrap();
            assert_eq!(at_us, last.held_at_us);
        }
        if self.bucket.settle_batch > 0 {
            let batch = SettleBatch { bucket, epoch, batch: self.bucket.settle_batch };
            assert_eq!(batch.commit(pool, &last.moves).await.unwrap(), last.moved_at_us);
        }
        if let Some(refund) = &last.refund {
            refund.begin(pool, bucket, epoch).await.unwrap();
            refund.end(pool, bucket, epoch).await.unwrap();
        }
        if let Some((transfer, peer, units)) = &last.given {
            let side = self.side(*transfer, *peer);
            assert_eq!(&side.give_up(pool, units).await.unwrap(), units);
        }
        if let Some((transfer, peer, units)) = &last.accepted {
            let side = self.side(*transfer, *peer);
            assert_eq!(&side.accept(pool, units).await.unwrap(), units);
        }
    }

    /// Whoever still acts under the epoch before is refused everywhere, and nothing changes.
    pub(super) async fn stale(&self) {
        let before = self.stores.counts(self.bucket.bucket).await;
        self.stale_in_redis().await;
        self.stale_in_postgres().await;
        self.refunds_of_what_is_not_paid().await;
        assert_eq!(self.stores.counts(self.bucket.bucket).await, before, "nothing was written");
    }

    async fn stale_in_redis(&self) {
        let (epoch, batches) = (self.bucket.epoch - 1, self.batches);
        let entry = HoldTry { buyer: buyer(0), order: order(ORDER), rank: 5_000, quantity: 1 };
        is_stale_there(self.hold_as((epoch, batches.holds + 1), &[entry]).await);
        is_stale_there(self.settle_as((epoch, batches.settles + 1), &[]).await);
        is_stale_there(self.join_as((epoch, batches.joins + 1), &[0]).await);
        let of = (epoch, batches.moves + 1);
        is_stale_there(self.take_out_as(of, TRANSFER, 1).await);
        is_stale_there(self.append_as(of, self.model.end(), 1).await);
        let pool = &self.stores.pool;
        let loaded = ledger::load(pool, self.bucket.bucket, self.bucket.epoch).await.unwrap();
        let old = Bucket { epoch, ..self.bucket.clone() };
        let (at, plan) = planned(self.stores, &old, &loaded).await;
        let of = (&at.keys, epoch);
        is_stale_there(
            close(&self.stores.inventory, &at.run, of, &plan, LineHint::default()).await,
        );
    }

    async fn stale_in_postgres(&self) {
        let (epoch, pool, bucket) = (self.bucket.epoch - 1, &self.stores.pool, self.bucket.bucket);
        let unit = self.model.numbers.first().copied().unwrap_or(1);
        let hold = Hold {
            order: order(ORDER),
            buyer: buyer(0),
            ticket: 5_000,
            units: vec![unit],
            first_slot: 0,
            amount_minor: 1,
        };
        let of = (epoch, self.bucket.hold_batch + 1);
        is_stale(self.bucket.hold_as(pool, of, &[hold]).await);
        let batch = SettleBatch { bucket, epoch, batch: self.bucket.settle_batch + 1 };
        is_stale(batch.commit(pool, &[]).await);
        let side = TransferSide { epoch, ..self.side(TRANSFER, None) };
        is_stale(side.give_up(pool, &[Share { first_unit: unit, units: 1 }]).await);
        is_stale(side.accept(pool, &[Share { first_unit: 5_000_000, units: 1 }]).await);
        let gate = GateRow { ranks: 1_000_000, tail: 0, cursor: 0, gate_us: 0 };
        is_stale(ledger::set_gate(pool, bucket, epoch, gate).await);
        for (number, one) in &self.model.orders {
            if one.state == State::Paid {
                is_stale(self.refund_of(*number).begin(pool, bucket, epoch).await);
                is_stale(self.refund_of(*number).end(pool, bucket, epoch).await);
            }
        }
        is_stale(ledger::load(pool, bucket, epoch).await);
        assert_eq!(ledger::take_over(pool, bucket, epoch, KEEPER).await.unwrap(), None);
    }

    /// Nor is money given back that nobody has paid.
    async fn refunds_of_what_is_not_paid(&self) {
        let (epoch, pool, bucket) = (self.bucket.epoch, &self.stores.pool, self.bucket.bucket);
        for (number, one) in self.model.orders.iter().filter(|(_, one)| one.is_live()) {
            let refused = self.refund_of(*number).begin(pool, bucket, epoch).await;
            assert!(matches!(refused, Err(LedgerError::Conflict(_))), "{one:?}: {refused:?}");
            let refused = self.refund_of(*number).end(pool, bucket, epoch).await;
            assert!(matches!(refused, Err(LedgerError::Conflict(_))), "{one:?}: {refused:?}");
        }
    }
}

fn is_stale_there<T: Debug>(refused: Result<T, InventoryError>) {
    assert!(matches!(refused, Err(InventoryError::Stale(_))), "{refused:?}");
}

fn is_stale<T: Debug>(refused: Result<T, LedgerError>) {
    assert!(matches!(refused, Err(LedgerError::Stale(_))), "{refused:?}");
}
