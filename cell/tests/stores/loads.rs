//! A take-over's load: in slices, in any state of Redis, under epochs that only rise.

use std::collections::BTreeSet;

use floodgate_cell::inventory::{
    Before, BucketKeys, Grant, HoldTry, Inventory, InventoryError, LineHint, LoadPlan, close,
    forget, load,
};
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
        let keys = BucketKeys::new("acme", "s01", 0, epoch);
        let plan = LoadPlan::new(&loaded, |unit| unit.checked_sub(FIRST_UNIT));
        load(&stores.inventory, &run, &keys, &loaded, &plan).await.map(|before| (before, keys))
    };
    let refused = begin(2).await;
    assert!(matches!(refused, Err(InventoryError::Stale(_))), "{refused:?}");
    let (again, _) = begin(3).await.unwrap();
    assert_eq!(again, Before { oldest: 0, given: Some(3_000) }, "it leaves nothing behind");
    // Whoever does not come to tidy up is told again, and so is everybody after.
    assert_eq!(begin(4).await.unwrap().0, Before { oldest: 3, given: Some(3_000) });
    let (before, keys) = begin(5).await.unwrap();
    assert_eq!(before, Before { oldest: 3, given: Some(3_000) });
    let late = HoldTry { buyer: buyer(9_999), order: order(9_999), rank: 2_999, quantity: 1 };
    let refused = stores.inventory.hold(&run, &old.keys, (3, 1), 2, &[late]).await;
    assert!(matches!(refused, Err(InventoryError::Stale(_))), "{refused:?}");

    let left = async |epoch: i64| {
        let keys: Vec<String> = stores.redis.clone().keys(format!("*:e{epoch}:*")).await.unwrap();
        keys.len()
    };
    assert!(left(3).await > 0 && left(4).await > 0);
    forget(&stores.inventory, &run, (&keys, 5), before.oldest).await.unwrap();
    assert_eq!((left(3).await, left(4).await), (0, 0));
    assert!(left(5).await > 0);
    assert_eq!(begin(5).await.unwrap().0.oldest, 0, "and there is nothing to name any more");
}

#[tokio::test]
async fn a_rank_is_believed_only_of_this_run_and_of_the_last_to_serve() {
    let stores = Stores::start().await;
    let bucket = stores.bucket("s01", 6_000, 2).await;
    let at = stores.load_as(&bucket, &big(1)).await;
    let mut redis = stores.redis.clone();
    let close = async |epoch: i64, served: i64, answered: u64| {
        let loaded = big(epoch);
        let keys = BucketKeys::new("acme", "s01", 0, epoch);
        let plan = LoadPlan::new(&loaded, |unit| unit.checked_sub(FIRST_UNIT));
        let hint = LineHint { served, answered };
        close(&stores.inventory, &at.run, (&keys, epoch), &plan, hint).await.unwrap().given
    };
    let rank = async || -> u64 { stores.redis.clone().hget(&at.keys.rec, "rank").await.unwrap() };
    // 40 of the 3,000 ranks that are committed were given out.
    let _: () = redis.hset(&at.keys.rec, "rank", 40).await.unwrap();
    assert_eq!((close(2, 1, 0).await, rank().await), (Some(40), 40));
    // A keeper who remembers more than the record knows better.
    assert_eq!((close(3, 1, 45).await, rank().await), (Some(45), 45));
    // Somebody has served under epoch 4, in another Redis.
    assert_eq!((close(5, 4, 0).await, rank().await), (None, 3_000));

    // A copy of an earlier record is put in place: its rank is of its own time, and so is its run.
    let _: () = redis.hset(&at.keys.rec, "rank", 20).await.unwrap();
    let copy: Vec<u8> = redis::cmd("DUMP").arg(&at.keys.rec).query_async(&mut redis).await.unwrap();
    stores.stack.kill("cell-1/redis").await.unwrap();
    stores.stack.restart("cell-1/redis").await.unwrap();
    let url = stores.stack.endpoint("cell-1/redis").unwrap().url;
    let admin = stores.stack.redis_admin_url("cell-1").unwrap();
    let client = redis::Client::open(admin).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let restore = redis::cmd("RESTORE").arg(&at.keys.rec).arg(0).arg(copy).to_owned();
    let _: () = restore.query_async(&mut redis).await.unwrap();
    let inventory = Inventory::new(&url).unwrap();
    let run = inventory.run().await.unwrap();
    let (loaded, keys) = (big(6), BucketKeys::new("acme", "s01", 0, 6));
    let plan = LoadPlan::new(&loaded, |unit| unit.checked_sub(FIRST_UNIT));
    let hint = LineHint { served: 5, answered: 0 };
    let before = floodgate_cell::inventory::close(&inventory, &run, (&keys, 6), &plan, hint).await;
    assert_eq!(before.unwrap(), Before { oldest: 1, given: None });
    let rank: u64 = redis.hget(&keys.rec, "rank").await.unwrap();
    assert_eq!(
        rank, 3_000,
        "nobody can say what was given out, so it goes on behind the last block"
    );
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
