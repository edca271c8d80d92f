//! `mass-expiry`: many holds end together while the sale goes on. Every unit returns exactly once, which the judge sees,
//! and at most 2 s after its deadline, by Postgres' own clock; meanwhile holding units takes at most twice as long.
//!
//! Buyers who come before the crowd hold a unit each and never come back. No crowd holds so many in one second, so their
//! deadlines are set to one moment in Postgres, and the process that keeps the bucket is killed and started anew to read
//! them, as after a take-over it must.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use prost::Message;
use proto::wire::events::LedgerBatch;
use proto::wire::events::ledger_entry::Kind;
use sqlx::PgConnection;
use tokio::time::sleep;
use uuid::Uuid;

use super::{Aftermath, Blow, DrillError, Field, Setup};
use crate::load::{CallKind, Outcome, Sample};
use crate::plan::Habits;
use crate::report::DrillReport;

pub(super) const HYPOTHESIS: &str = "units of holds that end together return exactly once and at most 2 s late, while the sale \
     goes on";

/// How late a unit may return.
const LATE_MAX_US: i64 = 2_000_000;

/// How many times longer holding units may take meanwhile, and what is too short to be compared.
const SLOWER_MAX: u64 = 2;
const SLOW_US: u64 = 50_000;

/// How long after that is set all of them end.
const ENDS_IN: Duration = Duration::from_secs(4);

/// How long they may take to end before it is given up to wait for them.
const ENDED_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

pub(super) fn setup() -> Setup {
    let default = Setup::default();
    Setup {
        cells: 1,
        buyers: 900,
        stock: 2_000,
        arrive_within: Duration::from_secs(8),
        habits: Habits { abandon: 0.0, ..default.habits },
        hold_ttl: Duration::from_secs(20),
        admission_rate: 1_000,
        live_orders: 5_000,
        ..default
    }
}

/// The deadlines of the holds that have run out, microseconds since 1970, by order.
#[derive(Clone, Debug, Default)]
pub(super) struct Deadlines(HashMap<[u8; 16], i64>);

pub(super) async fn strike(field: &Field<'_>) -> Result<Option<Blow>, DrillError> {
    let Some((bucket, cell, _)) = field.victim_bucket().cloned() else { return Ok(None) };
    let mut session = field.postgres(&cell).await?;
    let Some(aim) = field.aim(0.0).await else { return Ok(None) };
    let Some(process) = field.keeper(&mut session, bucket, &cell).await? else { return Ok(None) };
    let held = set_deadlines(field, &mut session, bucket).await?;
    let blow = aim.blow(format!("let {held} holds end at once, started {process} anew"));
    let stack = field.platform.stack();
    stack.kill(&process).await?;
    stack.restart(&process).await?;
    let blow = blow.back();
    sleep(ENDS_IN).await;
    let limit = Instant::now() + ENDED_LIMIT;
    while overdue(field, &mut session, bucket).await? > 0 && Instant::now() < limit {
        sleep(POLL).await;
    }
    let deadlines = deadlines(field, &mut session, bucket).await?;
    Ok(Some(blow.deadlines(deadlines)))
}

