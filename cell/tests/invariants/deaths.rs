//! Processes that die, sleep and come back, and an etcd that is not there.

use local::ServerState;
use proto::id::BuyerKey;
use proto::wire::cell::SaleRecord;
use proto::wire::storefront::order::State;

use crate::audit::audit;
use crate::cell::{CellUnderTest, DEADLINE, GOOD_CARD, StateOf, id_of, name_of, seed, until};
use crate::chain::checked_ledger;
use crate::line::Line;
use crate::short_sale;
use crate::storm::Storm;

fn other(process: &str) -> &'static str {
    if process == "p1" { "p2" } else { "p1" }
}

#[tokio::test]
async fn inv_6_what_was_acknowledged_survives_the_death_of_processes() {
    let seed = seed();
    let cell = CellUnderTest::start(&["p1", "p2"]).await;
    let sale = short_sale("storm", 60, 2);
    cell.open(&sale).await;
    let storm = Storm::begin(&cell, &sale, 120, seed);
    storm.held(8).await;
    let (keeper, epoch) = cell.keeper_after(&sale, 0).await;
    cell.stack.kill(&name_of(&keeper)).await.unwrap();
    let (heir, epoch) = cell.keeper_after(&sale, epoch).await;
    assert_eq!(heir, other(&keeper));
    // The dead one comes back under its name, and in a while it is given the bucket, for it was its to keep.
    cell.stack.restart(&name_of(&keeper)).await.unwrap();
    let (back, epoch) = cell.keeper_after(&sale, epoch).await;
    assert_eq!(back, keeper);
    storm.held(14).await;
    cell.stack.kill(&name_of(&back)).await.unwrap();
    let (again, _) = cell.keeper_after(&sale, epoch).await;
    assert_eq!(again, heir);
    let told = storm.end().await;
    audit(&cell, &sale, &told).await;
}

#[tokio::test]
async fn inv_6_a_process_that_is_restarted_at_once_keeps_on() {
    let seed = seed();
    let cell = CellUnderTest::start(&["p1"]).await;
    let sale = short_sale("storm", 40, 2);
    cell.open(&sale).await;
    let storm = Storm::begin(&cell, &sale, 80, seed);
    storm.held(8).await;
    let (_, epoch) = cell.keeper_after(&sale, 0).await;
    cell.stack.kill(&name_of("p1")).await.unwrap();
    cell.stack.restart(&name_of("p1")).await.unwrap();
    cell.keeper_after(&sale, epoch).await;
    // And once in good order.
    cell.stack.restart(&name_of("p1")).await.unwrap();
    let told = storm.end().await;
    audit(&cell, &sale, &told).await;
}

#[tokio::test]
async fn inv_3_a_process_that_stops_in_good_order_hands_its_buckets_over() {
    let cell = CellUnderTest::start(&["p1", "p2"]).await;
    let sale = SaleRecord { hold_ttl_ms: 600_000, ..short_sale("calm", 10, 2) };
    cell.open(&sale).await;
    let (ada, bob) = (BuyerKey([1; 16]), BuyerKey([2; 16]));
    let held = cell.held("calm", ada, (1, [1; 16])).await;
    let living = async || -> Vec<String> {
        let rows = sqlx::query_scalar("select process from process order by 1");
        rows.fetch_all(&cell.pool).await.unwrap()
    };
    let (keeper, epoch) = cell.keeper_after(&sale, 0).await;
    cell.stack.stop(&name_of(&keeper)).await.unwrap();
    // Nobody has to wait until its silence is taken for death.
    assert_eq!(living().await, [other(&keeper)]);
    let (heir, epoch) = cell.keeper_after(&sale, epoch).await;
    assert_eq!(heir, other(&keeper));
    cell.held("calm", bob, (1, [2; 16])).await;
    let shown = cell.show("calm", ada, id_of(&held)).await.unwrap();
    assert_eq!((shown.state(), shown.units), (State::Held, held.units.clone()));

    // It comes back, is given its bucket again, and the other one may go.
    cell.stack.restart(&name_of(&keeper)).await.unwrap();
    let (back, epoch) = cell.keeper_after(&sale, epoch).await;
    assert_eq!(back, keeper);
    cell.stack.stop(&name_of(&heir)).await.unwrap();
    let shown = cell.show("calm", ada, id_of(&held)).await.unwrap();
    assert_eq!(shown.units, held.units);
    let (same, same_epoch) = cell.keeper_after(&sale, epoch - 1).await;
    assert_eq!((same, same_epoch), (back, epoch), "nothing of it moved");
}

