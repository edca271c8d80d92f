//! `redis-older`: a cell's Redis is killed, and started with a file that it saved earlier in the sale, as if somebody
//! had put a backup in its place. The bucket's record is there, and of the right epoch: only the run tells.
//!
//! It was noticed before the first grant when no batch of holds follows under the old epoch, but the one that Redis had
//! granted before it died.

use std::time::Duration;

use super::{Blow, DrillError, Field, now_us};

pub(super) const HYPOTHESIS: &str =
    "an older Redis is noticed before the first grant, and its cell grants again within 2 s";

/// A cell must grant again in this time.
const GRANTING_AGAIN_MAX: Duration = Duration::from_secs(2);

/// It is saved when this part of the moment's units is held.
const SAVED_AT: f64 = 0.4;

pub(super) async fn strike(field: &Field<'_>) -> Result<Option<Blow>, DrillError> {
    let Some(early) = field.aim(SAVED_AT).await else { return Ok(None) };
    let stack = field.platform.stack();
    let older = stack.save_redis(&early.cell).await?;
    let Some(aim) = field.aim(1.0).await else { return Ok(None) };
    let missing = aim.units_told.saturating_sub(early.units_told);
    let what = format!("put {}/redis back to {missing} units ago", aim.cell);
    let mut blow = aim.blow(what);
    if missing == 0 {
        blow.void("it was not older".to_owned());
    }
    stack.kill(&format!("{}/redis", early.cell)).await?;
    let gone_us = now_us();
    stack.replace_redis(&early.cell, &older).await?;
    Ok(Some(blow.back().noticed_from(gone_us).again_within(GRANTING_AGAIN_MAX)))
}
