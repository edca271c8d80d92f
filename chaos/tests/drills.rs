//! Ten trials each of the drills that kill: a process, a Redis, a Postgres; some of a rolling restart. Nothing
//! acknowledged is lost (INV-6), no unit is sold twice (INV-1) or stranded (INV-3), in any of them. And without etcd for
//! five times the longest lease no call waits for it or is refused (INV-10), though routers are restarted.
//!
//! Time is not measured here: a busy machine may be slow.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs, reason = "tests")]

use std::path::PathBuf;
use std::time::Duration;

use floodgate_chaos::arena::{self, ArenaPlan};
use floodgate_chaos::drill::{Drill, Setup};
use floodgate_chaos::plan::Habits;
use floodgate_chaos::report::Proof;
use floodgate_chaos::{demo, judge};

/// Trials of each drill.
const TRIALS: u32 = 10;

/// Trials in which every process of a cell is started anew.
const RESTARTS: u32 = 3;

/// Recoveries may take so many times longer than they are believed to.
const PATIENCE: u32 = 10;

fn drawn_plan(drill: Drill, trials: u32) -> ArenaPlan {
    let seed = std::env::var("FLOODGATE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    eprintln!("FLOODGATE_SEED={seed}");
    ArenaPlan::new(drill, trials, seed).unwrap()
}

/// Trials with small sales.
fn plan(drill: Drill, trials: u32) -> ArenaPlan {
    let plan = drawn_plan(drill, trials);
    let setup = Setup {
        cells: 1,
        stock: 100,
        buyers: 110,
        arrive_within: Duration::from_millis(800),
        habits: Habits { abandon: 0.03, cancel: 0.05, bad_card: 0.03, twice: 0.05, hang_up: 0.03 },
        admission_rate: 100,
        hold_ttl: Duration::from_secs(1),
        ..plan.setup
    };
    ArenaPlan { setup, patience: PATIENCE, ..plan }
}

async fn run(plan: &ArenaPlan) -> (Proof, String) {
    let mut out = Vec::new();
    let proof = arena::run(plan, &mut out).await.unwrap();
    let drawn = String::from_utf8(out).unwrap();
    eprintln!("{drawn}");
    (proof, drawn)
}

async fn try_out(drill: Drill) {
    let (proof, drawn) = run(&plan(drill, TRIALS)).await;
    // Trials in which nothing was free again at the end are void, and clean all the same.
    assert_ne!(proof, Proof::Broken, "{drawn}");
    assert!(drawn.contains("0 violations, 0 lost acknowledgements"), "{drawn}");
}

#[tokio::test]
async fn a_killed_process_costs_nothing() {
    try_out(Drill::ProcessKilled).await;
}

#[tokio::test]
async fn processes_that_are_started_anew_cost_nothing() {
    let (proof, drawn) = run(&plan(Drill::RollingRestart, RESTARTS)).await;
    assert_ne!(proof, Proof::Broken, "{drawn}");
}

#[tokio::test]
async fn a_killed_redis_costs_nothing_trial_after_trial() {
    try_out(Drill::RedisKilled).await;
}

#[tokio::test]
async fn a_killed_postgres_costs_nothing() {
    try_out(Drill::PostgresKilled).await;
}

#[tokio::test]
async fn nobody_notices_that_etcd_stands_still_and_routers_are_started_anew() {
    let plan = drawn_plan(Drill::EtcdPaused, 1);
    let setup = Setup {
        cells: 1,
        steady_per_s: 8,
        lead: Duration::from_secs(10),
        arrive_within: Duration::from_secs(60),
        ..plan.setup
    };
    let (proof, drawn) = run(&ArenaPlan { setup, patience: PATIENCE, ..plan }).await;
    assert_eq!(proof, Proof::Kept, "{drawn}");
    assert!(drawn.contains("every router knew what was decided then after"), "{drawn}");
}

#[tokio::test]
async fn a_trial_whose_ledgers_disagree_is_broken_and_its_evidence_is_kept() {
    let damage = r#"update "order" set state = 5 where (sale, id) in
                    (select o.sale, o.id from "order" o join sale s using (org, sale)
                     where s.id = current_setting('arena.sale') and o.state = 3 limit 1)"#;
    let plan = ArenaPlan { damage: Some(damage), ..plan(Drill::RedisKilled, 1) };
    let (proof, drawn) = run(&plan).await;
    assert_eq!(proof, Proof::Broken, "{drawn}");
    assert!(drawn.contains("1 lost acknowledgements") && drawn.contains("INV-6"), "{drawn}");
    let again = format!("drill redis-killed --trials 1 --seed {}", plan.seed);
    assert!(drawn.contains(&again), "{drawn}");
    let folder = drawn.lines().find_map(|line| line.strip_prefix("kept: /")).unwrap();
    let folder = PathBuf::from(format!("/{folder}"));
    let evidence = demo::reread(&folder.join(format!("trial-{}", plan.seed))).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    assert!(!judge::judge(&evidence).is_clean());
}
