//! The functions in Redis: what they grant, what they give back, and whom they refuse.

use floodgate_cell::inventory::{Grant, HoldTry, InventoryError, Joined, Settled, What, remove};
use proto::limits::AUDIT_RETURNED_MAX;
use redis::AsyncCommands;

use crate::stores::{InRedis, Stores, buyer, order};

/// What batch after batch is asked of one bucket.
struct Desk<'a> {
    stores: &'a Stores,
    at: InRedis,
    cap: u32,
    holds: i64,
    settles: i64,
    joins: i64,
}

impl Desk<'_> {
    async fn open<'a>(stores: &'a Stores, sale: &str, units: u32, cap: u32) -> Desk<'a> {
        let bucket = stores.bucket(sale, units, cap).await;
        let at = stores.load(&bucket).await;
        assert_eq!(at.free, units);
        Desk { stores, at, cap, holds: 0, settles: 0, joins: 0 }
    }

    async fn hold_as(
        &self,
        of: (i64, i64),
        tries: &[HoldTry],
    ) -> Result<Vec<Grant>, InventoryError> {
        self.stores.inventory.hold(&self.at.run, &self.at.keys, of, self.cap, tries).await
    }

    async fn hold(&mut self, tries: &[HoldTry]) -> Vec<Grant> {
        self.holds += 1;
        self.hold_as((self.at.epoch, self.holds), tries).await.unwrap()
    }

    async fn settle_as(&self, of: (i64, i64), all: &[Settled]) -> Result<u32, InventoryError> {
        self.stores.inventory.settle(&self.at.run, &self.at.keys, of, all).await
    }

    async fn settle(&mut self, all: &[Settled]) -> u32 {
        self.settles += 1;
        self.settle_as((self.at.epoch, self.settles), all).await.unwrap()
    }

    async fn join(&mut self, (tail, ranks_end): (u64, u64), joiners: &[u32]) -> Vec<Joined> {
        self.joins += 1;
        self.join_as((self.at.epoch, self.joins), (tail, ranks_end), joiners).await.unwrap()
    }

    async fn join_as(
        &self,
        of: (i64, i64),
        (tail, ranks_end): (u64, u64),
        joiners: &[u32],
    ) -> Result<Vec<Joined>, InventoryError> {
        let joiners: Vec<_> = joiners.iter().map(|&n| buyer(n)).collect();
        let gate = (tail, ranks_end, self.cap);
        self.stores.inventory.join(&self.at.run, &self.at.keys, of, gate, &joiners).await
    }
}

/// Order `order_number` of buyer `of` by the ticket of rank `rank`.
fn attempt(of: u32, order_number: u32, rank: u64, quantity: u32) -> HoldTry {
    HoldTry { buyer: buyer(of), order: order(order_number), rank, quantity }
}

fn granted(paid: u8, indices: &[u32]) -> Grant {
    Grant::Granted { paid, indices: indices.to_vec() }
}

fn settled(what: What, of: u32, order_number: u32, rank: u64, indices: &[u32]) -> Settled {
    Settled { what, buyer: buyer(of), order: order(order_number), rank, indices: indices.to_vec() }
}

#[tokio::test]
async fn a_batch_of_holds_means_its_holds_one_after_another() {
    let stores = Stores::start().await;
    let mut desk = Desk::open(&stores, "s01", 5, 3).await;
    let batch = [
        attempt(1, 1, 0, 2),
        // The same buyer again, by another request, and by the same one.
        attempt(1, 2, 1, 1),
        attempt(1, 1, 0, 2),
        attempt(2, 4, 2, 4),
        attempt(3, 5, 3, 3),
        // What is left is too little for one and enough for the next.
        attempt(4, 6, 4, 1),
        attempt(5, 7, 5, 1),
    ];
    let answers = desk.hold(&batch).await;
    let expected = [
        granted(0, &[0, 1]),
        Grant::Live(order(1)),
        Grant::Live(order(1)),
        Grant::OverCap(0),
        granted(0, &[2, 3, 4]),
        Grant::None,
        Grant::None,
    ];
    assert_eq!(answers, expected);
    let again = desk.hold_as((desk.at.epoch, 1), &batch).await.unwrap();
    assert_eq!(again, expected, "the last batch's answer, once more");
}

