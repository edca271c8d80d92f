//! `redis-wiped`: a cell's Redis goes on running and forgets: everything (FLUSHALL), everything with its functions, or
//! only the bucket's record. Its run is the same as before, so the record's absence alone must tell.
//!
//! It was noticed before the first grant when no batch of holds follows under the old epoch, but the one that Redis had
//! granted already and that was on its way to Postgres.

use std::time::Duration;

use super::{Blow, DrillError, Field, now_us};

pub(super) const HYPOTHESIS: &str =
    "a wiped Redis is noticed before the first grant, and its cell grants again within 2 s";

/// A cell must grant again in this time.
const GRANTING_AGAIN_MAX: Duration = Duration::from_secs(2);

pub(super) async fn strike(field: &Field<'_>) -> Result<Option<Blow>, DrillError> {
    let Some((bucket, cell, _)) = field.victim_bucket().cloned() else { return Ok(None) };
    let mut connection = field.redis(&cell).await?;
    let Some(aim) = field.aim(1.0).await else { return Ok(None) };
    let mut wipe = redis::pipe();
    let what = match field.way(3) {
        0 => {
            wipe.cmd("FLUSHALL");
            "wiped"
        }
        1 => {
            wipe.atomic().cmd("FLUSHALL").cmd("FUNCTION").arg("FLUSH");
            "wiped, functions and all,"
        }
        _ => {
            wipe.cmd("DEL").arg(format!("fg:{{{}:{}:{bucket}}}:rec", field.org, field.sale));
            "deleted the bucket's record in"
        }
    };
    let blow = aim.blow(format!("{what} {cell}/redis"));
    wipe.exec_async(&mut connection).await?;
    Ok(Some(blow.back().noticed_from(now_us()).again_within(GRANTING_AGAIN_MAX)))
}
