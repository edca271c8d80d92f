//! A take-over's load: in slices, in any state of Redis, under epochs that only rise.

use std::collections::BTreeSet;

use floodgate_cell::inventory::{Before, Grant, HoldTry, InventoryError, LoadPlan, forget, load};
use floodgate_cell::ledger::{Holder, Loaded, Share, SpentTicket};
use proto::wire::storefront::order::State;
use redis::AsyncCommands;

use crate::stores::{FIRST_UNIT, InRedis, Stores, buyer, order};

/// A bucket of 6,000 units of which orders have every second one up to 5,000; every fifth order is paid.
fn big(epoch: i64) -> Loaded {
    let holder = |n: u32| Holder {
        order: order(n),
        buyer: buyer(n),
        state: if n.is_multiple_of(5) { State::Paid } else { State::Held }.into(),
        ticket: n.into(),
        deadline_us: 0,
        revision: 1,
        attempt: 0,
        intent: None,
        amount_minor: 1,
        units: vec![FIRST_UNIT + 2 * n],
    };
    Loaded {
        epoch,
        hold_batch: 7,
        settle_batch: 9,
        granted: 6_000,
        ranks: 3_000,
        given: None,
        tail: 0,
        cursor: 2_500,
        gate_us: 0,
        shares: vec![Share { first_unit: FIRST_UNIT, units: 6_000 }],
        holders: (0..2_500).map(holder).collect(),
        spent: (0..2_500).map(|n| SpentTicket { buyer: buyer(n), rank: n.into() }).collect(),
    }
}

#[tokio::test]
async fn slices_bring_every_unit_buyer_and_ticket() {
    let stores = Stores::start().await;
    let bucket = stores.bucket("s01", 6_000, 100).await;
    let at = stores.load_as(&bucket, &big(1)).await;
    assert_eq!(at.free, 3_500);

    let mut given = BTreeSet::new();
    let hold = async |batch: i64, tries: &[HoldTry]| {
        stores.inventory.hold(&at.run, &at.keys, (1, batch), 100, tries).await.unwrap()
    };
    let tries = [
        HoldTry { buyer: buyer(1), order: order(9_001), rank: 2_999, quantity: 1 },
        HoldTry { buyer: buyer(5), order: order(9_002), rank: 5, quantity: 1 },
        HoldTry { buyer: buyer(5), order: order(9_003), rank: 2_500, quantity: 100 },
    ];
    assert_eq!(
        hold(1, &tries).await,
        [Grant::Live(order(1)), Grant::Spent, Grant::OverCap(1)],
        "what was loaded is known"
    );
    for batch in 2..=36_u32 {
        let try_one = HoldTry {
            buyer: buyer(10_000 + batch),
            order: order(10_000 + batch),
            rank: 2_500 + u64::from(batch),
            quantity: 100,
        };
        let answers = hold(batch.into(), &[try_one]).await;
        let [Grant::Granted { paid: 0, indices }] = &answers[..] else { panic!("{answers:?}") };
        for &index in indices {
            assert!(index % 2 == 1 || index >= 5_000, "{index} is an order's");
            assert!(given.insert(index), "{index} twice");
        }
    }
    assert_eq!(given.len(), 3_500);
    let one_more = HoldTry { buyer: buyer(1), order: order(1), rank: 2_999, quantity: 1 };
    let one_more = HoldTry { buyer: buyer(99_999), ..one_more };
    assert_eq!(hold(37, &[one_more]).await, [Grant::None]);
}

#[tokio::test]
async fn epochs_in_redis_only_rise_and_the_one_before_is_named() {
    let stores = Stores::start().await;
    let bucket = stores.bucket("s01", 6_000, 2).await;
    let old = stores.load_as(&bucket, &big(3)).await;
    let run = stores.inventory.run().await.unwrap();
    let begin = async |epoch: i64| {
        let loaded = big(epoch);
        let keys = floodgate_cell::inventory::BucketKeys::new("acme", "s01", 0, epoch);
        let plan = LoadPlan::new(&loaded, |unit| unit.checked_sub(FIRST_UNIT));
        load(&stores.inventory, &run, &keys, &loaded, &plan).await
    };
    let refused = begin(2).await;
    assert!(matches!(refused, Err(InventoryError::Stale(_))), "{refused:?}");
    let again = begin(3).await.unwrap();
    assert_eq!(again, Before { epoch: 0, given: Some(3_000) }, "it leaves nothing behind");
    assert_eq!(begin(4).await.unwrap(), Before { epoch: 3, given: Some(3_000) });
    let late = HoldTry { buyer: buyer(9_999), order: order(9_999), rank: 2_999, quantity: 1 };
    let refused = stores.inventory.hold(&run, &old.keys, (3, 1), 2, &[late]).await;
    assert!(matches!(refused, Err(InventoryError::Stale(_))), "{refused:?}");

    let of_epoch_3 = async || {
        let keys: Vec<String> = stores.redis.clone().keys("*:e3:*").await.unwrap();
        keys.len()
    };
    assert!(of_epoch_3().await > 0);
    forget(&stores.inventory, &run, &old.keys).await.unwrap();
    assert_eq!(of_epoch_3().await, 0);
}

#[tokio::test]
async fn a_load_that_broke_off_serves_nobody_and_is_begun_anew() {
    let stores = Stores::start().await;
    let bucket = stores.bucket("s01", 6_000, 2).await;
    let at = stores.load_as(&bucket, &big(1)).await;
    // As after a load that came to its orders and not to its end: closed, with other units taken.
    let mut redis = stores.redis.clone();
    let _: () = redis.hset(&at.keys.rec, "open", 0).await.unwrap();
    let _: () = redis.setrange(&at.keys.units, 5_999 * 16, &[9_u8; 16]).await.unwrap();
    let _: () = redis.rpush(&at.keys.free, 0).await.unwrap();
    let lone = HoldTry { buyer: buyer(9_999), order: order(9_999), rank: 2_999, quantity: 1 };
    let hold = async |at: &InRedis, batch| {
        stores.inventory.hold(&at.run, &at.keys, (1, batch), 2, &[lone]).await
    };
    let closed = hold(&at, 1).await;
    assert!(matches!(closed, Err(InventoryError::Forgotten(_))), "{closed:?}");
    let again = stores.load_as(&bucket, &big(1)).await;
    assert_eq!(again.free, 3_500);
    let free: Vec<u32> = redis.lrange(&again.keys.free, 0, -1).await.unwrap();
    assert_eq!((free.len(), free[0]), (2_499, 1), "nothing of the load before is left");
    assert_eq!(hold(&again, 1).await.unwrap(), [Grant::Granted { paid: 0, indices: vec![1] }]);
}
