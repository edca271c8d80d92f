//! What the stores say afterwards: that each hold ended once, and that Redis and Postgres agree on every unit.

use super::{HOLDS, PATIENCE, SALE, STOCK};
use crate::sale::{Cell, ORG};
use anyhow::{Context, Result, ensure};
use prost::Message;
use proto::wire::events::{LedgerBatch, ledger_entry::Kind};
use sqlx::{PgPool, Row};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How late each hold ended by Postgres' clock, after making sure that each ended once.
pub(super) async fn all_returned_once(pool: &PgPool) -> Result<Vec<i64>> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let expired: i64 = sqlx::query_scalar(r#"select count(*) from "order" where state = 4"#)
            .fetch_one(pool)
            .await?;
        if expired == i64::from(HOLDS) {
            break;
        }
        ensure!(Instant::now() < give_up, "{expired} of {HOLDS} holds have ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let deadlines = sqlx::query(
        r#"select id, (extract(epoch from deadline) * 1000000)::bigint from "order" where state = 4"#,
    );
    let mut deadlines: HashMap<[u8; 16], i64> = deadlines
        .fetch_all(pool)
        .await?
        .iter()
        .map(|row| (row.get::<sqlx::types::Uuid, _>(0).into_bytes(), row.get(1)))
        .collect();
    let rows = sqlx::query("select at_us, entries from ledger order by bucket, seq");
    let mut late = Vec::with_capacity(deadlines.len());
    for row in rows.fetch_all(pool).await? {
        let at_us: i64 = row.get(0);
        for entry in LedgerBatch::decode(row.get::<&[u8], _>(1))?.entries {
            if entry.kind() == Kind::Expired {
                let deadline_us =
                    deadlines.remove(&entry.order[..]).context("a hold ended twice")?;
                late.push(at_us - deadline_us);
            }
        }
    }
    ensure!(deadlines.is_empty(), "{} holds ended without the ledger", deadlines.len());
    Ok(late)
}

/// Counts the free units, after making sure that Redis gives each unit to whom Postgres gives it.
pub(super) async fn redis_agrees(cell: &Cell, pool: &PgPool, buckets: u32) -> Result<u32> {
    let url = cell.stack().redis_admin_url("cell-1")?;
    let mut redis = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let share = STOCK / buckets;
    let mut all_free = 0;
    for bucket in 0..buckets {
        let tag = format!("fg:{{{ORG}:{SALE}:{bucket}}}");
        let (epoch, next): (u64, u32) = redis::cmd("HMGET")
            .arg(format!("{tag}:rec"))
            .arg("epoch")
            .arg("next")
            .query_async(&mut redis)
            .await?;
        let units: Vec<u8> =
            redis::cmd("GET").arg(format!("{tag}:e{epoch}:u")).query_async(&mut redis).await?;
        let mut range = redis::cmd("LRANGE");
        let returned: Vec<u32> =
            range.arg(format!("{tag}:e{epoch}:f")).arg(0).arg(-1).query_async(&mut redis).await?;
        let rows = sqlx::query("select unit, id from unit where bucket = $1 order by unit");
        let rows = rows.bind(i32::try_from(bucket)?).fetch_all(pool).await?;
        let mut owners: HashMap<u32, [u8; 16]> = HashMap::new();
        for row in rows {
            let unit = row.get::<i32, _>(0).cast_unsigned() - bucket * share;
            owners.insert(unit, row.get::<sqlx::types::Uuid, _>(1).into_bytes());
        }
        let mut free = vec![false; share as usize];
        for unit in returned.into_iter().chain(next..share) {
            let twice = std::mem::replace(&mut free[unit as usize], true);
            ensure!(!twice, "unit {unit} of bucket {bucket} is free twice");
        }
        for unit in 0..share {
            let at = unit as usize * 16;
            let in_redis = units.get(at..at + 16).filter(|owner| **owner != [0; 16]);
            let in_postgres = owners.get(&unit).map(|owner| &owner[..]);
            ensure!(
                in_redis == in_postgres && free[unit as usize] == in_postgres.is_none(),
                "unit {unit} of bucket {bucket}: Redis {in_redis:?}, Postgres {in_postgres:?}"
            );
        }
        all_free += share - u32::try_from(owners.len())?;
    }
    Ok(all_free)
}
