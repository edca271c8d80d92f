//! `fsync-fails`: every fsync and fdatasync of a cell's Postgres fails (EIO), as when the disk under it says that it
//! could not write. Postgres must not believe that a later one makes up for it: it ends all its sessions and recovers
//! from its log. The system calls are failed by strace, in the processes that run at that moment.

use std::time::Duration;

use super::{Blow, DrillError, Field};

pub(super) const HYPOTHESIS: &str =
    "a commit that could not be flushed is told to nobody, and the cell grants again within 8 s";

/// Postgres notices, recovers, and the bucket is taken over.
const GRANTING_AGAIN_MAX: Duration = Duration::from_secs(8);

/// What Postgres says when it gives up.
const PANIC: &str = "PANIC:";

/// How long Postgres may take to flush something, fail, and answer again.
const FAILED_LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn strike(field: &Field<'_>) -> Result<Option<Blow>, DrillError> {
    let Some(aim) = field.aim(1.0).await else { return Ok(None) };
    let stack = field.platform.stack();
    let postgres = format!("{}/postgres", aim.cell);
    let panics_before = stack.logged(&postgres, PANIC)?;
    let mut blow = aim.blow(format!("failed every fsync of {postgres}"));
    let failed = stack.fail_fsync(&postgres, FAILED_LIMIT).await?;
    stack.wait_ready(&postgres).await?;
    let panics = stack.logged(&postgres, PANIC)? - panics_before;
    blow.found(format!("{failed} calls failed, {panics} of Postgres' processes gave up"));
    if failed == 0 {
        blow.void("Postgres did not flush anything".to_owned());
    } else if panics == 0 {
        blow.against("Postgres went on although it could not flush".to_owned());
    }
    Ok(Some(blow.back().again_within(GRANTING_AGAIN_MAX)))
}
