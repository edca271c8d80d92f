//! Buckets are spread over a cell's processes and follow them, while buyers buy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto::fault::Reason;
use proto::wire::cell::answer::Kind as Answer;
use proto::wire::cell::call::Kind as Asked;
use proto::wire::cell::{Call, Join, SaleRecord};
use ring::digest::{SHA256, digest};

use crate::audit::audit;
use crate::cell::{CellUnderTest, DEADLINE, name_of, seed, until};
use crate::short_sale;
use crate::storm::Storm;

/// Enough that each of three processes has a part of them.
const SALES: usize = 8;

fn sales() -> Vec<SaleRecord> {
    (0..SALES).map(|number| short_sale(&format!("storm{number}"), 12, 2)).collect()
}

/// Who should keep a sale's bucket: the highest hash of both names.
fn heir(sale: &str, processes: &[&str]) -> String {
    let weight = |process: &&&str| {
        let hash = digest(&SHA256, format!("{sale}/0/{process}").as_bytes());
        hash.as_ref()[..16].to_vec()
    };
    (*processes.iter().max_by_key(weight).unwrap()).to_owned()
}

/// Waits until every bucket is kept by the one of `processes` that should.
async fn spread_over(cell: &CellUnderTest, sales: &[SaleRecord], processes: &[&str]) {
    let wanted: BTreeMap<String, String> =
        sales.iter().map(|sale| (sale.sale.clone(), heir(&sale.sale, processes))).collect();
    let names: BTreeSet<&String> = wanted.values().collect();
    assert_eq!(names.len(), processes.len(), "some would have nothing: {wanted:?}");
    until(DEADLINE, async || {
        let rows = sqlx::query_as(
            "select s.id, coalesce(b.keeper, '') from bucket b
             join sale s on s.org = b.org and s.sale = b.sale",
        );
        let rows: Vec<(String, String)> =
            rows.fetch_all(&cell.pool).await.map_err(|error| error.to_string())?;
        let keepers: BTreeMap<String, String> = rows.into_iter().collect();
        if keepers == wanted { Ok(()) } else { Err(format!("{keepers:?}, not {wanted:?}")) }
    })
    .await;
}

fn storms(cell: &Arc<CellUnderTest>, sales: &[SaleRecord], seed: u64) -> Vec<Storm> {
    let storm = |(number, sale): (u64, &SaleRecord)| {
        Storm::begin(cell, sale, 16, seed.wrapping_add(1_000 * number))
    };
    (0..).zip(sales).map(storm).collect()
}

/// Somebody's join.
fn join(sale: &str) -> Call {
    let kind = Some(Asked::Join(Join {}));
    let (sale, buyer) = (sale.into(), vec![1; 16].into());
    Call { time_left_ms: 10_000, sale, buyer, kind, ..Call::default() }
}

#[tokio::test]
async fn a_call_at_the_wrong_process_is_told_where_to_ask() {
    let cell = CellUnderTest::start(&["p1", "p2"]).await;
    let sale = SaleRecord { hold_ttl_ms: 600_000, ..short_sale("calm", 10, 2) };
    cell.open(&sale).await;
    let (keeper, epoch) = cell.keeper_after(&sale, 0).await;
    let other = if keeper == "p1" { "p2" } else { "p1" };
    let there = until(DEADLINE, async || match cell.call_at(other, join("calm")).await {
        Some(Answer::Elsewhere(there)) => Ok(there),
        answer => Err(format!("{other} says {answer:?}")),
    })
    .await;
    assert_eq!((there.process.as_str(), there.epoch), (keeper.as_str(), epoch));
    let place = cell.call_at(&there.process, join("calm")).await;
    assert!(matches!(place, Some(Answer::Place(_))), "{place:?}");
    // A bucket that nobody keeps is nowhere else.
    let moving = cell.call_at(other, join("unknown")).await;
    let Some(Answer::Refusal(refusal)) = moving else { panic!("{moving:?}") };
    assert_eq!(refusal.reason, Reason::BucketMoving as u32);
}

#[tokio::test]
async fn inv_3_processes_are_started_anew_one_after_another_and_nothing_is_lost_or_stranded() {
    let seed = seed();
    let names = ["p1", "p2", "p3"];
    let cell = CellUnderTest::start(&names[..2]).await;
    let sales = sales();
    for sale in &sales {
        cell.open(sale).await;
    }
    spread_over(&cell, &sales, &names[..2]).await;

    // One joins, and is given its part.
    let raging = storms(&cell, &sales, seed);
    cell.start_process("p3").await;
    spread_over(&cell, &sales, &names).await;
    for _ in 0..2 {
        for name in names {
            cell.stack.restart(&name_of(name)).await.unwrap();
            spread_over(&cell, &sales, &names).await;
        }
    }
    for (sale, storm) in sales.iter().zip(raging) {
        let told = storm.end().await;
        assert!(!told.held.is_empty(), "nobody bought {}", sale.sale);
        audit(&cell, sale, &told).await;
    }
}

#[tokio::test]
async fn inv_8_who_slept_or_died_has_its_part_again_and_writes_nothing_late() {
    let seed = seed();
    let names = ["p1", "p2"];
    let cell = CellUnderTest::start(&names).await;
    let sales = sales();
    for sale in &sales {
        cell.open(sale).await;
    }
    spread_over(&cell, &sales, &names).await;
    let raging = storms(&cell, &sales, seed);
    cell.stack.pause(&name_of("p1")).await.unwrap();
    spread_over(&cell, &sales, &["p2"]).await;
    cell.stack.resume(&name_of("p1")).await.unwrap();
    spread_over(&cell, &sales, &names).await;
    cell.stack.kill(&name_of("p2")).await.unwrap();
    spread_over(&cell, &sales, &["p1"]).await;
    cell.stack.restart(&name_of("p2")).await.unwrap();
    spread_over(&cell, &sales, &names).await;
    for (sale, storm) in sales.iter().zip(raging) {
        let told = storm.end().await;
        audit(&cell, sale, &told).await;
    }
}
