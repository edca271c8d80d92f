//! `mass-expiry`: many holds end together while the sale goes on. Every unit returns exactly once, which the judge sees,
//! and at most 2 s after its deadline, by Postgres' own clock; meanwhile holding units takes at most twice as long.
//!
//! Nothing is hurt: buyers who come before the crowd hold a unit each and never come back.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message;
use proto::wire::events::LedgerBatch;
use proto::wire::events::ledger_entry::Kind;
use sqlx::Connection;
use tokio::time::sleep;
use uuid::Uuid;

use super::{Aftermath, Blow, DrillError, Field, Setup, now_us};
use crate::load::{CallKind, Outcome, Sample};
use crate::report::DrillReport;

pub(super) const HYPOTHESIS: &str = "units of holds that end together return exactly once and at most 2 s late, while the sale \
     goes on";

/// How late a unit may return.
const LATE_MAX_US: i64 = 2_000_000;

/// How many times longer holding units may take meanwhile, and what is too short to be compared.
const SLOWER_MAX: u64 = 2;
const SLOW_US: u64 = 50_000;

const SECOND_US: i64 = 1_000_000;

pub(super) fn setup() -> Setup {
    Setup {
        cells: 1,
        buyers: 900,
        stock: 1_200,
        arrive_within: Duration::from_secs(6),
        hold_ttl: Duration::from_secs(4),
        admission_rate: 20_000,
        live_orders: 2_000,
        live_orders_per_s: 4_000,
        ..Setup::default()
    }
}

/// The deadlines of the holds that have run out, microseconds since 1970, by order.
#[derive(Clone, Debug, Default)]
pub(super) struct Deadlines(HashMap<[u8; 16], i64>);

pub(super) async fn strike(field: &Field<'_>) -> Result<Option<Blow>, DrillError> {
    let Some((bucket, cell, _)) = field.victim_bucket().cloned() else { return Ok(None) };
    let wanted = u64::from(field.filled);
    if !field.moment(|sale| sale.units_told() >= wanted).await {
        return Ok(None);
    }
    let Some(aim) = field.aim(0.0).await else { return Ok(None) };
    let struck_us = now_us();
    let blow = aim.blow(format!("let {wanted} units be held by nobody who pays"));
    sleep(field.hold_ttl).await;
    let mut session = field.postgres(&cell).await?;
    let deadline = std::time::Instant::now() + field.hold_ttl + Duration::from_secs(20);
    while live(field, &mut session, bucket).await? > 0 && std::time::Instant::now() < deadline {
        sleep(Duration::from_millis(50)).await;
    }
    let deadlines = deadlines(field, &mut session, bucket).await?;
    session.close().await?;
    let mut blow = blow.fresh_after(struck_us).back();
    blow.deadlines = deadlines;
    Ok(Some(blow))
}

/// How late units returned, how many in the busiest second, and how long holding took meanwhile.
pub(super) fn weigh(blow: &Blow, aftermath: &Aftermath<'_>, report: &mut DrillReport) {
    let returns = returns(blow, aftermath);
    let Some(latest_us) = returns.iter().map(|(deadline, at)| at - deadline).max() else {
        return report.void.push("no hold ran out".to_owned());
    };
    let mut seconds: HashMap<i64, usize> = HashMap::new();
    for (deadline, _) in &returns {
        *seconds.entry(deadline / SECOND_US).or_default() += 1;
    }
    let busiest = seconds.values().max().copied().unwrap_or(0);
    report.findings.push(format!(
        "{} holds ran out, {busiest} of them in one second; the last returned {} ms late",
        returns.len(),
        latest_us / 1_000
    ));
    if latest_us > LATE_MAX_US * i64::from(aftermath.patience) {
        report.against.push(format!("a unit returned {} ms late", latest_us / 1_000));
    }
    let (Some(first), Some(last)) =
        (returns.iter().map(|one| one.0).min(), returns.iter().map(|one| one.1).max())
    else {
        return;
    };
    let (first, last) = (u64::try_from(first).unwrap_or(0), u64::try_from(last).unwrap_or(0));
    let reserve = |sample: &Sample| {
        sample.call == CallKind::Reserve && !sample.repeat && sample.outcome == Outcome::Done
    };
    let during = |sample: &Sample| (first..last).contains(&sample.intended_us);
    let meanwhile = aftermath.samples.latency(|sample| reserve(sample) && during(sample));
    let otherwise = aftermath.samples.latency(|sample| {
        reserve(sample) && !during(sample) && sample.intended_us > blow.struck_us
    });
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

/// How many holds of a bucket that nobody pays have not ended.
async fn live(
    field: &Field<'_>,
    session: &mut sqlx::PgConnection,
    bucket: u32,
) -> Result<i64, DrillError> {
    let select = r#"select count(*) from "order" o join sale s using (org, sale)
                    where s.id = $1 and o.bucket = $2 and o.state = 1 and o.deadline < now()"#;
    let query = sqlx::query_scalar(select).bind(field.sale).bind(bucket.cast_signed());
    Ok(query.fetch_one(session).await?)
}

async fn deadlines(
    field: &Field<'_>,
    session: &mut sqlx::PgConnection,
    bucket: u32,
) -> Result<Deadlines, DrillError> {
    let select = r#"select o.id, (extract(epoch from o.deadline) * 1000000)::bigint
                    from "order" o join sale s using (org, sale)
                    where s.id = $1 and o.bucket = $2 and o.state = 4"#;
    let query = sqlx::query_as(select).bind(field.sale).bind(bucket.cast_signed());
    let rows: Vec<(Uuid, i64)> = query.fetch_all(session).await?;
    Ok(Deadlines(rows.into_iter().map(|(id, us)| (id.into_bytes(), us)).collect()))
}
