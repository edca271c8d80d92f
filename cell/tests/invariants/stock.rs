//! Stock: nothing is sold twice, nothing is stranded, nobody has more than the cap.

use std::time::Duration;

use proto::fault::Reason;
use proto::id::BuyerKey;
use proto::wire::admin::sale::Class;
use proto::wire::cell::{SaleRecord, sale_record::State as SaleState};
use proto::wire::storefront::order::State;
use redis::AsyncCommands;

use crate::audit::audit;
use crate::cell::{CellUnderTest, DEADLINE, GOOD_CARD, No, StateOf, id_of, seed, until};
use crate::short_sale;
use crate::storm::{Storm, Told};

/// How long a store sleeps.
const SLEEP: Duration = Duration::from_millis(3_500);

#[tokio::test]
async fn inv_1_no_unit_is_in_two_orders_however_often_buyers_ask() {
    let seed = seed();
    let cell = CellUnderTest::start(&["p1"]).await;
    let sale = short_sale("storm", 40, 2);
    cell.open(&sale).await;
    let storm = Storm::begin(&cell, &sale, 90, seed);
    let told = storm.end().await;
    assert!(told.held.len() >= 20, "{} holds", told.held.len());
    assert!(!told.paid.is_empty());
    audit(&cell, &sale, &told).await;
}

#[tokio::test]
async fn inv_2_counts_add_up_after_postgres_was_killed() {
    let seed = seed();
    let cell = CellUnderTest::start(&["p1", "p2"]).await;
    let sale = short_sale("storm", 40, 2);
    cell.open(&sale).await;
    let storm = Storm::begin(&cell, &sale, 80, seed);
    storm.held(8).await;
    cell.stack.kill("cell-1/postgres").await.unwrap();
    cell.stack.restart("cell-1/postgres").await.unwrap();
    let told = storm.end().await;
    assert!(told.held.len() >= 10, "it went on");
    audit(&cell, &sale, &told).await;
}

#[tokio::test]
async fn inv_3_stores_that_sleep_strand_nothing() {
    let seed = seed();
    let cell = CellUnderTest::start(&["p1", "p2"]).await;
    let sale = short_sale("storm", 60, 2);
    cell.open(&sale).await;
    let storm = Storm::begin(&cell, &sale, 120, seed);
    storm.held(6).await;
    // Longer than any process waits for either, so that what was asked is carried out after its batch was given up.
    for (number, store) in (1..).zip(["cell-1/redis", "cell-1/postgres"]) {
        cell.stack.pause(store).await.unwrap();
        tokio::time::sleep(SLEEP).await;
        cell.stack.resume(store).await.unwrap();
        storm.held(6 + 5 * number).await;
    }
    let told = storm.end().await;
    audit(&cell, &sale, &told).await;
}

#[tokio::test]
async fn inv_3_nothing_is_stranded_when_redis_is_killed_or_flushed() {
    let seed = seed();
    let cell = CellUnderTest::start(&["p1"]).await;
    let sale = short_sale("storm", 40, 2);
    cell.open(&sale).await;
    let storm = Storm::begin(&cell, &sale, 80, seed);
    storm.held(8).await;
    cell.stack.kill("cell-1/redis").await.unwrap();
    cell.stack.restart("cell-1/redis").await.unwrap();
    storm.held(16).await;
    let url = cell.stack.redis_admin_url("cell-1").unwrap();
    let redis = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await;
    let mut redis = redis.unwrap();
    let _: () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
    let told = storm.end().await;
    audit(&cell, &sale, &told).await;

    // It is over: the bucket comes to rest, and nothing of it is left in Redis.
    let over = SaleRecord { state: SaleState::Cancelled.into(), update_ms: 2, ..sale.clone() };
    cell.decide(&over).await;
    until(DEADLINE, async || {
        let keys: Vec<String> = redis.keys("*").await.map_err(|error| error.to_string())?;
        if keys.is_empty() { Ok(()) } else { Err(format!("{} keys are left", keys.len())) }
    })
    .await;
}

#[tokio::test]
async fn inv_4_nobody_has_more_than_the_cap() {
    let cell = CellUnderTest::start(&["p1"]).await;
    // Everyday commerce: a class of its own, and everybody is admitted at once.
    let sale = SaleRecord { class: Class::Standard.into(), ..short_sale("daily", 40, 3) };
    cell.open(&sale).await;
    let mut told = Told::default();
    let buyer = BuyerKey([1; 16]);
    let first = cell.held("daily", buyer, (2, [1; 16])).await;
    told.hold(buyer, &first);
    // Many requests at once come to the one live order.
    let (ticket, _) = cell.join("daily", buyer).await.unwrap();
    let more = (10..40).map(|n| cell.reserve("daily", buyer, &ticket, (1, [n; 16])));
    for order in futures_util::future::join_all(more).await {
        assert_eq!(order.unwrap().order, first.order);
    }
    let paid = cell.pay("daily", buyer, id_of(&first), GOOD_CARD).await.unwrap();
    assert_eq!(paid.state(), State::Paid);
    told.paid.push(id_of(&first));

    let (ticket, _) = cell.join("daily", buyer).await.unwrap();
    let over = cell.reserve("daily", buyer, &ticket, (2, [2; 16])).await;
    assert_eq!(over.unwrap_err(), No::Refused(Reason::OverCap));
    let last = cell.reserve("daily", buyer, &ticket, (1, [3; 16])).await.unwrap();
    told.hold(buyer, &last);
    cell.pay("daily", buyer, id_of(&last), GOOD_CARD).await.unwrap();
    told.paid.push(id_of(&last));
    assert_eq!(cell.join("daily", buyer).await.unwrap_err(), No::Refused(Reason::OverCap));
    audit(&cell, &sale, &told).await;
}
