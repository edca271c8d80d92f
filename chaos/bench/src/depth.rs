//! The stock in depth: several processes, half of the load, what an order costs the stores, sizes of batches, and sales of
//! very different sizes whose units go round and round.

mod drive;

use crate::figure::{Budget, Figure};
use crate::sale::Cell;
use crate::script;
use crate::stock::{admit_all, prepare, wait_until_kept};
use anyhow::{Context, Result, ensure};
use drive::{Lane, Pace, Ran, drive};
use proto::frame::read_call;
use proto::limits::{BATCH_CALLS_MAX, PROCESSES_STEADY_MS};
use proto::wire::admin::sale::Class;
use sqlx::{PgPool, Row};
use std::time::Duration;
use tokio::time::Instant;

/// Sales that sell at once, each with one bucket.
const SALES: u32 = 6;
const UNDER_WAY: usize = 768;
const PREPARED_PER_S: u64 = 25_000;
const STOCK: u32 = 1_000_000;
const WARM_UP: Duration = Duration::from_secs(1);
/// Sizes of batches to compare, in calls.
const BATCHES: [usize; 3] = [16, 64, 256];
/// Sizes of sales whose units go round, in units; what is under way stays below the smallest.
const ROUNDS: [u32; 3] = [1_000, 100_000, 1_000_000];
const ROUND_UNDER_WAY: usize = 384;

/// Takes all figures of this group.
pub(crate) async fn measure(seconds: u64) -> Result<()> {
    let bare = script::rate().await?;
    Figure {
        name: "script_per_s".into(),
        value: bare,
        unit: "1/s",
        budget: Budget::None,
        how: script::HOW.into(),
    }
    .say();
    let full = processes(seconds, bare).await?;
    half(seconds, full).await?;
    for batch in BATCHES {
        batches(seconds, batch, bare).await?;
    }
    rounds(seconds).await
}

/// What the stores had done at a moment.
struct Spent {
    commits: i64,
    wal_bytes: i64,
    orders: i64,
    redis_bytes: i64,
}

/// Two processes share the sales.
async fn processes(seconds: u64, bare: f64) -> Result<f64> {
    let cell = Cell::start_processes(&["p1", "p2"], &["--threads", "1"]).await?;
    let settings = cell.settings().await?;
    let pool = cell.postgres().await?;
    let empty = spent(&cell, &pool).await?;
    open_sales(&cell, &pool, STOCK).await?;
    let before = spent(&cell, &pool).await?;
    let plan = Plan { pace: Pace::UnderWay(UNDER_WAY), frame_calls_max: BATCH_CALLS_MAX, seconds };
    let ran = run(&cell, &pool, plan).await?;
    let after = spent(&cell, &pool).await?;
    let rate = per_s(ran.holds, seconds);
    let orders = after.orders - before.orders;
    let how = format!("over {orders} holds, {settings}");
    Figure {
        name: "cell_holds_2_processes_vs_script".into(),
        value: rate / bare,
        unit: "x",
        budget: Budget::AtLeast(1.2),
        how: format!(
            "{rate:.0} committed holds/s over {seconds} s; {SALES} sales of one bucket over two processes of one thread each, \
             {UNDER_WAY} calls under way each; {settings}"
        ),
    }
    .say();
    let each = |total: i64| ratio(total, orders);
    for (name, value, unit, what) in [
        ("transactions_per_order", each(after.commits - before.commits), "", "pg_stat_database"),
        (
            "wal_bytes_per_order",
            each(after.wal_bytes - before.wal_bytes),
            "B",
            "pg_current_wal_lsn",
        ),
        (
            "redis_bytes_per_live_order",
            each(after.redis_bytes - before.redis_bytes),
            "B",
            "used_memory",
        ),
        (
            "redis_bytes_per_free_unit",
            ratio(before.redis_bytes - empty.redis_bytes, i64::from(SALES * STOCK)),
            "B",
            "used_memory, after the sales were loaded",
        ),
    ] {
        Figure {
            name: name.into(),
            value,
            unit,
            budget: Budget::None,
            how: format!("{what}, {how}"),
        }
        .say();
    }
    Ok(rate)
}

