//! `postgres-disk-full`: the file system with a cell's Postgres' log has no room left, for some seconds. Whatever cannot
//! be committed is refused; when there is room again, Postgres is started again if it has ended, as a supervisor would.
//!
//! The log lies on a small file system of its own, which only root can mount.

use std::time::Duration;

use local::ServerState;
use tokio::time::sleep;

use super::{Blow, DrillError, Field, Setup, Special, now_us};

pub(super) const HYPOTHESIS: &str = "without room for its log a cell refuses holds and tells nothing that is not so; with room it \
     grants again within 8 s";

/// Postgres recovers, connections are made anew, and the bucket is taken over.
const GRANTING_AGAIN_MAX: Duration = Duration::from_secs(8);

/// How large the log's file system is.
const WAL_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// How long it is full.
const FULL: Duration = Duration::from_secs(3);

/// What Postgres and the kernel say.
const NO_ROOM: &str = "No space left on device";

pub(super) fn setup() -> Setup {
    Setup { special: Special::SmallWal(WAL_BYTES_MAX), ..Setup::default() }
}

pub(super) async fn strike(field: &Field<'_>) -> Result<Option<Blow>, DrillError> {
    let Some((_, cell, _)) = field.victim_bucket().cloned() else { return Ok(None) };
    let stack = field.platform.stack();
    let mut session = field.postgres(&cell).await?;
    // A new segment of the log, which takes its room only as it is written; the trials before leave none behind.
    for statement in ["select pg_switch_wal()", "checkpoint"] {
        sqlx::query(statement).execute(&mut session).await?;
    }
    let Some(aim) = field.aim(1.0).await else { return Ok(None) };
    let postgres = format!("{cell}/postgres");
    let complaints_before = stack.logged(&postgres, NO_ROOM)?;
    let blow = aim.blow(format!("filled the log's file system of {postgres}"));
    stack.fill_wal(&cell).await?;
    sleep(FULL).await;
    let complaints = stack.logged(&postgres, NO_ROOM)? - complaints_before;
    let state = stack.state(&postgres)?;
    let back_us = now_us();
    stack.empty_wal(&cell).await?;
    if state == ServerState::Running {
        stack.wait_ready(&postgres).await?;
    } else {
        stack.restart(&postgres).await?;
    }
    let mut blow = blow.mended(back_us);
    blow.found(format!("Postgres complained {complaints} times, and was {state} in the end"));
    if complaints == 0 {
        blow.void("Postgres had room enough".to_owned());
    }
    Ok(Some(blow.again_within(GRANTING_AGAIN_MAX)))
}
