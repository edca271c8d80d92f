//! Small sales, six at a time: each sells out exactly although most of its buyers belong to one of its buckets, and
//! nobody hears SOLD_OUT while a unit is free, live or in transit (INV-3).
//!
//! Time is not measured here: a busy machine may be slow.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs, reason = "tests")]

use floodgate_chaos::arena::small::{self, SmallPlan};
use floodgate_chaos::report::Proof;

/// Sales that take as long as they like.
fn plan(sales: u32) -> SmallPlan {
    let seed = std::env::var("FLOODGATE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    eprintln!("FLOODGATE_SEED={seed}");
    SmallPlan { at_once: 6, patience: 2, ..SmallPlan::new(sales, seed) }
}

async fn run(plan: &SmallPlan) -> (Proof, String) {
    let mut out = Vec::new();
    let proof = small::run(plan, &mut out).await.unwrap();
    let drawn = String::from_utf8(out).unwrap();
    eprintln!("{drawn}");
    (proof, drawn)
}

#[tokio::test]
async fn every_small_sale_sells_out_exactly() {
    let (proof, drawn) = run(&plan(12)).await;
    assert_eq!(proof, Proof::Kept, "{drawn}");
    assert!(drawn.contains("12 sold out exactly, 0 broken; 0 violations"), "{drawn}");
}

/// The same judge, when a unit that was paid for is free after all: then everybody was told too early.
#[tokio::test]
async fn a_sale_that_is_not_sold_out_is_found() {
    let damage = r#"update "order" set state = 4 where (sale, id) in
                    (select o.sale, o.id from "order" o join sale s using (org, sale)
                     where s.id = current_setting('arena.sale') and o.state = 3 limit 1)"#;
    let plan = SmallPlan { damage: Some(damage), ..plan(1) };
    let (proof, drawn) = run(&plan).await;
    assert_eq!(proof, Proof::Broken, "{drawn}");
    let again = format!("drill small-sales --trials 1 --seed {}", plan.seed);
    assert!(drawn.contains(&again) && drawn.contains("BROKEN"), "{drawn}");
    let folder = drawn.lines().find_map(|line| line.strip_prefix("kept: /")).unwrap();
    std::fs::remove_dir_all(format!("/{folder}")).unwrap();
}