#[tokio::test]
async fn returned_units_go_first_in_their_order() {
    let stores = Stores::start().await;
    let mut desk = Desk::open(&stores, "s01", 6, 3).await;
    desk.hold(&[attempt(1, 1, 0, 2), attempt(2, 2, 1, 2)]).await;
    assert_eq!(desk.settle(&[settled(What::Returned, 2, 2, 1, &[3, 2])]).await, 2);
    assert_eq!(desk.settle(&[settled(What::Returned, 1, 1, 0, &[0, 1])]).await, 2);
    let answers = desk.hold(&[attempt(3, 3, 2, 3), attempt(4, 4, 3, 3), attempt(5, 5, 4, 1)]).await;
    assert_eq!(answers, [granted(0, &[3, 2, 0]), granted(0, &[1, 4, 5]), Grant::None]);
}

#[tokio::test]
async fn paid_units_count_against_the_cap_and_spent_tickets_stay_spent() {
    let stores = Stores::start().await;
    let mut desk = Desk::open(&stores, "s01", 10, 3).await;
    desk.hold(&[attempt(1, 1, 0, 2)]).await;
    assert_eq!(desk.settle(&[settled(What::Paid, 1, 1, 0, &[0, 1])]).await, 0);
    let answers = desk.hold(&[attempt(1, 2, 0, 1), attempt(1, 3, 1, 2), attempt(1, 4, 1, 1)]).await;
    assert_eq!(answers, [Grant::Spent, Grant::OverCap(2), granted(2, &[2])]);
    // The end of a hold does not give its ticket back; a hold that never was does.
    desk.settle(&[settled(What::Returned, 1, 4, 1, &[2])]).await;
    assert_eq!(desk.hold(&[attempt(1, 5, 1, 1)]).await, [Grant::Spent]);
    assert_eq!(desk.hold(&[attempt(1, 6, 2, 1)]).await, [granted(2, &[2])]);
    desk.settle(&[settled(What::Undone, 1, 6, 2, &[2])]).await;
    assert_eq!(desk.hold(&[attempt(1, 7, 2, 1)]).await, [granted(2, &[2])]);
}

#[tokio::test]
async fn what_does_not_name_the_order_gives_nothing_back() {
    let stores = Stores::start().await;
    let mut desk = Desk::open(&stores, "s01", 4, 2).await;
    desk.hold(&[attempt(1, 1, 0, 2), attempt(2, 2, 1, 2)]).await;
    let rows = [
        ("another order", settled(What::Returned, 1, 9, 0, &[0, 1]), 0),
        ("another's units", settled(What::Returned, 1, 1, 0, &[2, 3]), 0),
        ("its own", settled(What::Returned, 1, 1, 0, &[0, 1]), 2),
        ("its own again", settled(What::Returned, 1, 1, 0, &[0, 1]), 0),
        ("undone, too late", settled(What::Undone, 1, 1, 0, &[0, 1]), 0),
        ("paid, too late", settled(What::Paid, 1, 1, 0, &[0, 1]), 0),
    ];
    for (number, (what, step, freed)) in rows.iter().enumerate() {
        // "another's units" names order 1 as the buyer's live one, so buyer 1 is rid of it; the units stay.
        assert_eq!(desk.settle(std::slice::from_ref(step)).await, *freed, "row {number}: {what}");
    }
    assert_eq!(
        desk.hold(&[attempt(1, 3, 0, 1)]).await,
        [Grant::Spent],
        "late undoing unspends nothing"
    );
    assert_eq!(desk.hold(&[attempt(3, 3, 2, 2)]).await, [granted(0, &[0, 1])], "each unit once");
    let batch = [settled(What::Returned, 3, 3, 2, &[0, 1]), settled(What::Paid, 2, 2, 1, &[2, 3])];
    assert_eq!(desk.settle(&batch).await, 2);
    let of = (desk.at.epoch, desk.settles);
    assert_eq!(desk.settle_as(of, &batch).await.unwrap(), 2, "the same answer");
    assert_eq!(desk.hold(&[attempt(4, 4, 3, 2), attempt(5, 5, 4, 1)]).await[1], Grant::None);
    assert_eq!(desk.hold(&[attempt(2, 6, 5, 1)]).await, [Grant::OverCap(2)]);
}