/// How late units returned, how many in the busiest second, and how long holding took meanwhile.
pub(super) fn weigh(blow: &Blow, aftermath: &Aftermath<'_>, report: &mut DrillReport) {
    let returns = returns(blow, aftermath);
    let Some(latest_us) = returns.iter().map(|(deadline, at)| at - deadline).max() else {
        return report.void.push("no hold ran out".to_owned());
    };
    let mut together: HashMap<i64, (usize, i64)> = HashMap::new();
    for (deadline, at) in &returns {
        let (count, last) = together.entry(*deadline).or_default();
        (*count, *last) = (*count + 1, *at.max(last));
    }
    let most = together.into_iter().max_by_key(|(_, (count, _))| *count);
    let (first, (count, last)) = most.unwrap_or_default();
    report.findings.push(format!(
        "{} holds ran out, {count} of them at the same moment; the last returned {} ms late",
        returns.len(),
        latest_us / 1_000
    ));
    if latest_us > LATE_MAX_US * i64::from(aftermath.patience) {
        report.against.push(format!("a unit returned {} ms late", latest_us / 1_000));
    }
    let (first, last) = (u64::try_from(first).unwrap_or(0), u64::try_from(last).unwrap_or(0));
    let reserve = |sample: &Sample| {
        sample.call == CallKind::Reserve && !sample.repeat && sample.outcome == Outcome::Done
    };
    let during = |sample: &Sample| (first..last).contains(&sample.intended_us);
    let meanwhile = aftermath.samples.latency(|sample| reserve(sample) && during(sample));
    let otherwise = aftermath
        .samples
        .latency(|sample| reserve(sample) && !during(sample) && sample.intended_us > blow.back_us);
    report.findings.push(format!(
        "Reserve p99 {} ms meanwhile ({} calls), {} ms otherwise ({} calls)",
        meanwhile.at(0.99) / 1_000,
        meanwhile.count(),
        otherwise.at(0.99) / 1_000,
        otherwise.count()
    ));
    let max = (SLOWER_MAX * otherwise.at(0.99)).max(SLOW_US) * u64::from(aftermath.patience);
    if meanwhile.at(0.99) > max {
        report.against.push("holding took more than twice as long meanwhile".to_owned());
    }
}

/// Deadline and end of every hold that ran out, in microseconds since 1970 by Postgres.
fn returns(blow: &Blow, aftermath: &Aftermath<'_>) -> Vec<(i64, i64)> {
    let Deadlines(deadlines) = &blow.deadlines;
    let mut returns = Vec::new();
    for row in aftermath.evidence.buckets.iter().flat_map(|bucket| &bucket.rows) {
        let batch = LedgerBatch::decode(row.entries.as_slice()).unwrap_or_default();
        for entry in batch.entries.iter().filter(|entry| entry.kind() == Kind::Expired) {
            let order = <[u8; 16]>::try_from(entry.order.as_slice());
            let deadline = order.ok().and_then(|order| deadlines.get(&order));
            returns.extend(deadline.map(|deadline| (*deadline, row.at_us)));
        }
    }
    returns
}

/// Sets the deadlines of a bucket's holds to one moment; returns how many there are.
async fn set_deadlines(
    field: &Field<'_>,
    session: &mut PgConnection,
    bucket: u32,
) -> Result<u64, DrillError> {
    let update = r#"update "order" o set deadline = now() + $3 * interval '1 millisecond'
                    from sale s where s.org = o.org and s.sale = o.sale
                    and s.id = $1 and o.bucket = $2 and o.state = 1"#;
    let ms = i32::try_from(ENDS_IN.as_millis()).unwrap_or(i32::MAX);
    let query = sqlx::query(update).bind(field.sale).bind(bucket.cast_signed()).bind(ms);
    Ok(query.execute(session).await?.rows_affected())
}

/// How many holds of a bucket should have ended and have not.
async fn overdue(
    field: &Field<'_>,
    session: &mut PgConnection,
    bucket: u32,
) -> Result<i64, DrillError> {
    let select = r#"select count(*) from "order" o join sale s using (org, sale)
                    where s.id = $1 and o.bucket = $2 and o.state = 1 and o.deadline < now()"#;
    let query = sqlx::query_scalar(select).bind(field.sale).bind(bucket.cast_signed());
    Ok(query.fetch_one(session).await?)
}

async fn deadlines(
    field: &Field<'_>,
    session: &mut PgConnection,
    bucket: u32,
) -> Result<Deadlines, DrillError> {
    let select = r#"select o.id, (extract(epoch from o.deadline) * 1000000)::bigint
                    from "order" o join sale s using (org, sale)
                    where s.id = $1 and o.bucket = $2 and o.state = 4"#;
    let query = sqlx::query_as(select).bind(field.sale).bind(bucket.cast_signed());
    let rows: Vec<(Uuid, i64)> = query.fetch_all(session).await?;
    Ok(Deadlines(rows.into_iter().map(|(id, us)| (id.into_bytes(), us)).collect()))
}
