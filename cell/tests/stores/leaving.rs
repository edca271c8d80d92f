//! Moves of units in Redis: what leaves is granted to nobody and can come back, what comes is granted like the rest.

use floodgate_cell::inventory::{Grant, HoldTry, InventoryError, Settled, What};
use floodgate_cell::transfer::TransferId;
use proto::id::{BuyerKey, OrderId};
use redis::AsyncCommands;

use crate::stores::{InRedis, Stores, buyer, order};

const TRANSFER: TransferId = TransferId([0x7f; 16]);

struct Desk<'a> {
    stores: &'a Stores,
    at: InRedis,
    holds: i64,
    settles: i64,
}

impl Desk<'_> {
    async fn open<'a>(stores: &'a Stores, sale: &str, units: u32) -> Desk<'a> {
        let bucket = stores.bucket(sale, units, 100).await;
        Desk { stores, at: stores.load(&bucket).await, holds: 0, settles: 0 }
    }

    /// Buyer `n` holds so many units.
    async fn hold(&mut self, n: u32, quantity: u32) -> Option<Vec<u32>> {
        self.holds += 1;
        let hold = HoldTry { buyer: buyer(n), order: order(n), rank: n.into(), quantity };
        let (at, number) = (&self.at, (self.at.epoch, self.holds));
        let granted = self.stores.inventory.hold(&at.run, &at.keys, number, 100, &[hold]).await;
        match granted.unwrap().remove(0) {
            Grant::Granted { indices, .. } => Some(indices),
            Grant::None => None,
            other => panic!("{other:?}"),
        }
    }

    async fn give_back(&mut self, buyer: BuyerKey, order: OrderId, indices: &[u32]) -> u32 {
        self.settles += 1;
        let indices = indices.to_vec();
        let returned = Settled { what: What::Returned, buyer, order, rank: 0, indices };
        let (at, number) = (&self.at, (self.at.epoch, self.settles));
        self.stores.inventory.settle(&at.run, &at.keys, number, &[returned]).await.unwrap()
    }

    async fn take_out(&self, of: (i64, i64), most: u32) -> Result<Vec<u32>, InventoryError> {
        self.stores.inventory.take_out(&self.at.run, &self.at.keys, of, TRANSFER, most).await
    }

    async fn append(&self, of: (i64, i64), end: u32, units: u32) -> Result<u32, InventoryError> {
        self.stores.inventory.append(&self.at.run, &self.at.keys, of, (end, units)).await
    }
}

#[tokio::test]
async fn what_leaves_is_granted_to_nobody_and_may_come_back() {
    let stores = Stores::start().await;
    let mut desk = Desk::open(&stores, "s01", 10).await;
    assert_eq!(desk.hold(1, 4).await.unwrap(), [0, 1, 2, 3]);
    assert_eq!(desk.give_back(buyer(1), order(1), &[0, 1, 2, 3]).await, 4);
    let epoch = desk.at.epoch;
    assert_eq!(desk.take_out((epoch, 1), 3).await.unwrap(), [4, 5, 6], "never granted ones first");
    assert_eq!(desk.take_out((epoch, 1), 3).await.unwrap(), [4, 5, 6], "the same batch");
    assert_eq!(desk.take_out((epoch, 2), 5).await.unwrap(), [7, 8, 9, 2, 3], "then the last");
    assert_eq!(desk.take_out((epoch, 3), 0).await.unwrap(), [0; 0]);
    assert_eq!(desk.hold(2, 3).await, None, "two are left");
    assert_eq!(desk.hold(3, 2).await.unwrap(), [0, 1]);
    assert_eq!(desk.take_out((epoch, 4), 9).await.unwrap(), [0; 0], "nothing is free");

    // It was not committed: they come back once, and only to whoever names the transfer.
    let nobody = BuyerKey([0; 16]);
    assert_eq!(desk.give_back(nobody, order(3), &[4, 9]).await, 0);
    assert_eq!(desk.give_back(nobody, OrderId(TRANSFER.0), &[4, 9, 0]).await, 2);
    assert_eq!(desk.give_back(nobody, OrderId(TRANSFER.0), &[4, 9]).await, 0);
    assert_eq!(desk.hold(4, 2).await.unwrap(), [4, 9]);
    assert_eq!(desk.hold(5, 1).await, None);
}

#[tokio::test]
async fn what_comes_stands_behind_the_rest() {
    let stores = Stores::start().await;
    let mut desk = Desk::open(&stores, "s01", 4).await;
    let epoch = desk.at.epoch;
    assert_eq!(desk.take_out((epoch, 1), 2).await.unwrap(), [0, 1]);
    assert_eq!(desk.append((epoch, 2), 4, 3).await.unwrap(), 7);
    assert_eq!(desk.append((epoch, 2), 4, 3).await.unwrap(), 7, "the same batch");
    assert_eq!(desk.hold(1, 5).await.unwrap(), [2, 3, 4, 5, 6]);
    assert_eq!(desk.hold(2, 1).await, None);
    let odd = desk.append((epoch, 3), 4, 3).await;
    assert!(matches!(odd, Err(InventoryError::Forgotten(_))), "another end: {odd:?}");
}

#[tokio::test]
async fn moves_of_another_epoch_number_or_redis_are_refused() {
    let stores = Stores::start().await;
    let desk = Desk::open(&stores, "s01", 10).await;
    let epoch = desk.at.epoch;
    for (of, stale) in [((epoch - 1, 1), true), ((epoch + 1, 1), true), ((epoch, 2), false)] {
        for refused in
            [desk.take_out(of, 1).await.map(drop), desk.append(of, 10, 1).await.map(drop)]
        {
            match refused {
                Err(InventoryError::Stale(_)) if stale => {}
                Err(InventoryError::Forgotten(_)) if !stale => {}
                other => panic!("{of:?}: {other:?}"),
            }
        }
    }
    let granted: u32 = stores.redis.clone().hget(&desk.at.keys.rec, "granted").await.unwrap();
    let next: u32 = stores.redis.clone().hget(&desk.at.keys.rec, "next").await.unwrap();
    assert_eq!((granted, next), (10, 0), "nothing was changed");
    let _: () = redis::cmd("FLUSHDB").query_async(&mut stores.redis.clone()).await.unwrap();
    let gone = desk.take_out((epoch, 1), 1).await;
    assert!(matches!(gone, Err(InventoryError::Forgotten(_))), "{gone:?}");
}

#[tokio::test]
async fn very_many_leave_in_one_call() {
    let stores = Stores::start().await;
    let mut desk = Desk::open(&stores, "s01", 100_000).await;
    let most = proto::limits::TRANSFER_UNITS_MAX;
    assert_eq!(desk.take_out((desk.at.epoch, 1), most).await.unwrap().len(), most as usize);
    assert_eq!(desk.hold(1, 1).await.unwrap(), [most]);
}