#[tokio::test]
async fn joiners_keep_their_rank_until_it_is_of_no_use() {
    let stores = Stores::start().await;
    let mut desk = Desk::open(&stores, "s01", 4, 2).await;
    let rank = |rank| Joined::Rank(rank);
    assert_eq!(desk.join((0, 3), &[1, 2, 1]).await, [rank(0), rank(1), rank(0)]);
    assert_eq!(
        desk.join((0, 3), &[2, 3, 4, 5]).await,
        [rank(1), rank(2), Joined::NoRank, Joined::NoRank]
    );
    assert_eq!(desk.join((0, 9), &[4, 3, 5]).await, [rank(3), rank(2), rank(4)]);
    // 0 is below the tail, 1 has a live order, 2 was spent and its order ended.
    desk.hold(&[attempt(2, 2, 1, 1), attempt(3, 3, 2, 1)]).await;
    desk.settle(&[settled(What::Returned, 3, 3, 2, &[1])]).await;
    assert_eq!(desk.join((1, 9), &[1, 2, 3, 4]).await, [rank(5), rank(1), rank(6), rank(3)]);
    desk.settle(&[settled(What::Paid, 2, 2, 1, &[0])]).await;
    assert_eq!(desk.join((1, 9), &[2]).await, [rank(7)], "the cap allows another");
    desk.hold(&[attempt(2, 4, 7, 1)]).await;
    desk.settle(&[settled(What::Paid, 2, 4, 7, &[1])]).await;
    assert_eq!(desk.join((1, 9), &[2]).await, [Joined::OverCap]);
    let again = desk.join_as((desk.at.epoch, desk.joins), (0, 0), &[9]).await.unwrap();
    assert_eq!(again, [Joined::OverCap], "the last batch's answer");
}

#[tokio::test]
async fn a_redis_that_knows_something_else_says_so() {
    let stores = Stores::start().await;
    let mut desk = Desk::open(&stores, "s01", 4, 2).await;
    desk.hold(&[attempt(1, 1, 0, 1)]).await;
    desk.settle(&[settled(What::Paid, 1, 1, 0, &[0])]).await;
    desk.join((0, 9), &[1]).await;
    let epoch = desk.at.epoch;
    for (of, is_stale) in
        [((epoch - 1, 2), true), ((epoch + 1, 2), true), ((epoch, 3), false), ((epoch, 0), false)]
    {
        let answers = [
            desk.hold_as(of, &[attempt(2, 2, 1, 1)]).await.map(drop),
            desk.settle_as(of, &[]).await.map(drop),
            desk.join_as(of, (0, 9), &[2]).await.map(drop),
        ];
        for answer in answers {
            match answer {
                Err(InventoryError::Stale(_)) => assert!(is_stale, "{of:?}"),
                Err(InventoryError::Forgotten(_)) => assert!(!is_stale, "{of:?}"),
                other => panic!("{of:?}: {other:?}"),
            }
        }
    }
    let run = std::mem::replace(&mut desk.at.run, "another".into());
    let other_run = desk.hold_as((epoch, 2), &[attempt(2, 2, 1, 1)]).await;
    assert!(matches!(other_run, Err(InventoryError::Forgotten(_))), "{other_run:?}");
    desk.at.run = run;

    let mut redis = stores.redis.clone();
    let _: () = redis.hset(&desk.at.keys.rec, "open", 0).await.unwrap();
    let closed = desk.hold_as((epoch, 2), &[attempt(2, 2, 1, 1)]).await;
    assert!(matches!(closed, Err(InventoryError::Forgotten(_))), "{closed:?}");
    let _: () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
    let empty = desk.hold_as((epoch, 2), &[attempt(2, 2, 1, 1)]).await;
    assert!(matches!(empty, Err(InventoryError::Forgotten(_))), "{empty:?}");
    let _: () = redis::cmd("FUNCTION").arg("FLUSH").query_async(&mut redis).await.unwrap();
    let without = desk.hold_as((epoch, 2), &[attempt(2, 2, 1, 1)]).await;
    assert!(matches!(without, Err(InventoryError::Unknown(_))), "{without:?}");
    let reloaded = desk.hold_as((epoch, 2), &[attempt(2, 2, 1, 1)]).await;
    assert!(matches!(reloaded, Err(InventoryError::Forgotten(_))), "{reloaded:?}");
}

