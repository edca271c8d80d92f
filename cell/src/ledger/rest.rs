//! Buckets at rest: how one comes to rest, which ones there are, and what is so of one for good.

use super::of_org::read_of;
use super::takeover::bucket_of;
use super::{BucketRef, LedgerError};
use sqlx::{PgPool, Row};

/// A bucket at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rested {
    /// Its last epoch.
    pub epoch: i64,
    /// Units granted: more when some came late.
    pub granted: u32,
    /// Units paid, which stay so: a later refund moves money only.
    pub paid: u32,
    /// The newest signed head of its ledger, if there is one.
    pub head: Option<String>,
}

/// Puts a bucket to rest if its sale is over and none of its orders is live. Returns whether it is at rest.
///
/// # Errors
/// [`LedgerError`]; repeating it is safe.
pub async fn rest(pool: &PgPool, bucket: BucketRef, epoch: i64) -> Result<bool, LedgerError> {
    let at_rest = sqlx::query_scalar("select rest($1, $2, $3, $4)")
        .bind(bucket.org)
        .bind(bucket.sale)
        .bind(bucket.bucket)
        .bind(epoch);
    Ok(at_rest.fetch_one(pool).await?)
}

/// The buckets that are at rest, by their sales' ids, the newest sales first, at most `most`.
///
/// # Errors
/// When Postgres does not answer.
pub async fn resting(pool: &PgPool, most: usize) -> Result<Vec<(String, BucketRef)>, LedgerError> {
    let rows = sqlx::query("select org, sale, bucket, sale_id from buckets_at_rest($1)")
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_all(pool)
        .await?;
    rows.iter().map(|row| Ok((row.try_get("sale_id")?, bucket_of(row)?))).collect()
}

/// A bucket at rest. None: it is not at rest.
///
/// # Errors
/// When Postgres does not answer.
pub async fn rested(pool: &PgPool, bucket: BucketRef) -> Result<Option<Rested>, LedgerError> {
    let mut reading = read_of(pool, bucket.org).await?;
    let row = sqlx::query(
        "select b.epoch, b.granted, b.paid, h.head
         from bucket_now($1, $2, $3) b left join newest_head($1, $2, $3) h on true
         where b.settled",
    );
    let row = row.bind(bucket.org).bind(bucket.sale).bind(bucket.bucket);
    let row = row.fetch_optional(&mut *reading).await?;
    reading.commit().await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Rested {
        epoch: row.try_get("epoch")?,
        granted: row.try_get::<i32, _>("granted")?.cast_unsigned(),
        paid: row.try_get::<i32, _>("paid")?.cast_unsigned(),
        head: row.try_get("head")?,
    }))
}
