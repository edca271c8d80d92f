//! The bare script's rate, by redis-benchmark: fifty clients, each waiting for its answer, nothing durable.

use anyhow::{Context, Result};
use local::{Stack, StackOptions};
use tokio::process::Command;

const SCRIPT: &str = include_str!("bare.lua");
/// Calls of one run; at most a million, as the yardstick is defined.
const CALLS: u32 = 1_000_000;

/// How the yardstick is taken.
pub(crate) const HOW: &str = "redis-benchmark -c 50 -n 1000000 -r 1000000000 EVALSHA <sha> 1 inv:s u__rand_int__ 120, stock never used up";

/// Calls a second of the bare script, on a Redis of its own.
pub(crate) async fn rate() -> Result<f64> {
    let stack = Stack::new(StackOptions::default()).await?;
    stack.start_redis("yardstick").await?;
    let url = stack.redis_admin_url("yardstick")?;
    let mut connection =
        redis::Client::open(url.as_str())?.get_multiplexed_async_connection().await?;
    let sha: String =
        redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPT).query_async(&mut connection).await?;
    let _: () =
        redis::cmd("SET").arg("inv:s").arg(i64::MAX / 2).query_async(&mut connection).await?;
    let output = Command::new("redis-benchmark")
        .args(["-u", &url, "-c", "50"])
        .args(["-n", &CALLS.to_string(), "-r", "1000000000", "--csv"])
        .args(["EVALSHA", &sha, "1", "inv:s", "u__rand_int__", "120"])
        .output()
        .await
        .context("redis-benchmark is not installed (package redis-tools)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    // "test","rps",... and one row; the command itself holds commas only inside its quotes.
    let row = text.lines().last().context("redis-benchmark printed nothing")?;
    let fields: Vec<&str> = row.split("\",\"").collect();
    let rate = fields.get(1).context("an odd row of redis-benchmark")?.trim_matches('"').parse()?;
    let done: i64 = redis::cmd("GET").arg("inv:s:n").query_async(&mut connection).await?;
    anyhow::ensure!(done > i64::from(CALLS) * 9 / 10, "the bare script sold only {done}");
    Ok(rate)
}