#[tokio::test]
async fn a_killed_or_paused_redis_is_noticed_and_nothing_is_granted_twice() {
    let stores = Stores::start().await;
    let mut desk = Desk::open(&stores, "s01", 4, 2).await;
    desk.hold(&[attempt(1, 1, 0, 1)]).await;
    stores.stack.pause("cell-1/redis").await.unwrap();
    let tries = [attempt(2, 2, 1, 2)];
    let lost = desk.hold_as((desk.at.epoch, 2), &tries).await;
    assert!(matches!(lost, Err(InventoryError::Unknown(_))), "{lost:?}");
    stores.stack.resume("cell-1/redis").await.unwrap();
    stores.stack.wait_ready("cell-1/redis").await.unwrap();
    // The lost call is carried out by now or will be: either way the batch has one answer.
    for _ in 0..2 {
        assert_eq!(desk.hold_as((desk.at.epoch, 2), &tries).await.unwrap(), [granted(0, &[1, 2])]);
    }

    stores.stack.kill("cell-1/redis").await.unwrap();
    stores.stack.restart("cell-1/redis").await.unwrap();
    let first = desk.hold_as((desk.at.epoch, 3), &tries).await;
    let then = desk.hold_as((desk.at.epoch, 3), &tries).await;
    assert!(first.is_err(), "{first:?}");
    assert!(matches!(then, Err(InventoryError::Forgotten(_))), "{then:?}");
}

#[tokio::test]
async fn a_bucket_at_rest_takes_no_room() {
    let stores = Stores::start().await;
    let mut desk = Desk::open(&stores, "s01", 4, 2).await;
    desk.join((0, 9), &[1, 2, 3]).await;
    desk.hold(&[attempt(1, 1, 0, 1), attempt(2, 2, 1, 1)]).await;
    desk.settle(&[settled(What::Paid, 1, 1, 0, &[0]), settled(What::Returned, 2, 2, 1, &[1])])
        .await;
    remove(&stores.inventory, &desk.at.run, &desk.at.keys).await.unwrap();
    let keys: Vec<String> = stores.redis.clone().keys("*").await.unwrap();
    assert!(keys.is_empty(), "{keys:?}");
}

#[tokio::test]
async fn a_long_list_of_returned_units_is_read_in_slices() {
    let stores = Stores::start().await;
    let desk = Desk::open(&stores, "s01", 10, 2).await;
    let mut redis = stores.redis.clone();
    let all: Vec<u32> = (0..).take(2 * AUDIT_RETURNED_MAX + 100).collect();
    let _: () = redis.rpush(&desk.at.keys.free, &all).await.unwrap();
    let mut listed = Vec::new();
    while listed.len() < all.len() {
        let of = (&desk.at.keys, desk.at.epoch);
        let looked = stores.inventory.look(of.0, of.1, &[3, 4], listed.len()).await.unwrap();
        assert_eq!((looked.returned, &looked.owners[..]), (all.len(), &[None, None][..]));
        assert!(!looked.lists_all() && looked.listed.len() <= AUDIT_RETURNED_MAX);
        assert!(!looked.listed.is_empty());
        listed.extend(looked.listed);
    }
    assert_eq!(listed, all);
    let () = redis.ltrim(&desk.at.keys.free, 0, 4).await.unwrap();
    let short = stores.inventory.look(&desk.at.keys, desk.at.epoch, &[], 0).await.unwrap();
    assert!(short.lists_all() && short.listed == all[..5]);
    let behind = stores.inventory.look(&desk.at.keys, desk.at.epoch, &[], 6).await.unwrap();
    assert!(!behind.lists_all() && behind.listed.is_empty());
}

/// Somebody sets up otherwise a Redis that is in use: no connection breaks of it, and no new run tells of it.
#[tokio::test]
async fn a_redis_that_begins_to_forget_is_left_until_it_is_set_right() {
    let stores = Stores::start().await;
    let mut redis = stores.redis.clone();
    let mut set = async |policy: &str| {
        let set = redis::cmd("CONFIG").arg("SET").arg("maxmemory-policy").arg(policy).to_owned();
        let () = set.query_async(&mut redis).await.unwrap();
    };
    let run = stores.inventory.run().await.unwrap();
    stores.inventory.look_again().await.unwrap();
    set("allkeys-lru").await;
    assert_eq!(stores.inventory.run().await.unwrap(), run, "nobody has looked");
    for left in [stores.inventory.look_again().await, stores.inventory.run().await.map(drop)] {
        let Err(InventoryError::Unknown(why)) = left else { panic!("{left:?}") };
        assert!(why.contains("set maxmemory-policy noeviction"), "{why}");
    }
    stores.inventory.look_again().await.unwrap();
    set("noeviction").await;
    assert_eq!(stores.inventory.run().await.unwrap(), run);
    stores.inventory.look_again().await.unwrap();
}