#[tokio::test]
async fn inv_8_of_two_processes_under_one_name_the_older_ends() {
    let cell = CellUnderTest::start(&["p1"]).await;
    let sale = short_sale("calm", 10, 2);
    cell.open(&sale).await;
    let (_, epoch) = cell.keeper_after(&sale, 0).await;
    let url = cell.start_server("cell-1/p1-again", "p1").await;
    until(DEADLINE, async || match cell.stack.state(&name_of("p1")).unwrap() {
        ServerState::Exited(status) if !status.success() => Ok(()),
        state => Err(format!("the older one is {state:?}")),
    })
    .await;
    let again = Line::to(&url);
    until(DEADLINE, async || match again.state("calm") {
        Some(state) if state.epoch > epoch => Ok(()),
        state => Err(format!("the newer one says {state:?}")),
    })
    .await;
    let state = cell.stack.state("cell-1/p1-again").unwrap();
    assert!(matches!(state, ServerState::Running), "the newer one is {state:?}");
}

#[tokio::test]
async fn inv_8_a_keeper_that_slept_writes_nothing_when_it_wakes() {
    let seed = seed();
    let cell = CellUnderTest::start(&["p1", "p2"]).await;
    let sale = short_sale("storm", 60, 2);
    cell.open(&sale).await;
    let storm = Storm::begin(&cell, &sale, 120, seed);
    storm.held(8).await;
    let (sleeper, before) = cell.keeper_after(&sale, 0).await;
    cell.stack.pause(&name_of(&sleeper)).await.unwrap();
    let (heir, epoch) = cell.keeper_after(&sale, before).await;
    assert_eq!(heir, other(&sleeper));
    // Calls that were sent to it in its sleep are carried out now, or would be.
    cell.stack.resume(&name_of(&sleeper)).await.unwrap();
    let told = storm.end().await;
    audit(&cell, &sale, &told).await;
    let rows = checked_ledger(&cell.pool, cell.bucket("storm").await).await;
    let newest = rows.last().unwrap().0.cast_unsigned();
    assert!(newest >= epoch, "the last row is of epoch {newest}, the heir's was {epoch}");

    // Nobody calls the sleeper's bucket there any more; it must notice by itself that it is free to take it again, when
    // the heir hands it back.
    let (keeper, _) = cell.keeper_after(&sale, epoch).await;
    assert_eq!(keeper, sleeper);
}

#[tokio::test]
async fn inv_10_buying_goes_on_without_etcd() {
    let seed = seed();
    let cell = CellUnderTest::start(&["p1", "p2"]).await;
    let sale = short_sale("storm", 300, 2);
    cell.open(&sale).await;
    for process in ["p1", "p2"] {
        cell.remembers(process, &sale).await;
    }
    let storm = Storm::begin(&cell, &sale, 120, seed);
    storm.held(5).await;
    cell.stack.pause("etcd").await.unwrap();
    storm.held(12).await;
    cell.stack.kill("etcd").await.unwrap();
    // A keeper dies, and comes back with nobody to ask.
    let (keeper, epoch) = cell.keeper_after(&sale, 0).await;
    cell.stack.kill(&name_of(&keeper)).await.unwrap();
    let (heir, epoch) = cell.keeper_after(&sale, epoch).await;
    storm.held(16).await;
    cell.stack.restart(&name_of(&keeper)).await.unwrap();
    cell.stack.kill(&name_of(&heir)).await.unwrap();
    cell.keeper_after(&sale, epoch).await;
    let told = storm.end().await;
    audit(&cell, &sale, &told).await;

    let buyer = BuyerKey([9; 16]);
    let held = cell.held("storm", buyer, (1, [9; 16])).await;
    let paid = until(DEADLINE, async || {
        let paid = cell.pay("storm", buyer, id_of(&held), GOOD_CARD).await;
        paid.map_err(|no| format!("{no:?}"))
    });
    assert_eq!(paid.await.state(), State::Paid);
}