/// Half of what it can do, at a steady pace.
async fn half(seconds: u64, full: f64) -> Result<()> {
    let cell = Cell::start(&["--threads", "1"]).await?;
    let settings = cell.settings().await?;
    let pool = cell.postgres().await?;
    open_sales(&cell, &pool, STOCK).await?;
    let each = full / 2.0 / f64::from(SALES);
    let plan = Plan { pace: Pace::PerSecond(each), frame_calls_max: BATCH_CALLS_MAX, seconds };
    let mut ran = run(&cell, &pool, plan).await?;
    let planned = each * f64::from(SALES);
    let achieved = per_s(ran.holds, seconds);
    Figure {
        name: "hold_p99_at_half_ms".into(),
        value: quantile_ms(&mut ran.hold_us, 0.99),
        unit: "ms",
        budget: Budget::AtMost(50.0),
        how: format!(
            "planned {planned:.0}/s, achieved {achieved:.0}/s over {seconds} s, from when a call was due to its answer over the link; \
             p50 {:.1} ms; one process of one thread, {SALES} sales; {settings}",
            quantile_ms(&mut ran.hold_us, 0.5)
        ),
    }
    .say();
    Ok(())
}

/// Smaller batches cost more.
async fn batches(seconds: u64, batch: usize, bare: f64) -> Result<()> {
    let most = batch.to_string();
    let cell = Cell::start(&["--threads", "1", "--batch-calls-max", &most]).await?;
    let pool = cell.postgres().await?;
    open_sales(&cell, &pool, STOCK).await?;
    let plan = Plan { pace: Pace::UnderWay(UNDER_WAY), frame_calls_max: BATCH_CALLS_MAX, seconds };
    let mut ran = run(&cell, &pool, plan).await?;
    let rate = per_s(ran.holds, seconds);
    Figure {
        name: format!("cell_holds_batch_{batch}_vs_script"),
        value: rate / bare,
        unit: "x",
        budget: Budget::None,
        how: format!(
            "{rate:.0} committed holds/s over {seconds} s, batches of at most {batch}; p99 {:.1} ms under full load",
            quantile_ms(&mut ran.hold_us, 0.99)
        ),
    }
    .say();
    Ok(())
}

/// Units that are held and released again and again.
async fn rounds(seconds: u64) -> Result<()> {
    let mut drawn = Vec::new();
    for units in ROUNDS {
        let cell = Cell::start(&["--threads", "1"]).await?;
        let pool = cell.postgres().await?;
        let sale = "sround";
        cell.open_sale(sale, units, Class::Flash).await?;
        admit_all(&pool, sale).await?;
        cell.stack().restart("cell-1/p1").await?;
        wait_until_kept(&pool).await?;
        let from = Instant::now() + WARM_UP;
        let mut ran = drive(Lane {
            address: cell.stack().endpoint("cell-1/p1")?.url,
            calls: calls(sale, seconds, 1),
            pace: Pace::UnderWay(ROUND_UNDER_WAY),
            frame_calls_max: BATCH_CALLS_MAX,
            release: true,
            from,
            until: from + Duration::from_secs(seconds),
        })
        .await?;
        let (holds, releases) = (per_s(ran.holds, seconds), per_s(ran.releases, seconds));
        drawn.push((units, holds));
        Figure {
            name: format!("rounds_per_s_{units}_units"),
            value: holds,
            unit: "1/s",
            budget: Budget::None,
            how: format!(
                "one bucket; {holds:.0} holds/s and {releases:.0} releases/s over {seconds} s, {ROUND_UNDER_WAY} under way; hold p99 {:.1} ms",
                quantile_ms(&mut ran.hold_us, 0.99)
            ),
        }
        .say();
    }
    draw(&drawn);
    Ok(())
}

/// The rounds as bars.
#[expect(clippy::print_stdout, reason = "figures are what this program is for")]
fn draw(drawn: &[(u32, f64)]) {
    let most = drawn.iter().map(|(_, rate)| *rate).fold(1.0, f64::max);
    for (units, rate) in drawn {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 50 columns"
        )]
        let columns = (rate / most * 50.0).round() as usize;
        println!("    {units:>9} units {rate:>8.0}/s {}", "█".repeat(columns));
    }
}

struct Plan {
    pace: Pace,
    frame_calls_max: usize,
    seconds: u64,
}

