//! A keeper that is held between decision and write, and taken for dead: what it writes when it goes on is refused by
//! the store itself. `FLOODGATE_TRIALS` says how often.

use std::time::Duration;

use local::FailpointAction;
use proto::id::BuyerKey;
use proto::wire::cell::SaleRecord;

use crate::audit::audit;
use crate::cell::{CellUnderTest, DEADLINE, name_of, seed, until};
use crate::sale::record;
use crate::storm::Told;

const TRIALS: u32 = 2;
/// Within which a store refuses whoever goes on.
const REFUSAL: Duration = Duration::from_secs(10);

#[tokio::test]
async fn inv_8_redis_refuses_the_late_write_of_a_keeper_that_was_held() {
    held_and_deposed("hold.asked", "redis").await;
}

#[tokio::test]
async fn inv_8_postgres_refuses_the_late_write_of_a_keeper_that_was_held() {
    held_and_deposed("hold.granted", "postgres").await;
}

async fn held_and_deposed(point: &str, store: &str) {
    seed();
    rustls::crypto::ring::default_provider().install_default().ok();
    let trials = std::env::var("FLOODGATE_TRIALS")
        .map_or(TRIALS, |text| text.parse().expect("FLOODGATE_TRIALS is a number"));
    let cell = CellUnderTest::start(&["p1", "p2"]).await;
    let sale = SaleRecord { hold_ttl_ms: 1_500, ..record("held", 2 * trials, 1) };
    cell.open(&sale).await;
    let mut told = Told::default();
    let mut late = 0;
    for trial in 0..trials {
        let mut key = [7; 16];
        key[..4].copy_from_slice(&trial.to_be_bytes());
        let buyer = BuyerKey(key);
        let (keeper, epoch) = cell.keeper_after(&sale, 0).await;
        let points = cell.stack.failpoints(&name_of(&keeper)).unwrap();
        points.arm(point, FailpointAction::Pause, 1).await.unwrap();
        let deposed = async {
            points.held(point, DEADLINE).await.unwrap();
            // No sign of life any more, so another process takes the bucket.
            points.arm("claim.beat", FailpointAction::Pause, 1).await.unwrap();
            points.held("claim.beat", DEADLINE).await.unwrap();
            let (heir, _) = cell.keeper_after(&sale, epoch).await;
            assert_ne!(heir, keeper);
            let before = refused(&cell, &keeper, store).await;
            points.release(point).await.unwrap();
            let now = until(REFUSAL, async || match refused(&cell, &keeper, store).await {
                now if now > before => Ok(now),
                now => Err(format!("INV-8: {store} does not refuse a late write ({now} before)")),
            });
            let refused = now.await - before;
            points.release("claim.beat").await.unwrap();
            refused
        };
        let (held, refused) = tokio::join!(cell.held("held", buyer, (1, [1; 16])), deposed);
        told.hold(buyer, &held);
        late += refused;
    }
    println!("{late} late writes of {trials} were refused by {store}");
    assert_eq!(late, u64::from(trials), "INV-8");
    audit(&cell, &sale, &told).await;
}

/// Batches of holds that a store has refused a process for an older epoch.
async fn refused(cell: &CellUnderTest, process: &str, store: &str) -> u64 {
    let metrics = cell.stack.endpoint(&name_of(process)).unwrap().metrics.unwrap();
    let text =
        reqwest::get(format!("http://{metrics}/metrics")).await.unwrap().text().await.unwrap();
    let name = "floodgate_cell_refused_late_total{";
    let counted = text.lines().filter(|line| line.starts_with(name));
    let hold = r#"stage="hold""#;
    let store = format!(r#"store="{store}""#);
    let counted = counted.filter(|line| line.contains(hold) && line.contains(&store));
    counted.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}
