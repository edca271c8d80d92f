//! Taking a bucket over, and loading it into Redis.

use std::collections::BTreeMap;

use floodgate_cell::inventory::{
    Before, BucketKeys, InventoryError, LineHint, LoadPlan, close, fill, forget, open,
};
use floodgate_cell::ledger::{self, Loaded};
use redis::AsyncCommands;

use super::keeper::{Batches, Keeper};
use super::plain::number_of;
use crate::stores::{Bucket, InRedis, KEEPER, Stores};

/// Loads a bucket into Redis under its epoch. Returns what stood there before.
pub(super) async fn load(stores: &Stores, bucket: &Bucket) -> (InRedis, Before) {
    let loaded = ledger::load(&stores.pool, bucket.bucket, bucket.epoch).await.unwrap();
    let (at, plan) = planned(stores, bucket, &loaded).await;
    let of = (&at.keys, at.epoch);
    let hint = LineHint::default();
    let before = close(&stores.inventory, &at.run, of, &plan, hint).await.unwrap();
    fill(&stores.inventory, &at.run, of, &plan).await.unwrap();
    open(&stores.inventory, &at.run, of).await.unwrap();
    (at, before)
}

/// What is to be loaded, and where.
pub(super) async fn planned(
    stores: &Stores,
    bucket: &Bucket,
    loaded: &Loaded,
) -> (InRedis, LoadPlan) {
    let units = loaded.shares.iter().flat_map(|one| one.first_unit..one.first_unit + one.units);
    let indices: BTreeMap<u32, u32> = units.zip(0..).collect();
    let plan = LoadPlan::new(loaded, |unit| indices.get(&unit).copied());
    let run = stores.inventory.run().await.unwrap();
    let (org, sale) = (&bucket.record.org, &bucket.record.sale);
    let keys = BucketKeys::new(org, sale, bucket.bucket.bucket, loaded.epoch);
    (InRedis { run, keys, epoch: loaded.epoch, free: plan.free_units() }, plan)
}

impl Keeper<'_> {
    /// Redis has lost everything, and says so before anything is granted.
    pub(super) async fn is_lost(&mut self) {
        let of = (self.bucket.epoch, self.batches.holds + 1);
        let refused = self.hold_as(of, &[]).await;
        assert!(matches!(refused, Err(InventoryError::Forgotten(_))), "{refused:?}");
        self.take_over(true).await;
    }

    /// Takes the bucket over; if `twice`, from somebody who died while it was being loaded.
    pub(super) async fn take_over_after_another(&mut self, twice: bool) {
        if twice {
            self.raise().await;
            let bucket = &self.bucket;
            let (pool, inventory) = (&self.stores.pool, &self.stores.inventory);
            let loaded = ledger::load(pool, bucket.bucket, bucket.epoch).await.unwrap();
            let (at, plan) = planned(self.stores, bucket, &loaded).await;
            let of = (&at.keys, at.epoch);
            close(inventory, &at.run, of, &plan, LineHint::default()).await.unwrap();
            fill(inventory, &at.run, of, &plan).await.unwrap();
            self.at = at;
            // Nobody is served from what is half loaded.
            let refused = self.hold_as((self.bucket.epoch, 1), &[]).await;
            assert!(matches!(refused, Err(InventoryError::Forgotten(_))), "{refused:?}");
        }
        self.take_over(false).await;
    }

    pub(super) async fn take_over(&mut self, is_wiped: bool) {
        self.raise().await;
        let (pool, bucket) = (&self.stores.pool, self.bucket.bucket);
        let loaded = ledger::load(pool, bucket, self.bucket.epoch).await.unwrap();
        assert_eq!(loaded.hold_batch, self.bucket.hold_batch);
        assert_eq!(loaded.settle_batch, self.bucket.settle_batch);
        assert_eq!(loaded.ranks, self.model.ranks_end);
        let refunding = ledger::refunding(pool, bucket).await.unwrap();
        let mut refunding: Vec<u32> =
            refunding.iter().map(|(order, _)| number_of(*order)).collect();
        refunding.sort_unstable();
        let expected = self.model.orders.iter().filter(|(_, one)| one.refunding);
        assert_eq!(refunding, expected.map(|(number, _)| *number).collect::<Vec<_>>());
        let before;
        (self.at, before) = load(self.stores, &self.bucket).await;
        if !is_wiped {
            assert_eq!(before.given, Some(self.model.next_rank));
        }
        if before.oldest > 0 {
            let of = (&self.at.keys, self.at.epoch);
            forget(&self.stores.inventory, &self.at.run, of, before.oldest).await.unwrap();
        }
        self.model.take_over(is_wiped);
        self.batches = Batches::default();
        assert_eq!(self.at.free, self.model.free());
        self.nothing_is_left_of_older_epochs().await;
    }

    async fn raise(&mut self) {
        let (pool, bucket) = (&self.stores.pool, self.bucket.bucket);
        let taken = ledger::take_over(pool, bucket, self.bucket.epoch, KEEPER).await.unwrap();
        assert_eq!(taken, Some(self.bucket.epoch + 1));
        self.bucket.epoch += 1;
    }

    async fn nothing_is_left_of_older_epochs(&self) {
        let (prefix, _) = self.at.keys.rec.rsplit_once(':').unwrap();
        let mut redis = self.stores.redis.clone();
        let all: Vec<String> = redis.keys(format!("{prefix}:e*")).await.unwrap();
        let now = self.at.keys.of_epoch();
        assert!(all.iter().all(|key| now.contains(key)), "{all:?}");
    }
}