async fn open_sales(cell: &Cell, pool: &PgPool, stock: u32) -> Result<()> {
    for number in 0..SALES {
        let sale = name(number);
        cell.open_sale(&sale, stock, Class::Flash).await?;
        admit_all(pool, &sale).await?;
    }
    // The processes read their buckets anew, with open gates.
    for process in cell.processes() {
        cell.stack().restart(&process).await?;
    }
    wait_until_kept(pool).await?;
    if cell.processes().len() > 1 { wait_until_spread(pool).await } else { Ok(()) }
}

/// Waits until no bucket has changed hands for so long that none will.
async fn wait_until_spread(pool: &PgPool) -> Result<()> {
    let patience = Duration::from_millis(3 * PROCESSES_STEADY_MS);
    let mut seen = Vec::new();
    let (began, mut since) = (Instant::now(), Instant::now());
    while since.elapsed() < patience {
        ensure!(began.elapsed() < 10 * patience, "the cell's buckets do not come to rest");
        let now: Vec<(i32, i32, Option<String>, i64)> =
            sqlx::query_as("select sale, bucket, keeper, epoch from bucket order by sale, bucket")
                .fetch_all(pool)
                .await?;
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn name(number: u32) -> String {
    format!("sbench{number}")
}

fn calls(sale: &str, seconds: u64, seed: u32) -> Vec<proto::wire::cell::Call> {
    let count = PREPARED_PER_S * (seconds + WARM_UP.as_secs() + 1);
    let calls = prepare(sale, count, seed).into_iter().flat_map(|frame| frame.calls);
    calls.filter_map(|call| read_call(call).ok()).collect()
}

/// Drives all sales at once, each at its keeper.
async fn run(cell: &Cell, pool: &PgPool, plan: Plan) -> Result<Ran> {
    let mut lanes = Vec::new();
    for number in 0..SALES {
        let sale = name(number);
        let keeper: String = sqlx::query_scalar(
            "select b.keeper from bucket b join sale s using (org, sale) where s.id = $1",
        )
        .bind(&sale)
        .fetch_one(pool)
        .await?;
        let address = cell.stack().endpoint(&format!("cell-1/{keeper}"))?.url;
        lanes.push((address, calls(&sale, plan.seconds, number)));
    }
    let from = Instant::now() + WARM_UP;
    let until = from + Duration::from_secs(plan.seconds);
    let running: Vec<_> = lanes
        .into_iter()
        .map(|(address, calls)| {
            let Plan { pace, frame_calls_max, .. } = plan;
            tokio::spawn(drive(Lane {
                address,
                calls,
                pace,
                frame_calls_max,
                release: false,
                from,
                until,
            }))
        })
        .collect();
    let mut all = Ran::default();
    for ran in running {
        let ran = ran.await??;
        all.holds += ran.holds;
        all.releases += ran.releases;
        all.hold_us.extend(ran.hold_us);
    }
    Ok(all)
}

async fn spent(cell: &Cell, pool: &PgPool) -> Result<Spent> {
    // What sessions have counted reaches the statistics after a second at most.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let row = sqlx::query(
        r#"select (select xact_commit from pg_stat_database where datname = current_database()) as commits,
                  pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint as wal,
                  (select count(*) from "order") as orders"#,
    )
    .fetch_one(pool)
    .await?;
    let mut redis = redis::Client::open(cell.stack().endpoint("cell-1/redis")?.url)?
        .get_multiplexed_async_connection()
        .await?;
    let memory: String = redis::cmd("INFO").arg("memory").query_async(&mut redis).await?;
    let used = memory.lines().find_map(|line| line.strip_prefix("used_memory:"));
    Ok(Spent {
        commits: row.try_get("commits")?,
        wal_bytes: row.try_get("wal")?,
        orders: row.try_get("orders")?,
        redis_bytes: used.context("redis does not say what it uses")?.trim().parse()?,
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn per_s(count: u64, seconds: u64) -> f64 {
    count as f64 / seconds as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn ratio(total: i64, count: i64) -> f64 {
    total as f64 / count.max(1) as f64
}

/// A quantile (0 to 1), in milliseconds.
fn quantile_ms(us: &mut [u32], quantile: f64) -> f64 {
    us.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into what is there"
    )]
    let place = ((us.len() as f64 * quantile) as usize).min(us.len().saturating_sub(1));
    us.get(place).map_or(0.0, |us| f64::from(*us) / 1_000.0)
}
