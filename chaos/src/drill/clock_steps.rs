//! `clock-steps`: the clock of a cell's Postgres steps an hour forward, or back, for some seconds, and then back to where
//! it was. Deadlines are Postgres' to decide, so a sweep that believed it would end every hold at once.
//!
//! The clock is stepped by a library that is loaded before Postgres' own. Holds last longer than the step, so that no
//! hold of the sale may run out meanwhile by the time that buyers live in.

use std::time::Duration;

use tokio::time::sleep;

use super::{Blow, DrillError, Field, Setup, Special, now_us};
use crate::plan::Habits;

pub(super) const HYPOTHESIS: &str =
    "when a cell's clocks part its sweep stops and alarms: no hold runs out before its time";

/// By how much the clock steps, in seconds.
const STEPS_S: [i64; 2] = [3_600, -3_600];

/// How long the clocks are apart.
const APART: Duration = Duration::from_secs(2);

/// Longer than anything takes from the first hold to the end of the step.
const HOLD_TTL: Duration = Duration::from_secs(12);

/// What says that the clocks have parted.
const PARTED: &str = "floodgate_cell_clock_parted";

pub(super) fn setup() -> Setup {
    let default = Setup::default();
    let habits = Habits { abandon: 0.2, ..default.habits };
    Setup { cells: 1, special: Special::Clocks, hold_ttl: HOLD_TTL, habits, ..default }
}

pub(super) async fn strike(field: &Field<'_>) -> Result<Option<Blow>, DrillError> {
    let Some((bucket, cell, _)) = field.victim_bucket().cloned() else { return Ok(None) };
    let stack = field.platform.stack();
    let mut session = field.postgres(&cell).await?;
    let Some(aim) = field.aim(1.0).await else { return Ok(None) };
    let Some(process) = field.keeper(&mut session, bucket, &cell).await? else { return Ok(None) };
    let step_s = STEPS_S[field.way(STEPS_S.len())];
    let blow = aim.blow(format!("stepped the clock of {cell}/postgres by {step_s} s"));
    stack.set_clock(&cell, step_s)?;
    sleep(APART).await;
    let parted = field.metric(&process, PARTED, &[]).await?;
    let expired = expired(field, &mut session, bucket).await?;
    stack.set_clock(&cell, 0)?;
    let back_us = now_us();
    let mut blow = blow.mended(back_us);
    if expired > 0 {
        blow.against(format!("{expired} holds ran out before their time"));
    }
    match parted {
        Some(parted) if parted > 0.0 => blow.found("the keeper's process alarmed".to_owned()),
        Some(_) => blow.against("the keeper's process did not alarm".to_owned()),
        None => blow.against(format!("the keeper's process has no {PARTED}")),
    }
    Ok(Some(blow))
}

/// How many orders of a bucket have run out.
async fn expired(
    field: &Field<'_>,
    session: &mut sqlx::PgConnection,
    bucket: u32,
) -> Result<i64, DrillError> {
    let select = r#"select count(*) from "order" o join sale s using (org, sale)
                    where s.id = $1 and o.bucket = $2 and o.state = 4"#;
    let query = sqlx::query_scalar(select).bind(field.sale).bind(bucket.cast_signed());
    Ok(query.fetch_one(session).await?)
}
