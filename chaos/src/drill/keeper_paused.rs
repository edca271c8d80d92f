//! `keeper-paused`: the process that keeps a bucket stands still (SIGSTOP) with calls under way until another has taken
//! the bucket over, and goes on as if nothing had happened.
//!
//! Where the process has failpoints, one of them holds the keeper before, between what it decided and what it is about to
//! write: before Redis in half of the trials, before Postgres in the other half. It is released when the process goes on,
//! so that a late write is certain; the stores' own refusals are counted.

use std::time::{Duration, Instant};

use local::ServerState;
use redis::aio::MultiplexedConnection;
use serde::Deserialize;
use sqlx::PgConnection;
use tokio::time::sleep;

use super::{Blow, DrillError, Field, now_us};

pub(super) const HYPOTHESIS: &str =
    "a keeper that was paused while another took over is refused by both stores, and loses nothing";

/// The other one takes over in this time.
const GRANTING_AGAIN_MAX: Duration = Duration::from_secs(4);

/// How long another may take to take over, and a held or released keeper to be seen.
const OTHER_LIMIT: Duration = Duration::from_secs(15);
const SEEN_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// After the process goes on it has so long for its late writes.
const LATE_WRITES: Duration = Duration::from_millis(500);

/// What counts late writes that a store refused, by store.
const REFUSED_LATE: &str = "floodgate_cell_refused_late_total";

/// Where a keeper is held, before which store.
const HELD_AT: [(&str, &str); 2] = [("hold.asked", "redis"), ("hold.granted", "postgres")];

#[derive(Deserialize)]
struct Failpoint {
    name: String,
    waiting: u32,
}

pub(super) async fn strike(field: &Field<'_>) -> Result<Option<Blow>, DrillError> {
    let Some((bucket, cell, _)) = field.victim_bucket().cloned() else { return Ok(None) };
    let mut session = field.postgres(&cell).await?;
    let Some(aim) = field.aim(1.0).await else { return Ok(None) };
    let Some(process) = field.keeper(&mut session, bucket, &cell).await? else { return Ok(None) };
    let (point, store) = HELD_AT[field.way(HELD_AT.len())];
    let refused = async || field.metric(&process, REFUSED_LATE, &[store]).await;
    let refused_before = refused().await?.unwrap_or(0.0);
    let mut redis = field.redis(&cell).await?;
    let before = record(field, &mut redis, bucket).await?;
    let held = hold(field, &process, point).await?;
    let how = if held { format!("{process} at {point}") } else { process.clone() };
    let mut blow = aim.blow(format!("paused {how}"));
    let stack = field.platform.stack();
    stack.pause(&process).await?;
    let other = another_took_over(field, &mut session, bucket, &cell, &process).await;
    // Between Postgres and Redis a late write would meet a Redis that knows of nothing, and be refused by Postgres alone.
    let loaded = another_loaded(field, &mut redis, bucket, before).await;
    stack.resume(&process).await?;
    match other? {
        Some(other) => blow.found(format!("{other} took over, then {process} went on")),
        None => blow.against(format!("nobody took over in {OTHER_LIMIT:?}")),
    }
    if !loaded? {
        blow.against(format!("nobody loaded Redis in {OTHER_LIMIT:?}"));
    }
    if held {
        let path = format!("/failpoints/{point}?do=release");
        stack.ask_plane(&process, "POST", &path).await?;
        let deadline = Instant::now() + SEEN_LIMIT;
        while refused().await?.unwrap_or(0.0) <= refused_before && Instant::now() < deadline {
            sleep(POLL).await;
        }
        let late = refused().await?.unwrap_or(0.0) - refused_before;
        blow.found(format!("{store} refused {late} late writes"));
        if late < 1.0 {
            blow.against(format!("the late write was not refused by {store}"));
        }
    } else {
        sleep(LATE_WRITES).await;
        blow.found("it has no failpoints: whether it was about to write is chance".to_owned());
    }
    if stack.state(&process)? != ServerState::Running {
        blow.against(format!("{process} is {}", stack.state(&process)?));
    }
    Ok(Some(blow.noticed_from(now_us()).back().again_within(GRANTING_AGAIN_MAX)))
}

/// Holds the keeper at a failpoint; false when the process has none, or nobody came there in time.
async fn hold(field: &Field<'_>, process: &str, point: &str) -> Result<bool, DrillError> {
    let stack = field.platform.stack();
    let path = format!("/failpoints/{point}?do=pause&times=1");
    if !matches!(stack.ask_plane(process, "POST", &path).await?, (200, _)) {
        return Ok(false);
    }
    let deadline = Instant::now() + SEEN_LIMIT;
    while Instant::now() < deadline {
        let (_, said) = stack.ask_plane(process, "GET", "/failpoints").await?;
        if waiting(&said, point) {
            return Ok(true);
        }
        sleep(POLL).await;
    }
    stack.ask_plane(process, "POST", &format!("/failpoints/{point}?do=release")).await?;
    Ok(false)
}

/// Whether somebody waits at a failpoint, by what the process says of all of them.
fn waiting(said: &str, point: &str) -> bool {
    let points: Vec<Failpoint> = serde_json::from_str(said).unwrap_or_default();
    points.iter().any(|one| one.name == point && one.waiting > 0)
}

/// Waits until another process keeps the bucket, and says which.
async fn another_took_over(
    field: &Field<'_>,
    session: &mut PgConnection,
    bucket: u32,
    cell: &str,
    process: &str,
) -> Result<Option<String>, DrillError> {
    let deadline = Instant::now() + OTHER_LIMIT;
    while Instant::now() < deadline {
        let keeper = field.keeper(session, bucket, cell).await?;
        if let Some(other) = keeper.filter(|keeper| keeper != process) {
            return Ok(Some(other));
        }
        sleep(POLL).await;
    }
    Ok(None)
}

/// What Redis has of a bucket: its epoch, and whether it is open.
type Record = (Option<i64>, Option<i64>);

/// Waits until Redis serves the bucket under another epoch; false when it did not come to that.
async fn another_loaded(
    field: &Field<'_>,
    redis: &mut MultiplexedConnection,
    bucket: u32,
    before: Record,
) -> Result<bool, DrillError> {
    let deadline = Instant::now() + OTHER_LIMIT;
    while Instant::now() < deadline {
        let (epoch, open) = record(field, redis, bucket).await?;
        // While it is loaded it is closed, and answers that it does not know the bucket.
        if epoch != before.0 && open == Some(1) {
            return Ok(true);
        }
        sleep(POLL).await;
    }
    Ok(false)
}

async fn record(
    field: &Field<'_>,
    redis: &mut MultiplexedConnection,
    bucket: u32,
) -> Result<Record, DrillError> {
    let key = format!("fg:{{{}:{}:{bucket}}}:rec", field.org, field.sale);
    Ok(redis::cmd("HMGET").arg(key).arg("epoch").arg("open").query_async(redis).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_read_off_what_the_process_says() {
        let said = r#"[{"name":"hold.asked","kind":"step","reached":7,"waiting":0},
                       {"name":"hold.granted","kind":"reply","reached":3,"waiting":1}]"#;
        assert!(waiting(said, "hold.granted"));
        assert!(!waiting(said, "hold.asked") && !waiting("not found", "hold.asked"));
    }
}
