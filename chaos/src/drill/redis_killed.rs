//! `redis-killed`: kill -9 of the Redis of one of the sale's cells while calls are under way in its bucket. It is
//! started again at once, empty, as a supervisor would.

use std::time::Duration;

use super::{Blow, DrillError, Field};

pub(super) const HYPOTHESIS: &str =
    "a cell whose Redis is killed loses nothing and grants again within 2 s";

/// A cell must grant again in this time.
const GRANTING_AGAIN_MAX: Duration = Duration::from_secs(2);

pub(super) async fn strike(field: &Field<'_>) -> Result<Option<Blow>, DrillError> {
    let Some(aim) = field.aim(1.0).await else { return Ok(None) };
    let stack = field.platform.stack();
    let redis = format!("{}/redis", aim.cell);
    let blow = aim.blow(format!("killed {redis}"));
    stack.kill(&redis).await?;
    stack.restart(&redis).await?;
    Ok(Some(blow.back().again_within(GRANTING_AGAIN_MAX)))
}
