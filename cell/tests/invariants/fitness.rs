//! A store that somebody sets up otherwise while it runs.

use proto::fault::Reason;
use proto::id::BuyerKey;
use proto::wire::cell::SaleRecord;
use proto::wire::storefront::order::State;

use crate::audit::audit;
use crate::cell::{CellUnderTest, DEADLINE, No, StateOf, id_of, until};
use crate::found::metric;
use crate::short_sale;
use crate::storm::Told;

const SALE: &str = "fit";
const UNFIT: &str = "floodgate_cell_unfit_settings{setting=\"maxmemory_policy\",store=\"redis\"}";

async fn set_policy(cell: &CellUnderTest, policy: &str) {
    let client = redis::Client::open(cell.stack.redis_admin_url("cell-1").unwrap()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let set = redis::cmd("CONFIG").arg("SET").arg("maxmemory-policy").arg(policy).to_owned();
    let () = set.query_async(&mut redis).await.unwrap();
}

/// Waits until the process shows that the policy is (1) or is not (0) unfit.
async fn shows(cell: &CellUnderTest, unfit: f64) {
    until(DEADLINE, async || match metric(cell, "p1", UNFIT).await {
        Some(shown) if shown == unfit => Ok(()),
        other => Err(format!("{UNFIT} is {other:?}")),
    })
    .await;
}

#[tokio::test]
async fn inv_1_nothing_is_sold_from_a_redis_that_has_begun_to_forget() {
    let cell = CellUnderTest::start(&["p1"]).await;
    let sale = SaleRecord { keeping_ms: 600_000, ..short_sale(SALE, 10, 1) };
    cell.open(&sale).await;
    let [before, meanwhile, after] = [1, 2, 3].map(|n| BuyerKey([n; 16]));
    let mut told = Told::default();
    told.hold(before, &cell.held(SALE, before, (1, [1; 16])).await);
    let (ticket, rank) = cell.join(SALE, meanwhile).await.unwrap();
    until(DEADLINE, async || {
        let told = cell.lines.lock().unwrap()["p1"].state(SALE).map_or(0, |state| state.cursor);
        if rank < told { Ok(()) } else { Err(format!("{rank} is not admitted by {told}")) }
    })
    .await;

    // Nobody's connection breaks of it.
    set_policy(&cell, "allkeys-lru").await;
    shows(&cell, 1.0).await;
    for request in 0..5 {
        // The ticket is good and units are free: there is nobody to grant them.
        match cell.reserve(SALE, meanwhile, &ticket, (1, [request; 16])).await {
            Err(No::Lost | No::Refused(Reason::BucketMoving | Reason::Overloaded)) => {}
            other => panic!("{other:?}"),
        }
    }

    set_policy(&cell, "noeviction").await;
    for buyer in [meanwhile, after] {
        let held = cell.held(SALE, buyer, (1, [9; 16])).await;
        assert_eq!(held.state(), State::Held);
        cell.cancel(SALE, buyer, id_of(&held)).await.unwrap();
        told.hold(buyer, &held);
        told.cancelled.push(id_of(&held));
    }
    shows(&cell, 0.0).await;
    audit(&cell, &sale, &told).await;
}
