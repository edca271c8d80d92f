//! `redis-paused`: a cell's Redis stands still (SIGSTOP) for a part of a second or for some seconds, and goes on as if
//! nothing had happened. What it was asked before may be answered after others have long given up waiting.

use std::time::Duration;

use tokio::time::sleep;

use super::{Blow, DrillError, Field, now_us};

pub(super) const HYPOTHESIS: &str =
    "a Redis that stands still loses nothing, and its cell grants again within 3 s of its going on";

/// A call is given up after a second, three times, and then the bucket is taken over anew.
const GRANTING_AGAIN_MAX: Duration = Duration::from_secs(3);

/// How long it stands still: shorter than a call may take, a little longer, and much longer.
const STILL_MS: [u64; 4] = [400, 1_300, 2_500, 4_500];

pub(super) async fn strike(field: &Field<'_>) -> Result<Option<Blow>, DrillError> {
    let Some(aim) = field.aim(1.0).await else { return Ok(None) };
    let still_ms = STILL_MS[field.way(STILL_MS.len())];
    let stack = field.platform.stack();
    let redis = format!("{}/redis", aim.cell);
    let blow = aim.blow(format!("paused {redis} for {still_ms} ms"));
    stack.pause(&redis).await?;
    sleep(Duration::from_millis(still_ms)).await;
    let back_us = now_us();
    stack.resume(&redis).await?;
    let blow = blow.mended(back_us);
    Ok(Some(blow.again_within(GRANTING_AGAIN_MAX)))
}
