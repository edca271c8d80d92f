//! `postgres-killed`: kill -9 of all of a cell's Postgres while holds are being committed. It is started again at once
//! and recovers from its log.

use std::time::Duration;

use super::{Blow, DrillError, Field, now_us};

pub(super) const HYPOTHESIS: &str =
    "a cell whose Postgres is killed loses nothing that was told, and grants again within 5 s";

/// Postgres recovers, connections are made anew, and the bucket is taken over.
const GRANTING_AGAIN_MAX: Duration = Duration::from_secs(5);

pub(super) async fn strike(field: &Field<'_>) -> Result<Option<Blow>, DrillError> {
    let Some(aim) = field.aim(1.0).await else { return Ok(None) };
    let stack = field.platform.stack();
    let postgres = format!("{}/postgres", aim.cell);
    let blow = aim.blow(format!("killed {postgres}"));
    stack.kill(&postgres).await?;
    // Whatever it has committed until now, nobody commits before it is up.
    let blow = blow.fresh_after(now_us());
    stack.restart(&postgres).await?;
    Ok(Some(blow.back().again_within(GRANTING_AGAIN_MAX)))
}
