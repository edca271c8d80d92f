//! `process-killed`: kill -9 of the cell's process that keeps a bucket, with calls under way there. Every second time it
//! is started again at once, as a supervisor would; otherwise only when another has had the time to take over.

use std::time::Duration;

use tokio::time::sleep;

use super::{Blow, DrillError, Field};

pub(super) const HYPOTHESIS: &str =
    "whoever takes over from a killed process loses nothing, and grants again within 4 s";

/// A silent process is taken for dead after 1.5 s, and claimed at the next look.
const GRANTING_AGAIN_MAX: Duration = Duration::from_secs(4);

/// How long a process is away when another is to take over.
const AWAY: Duration = Duration::from_millis(2_500);

pub(super) async fn strike(field: &Field<'_>) -> Result<Option<Blow>, DrillError> {
    let Some((bucket, cell, _)) = field.victim_bucket().cloned() else { return Ok(None) };
    let mut session = field.postgres(&cell).await?;
    let Some(aim) = field.aim(1.0).await else { return Ok(None) };
    let Some(process) = field.keeper(&mut session, bucket, &cell).await? else { return Ok(None) };
    let at_once = field.way(2) == 0;
    let how = if at_once { "started at once" } else { "away for a while" };
    let blow = aim.blow(format!("killed {process}, {how},"));
    let stack = field.platform.stack();
    stack.kill(&process).await?;
    if !at_once {
        sleep(AWAY).await;
    }
    stack.restart(&process).await?;
    Ok(Some(blow.back().again_within(GRANTING_AGAIN_MAX)))
}
