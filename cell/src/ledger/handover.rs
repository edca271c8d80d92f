//! Handing a bucket over: its next keeper is named, and called at once.

use super::of_org::read_of;
use super::{BucketRef, LedgerError};
use sqlx::PgPool;
use sqlx::postgres::{PgListener, PgPoolOptions};

/// What a process is called by whom it shall take a bucket over from.
const CHANNEL: &str = "floodgate_heir";

/// Raises the bucket's epoch from `epoch` and names `heir` its keeper, who is called as soon as that is committed: from
/// then on nobody writes until the heir has taken it over. None: somebody else was faster, or the bucket is at rest.
///
/// # Errors
/// When Postgres does not answer; the outcome is then unknown, and harmless: whoever the row names takes it over.
pub async fn hand_over(
    pool: &PgPool,
    bucket: BucketRef,
    epoch: i64,
    heir: &str,
) -> Result<Option<i64>, LedgerError> {
    let raised = sqlx::query_scalar(
        "with raised as (select epoch from take_over($1, $2, $3, $4, $5)),
              called as (select pg_notify($6, $5) from raised)
         select epoch from raised, called",
    )
    .bind(bucket.org)
    .bind(bucket.sale)
    .bind(bucket.bucket)
    .bind(epoch)
    .bind(heir)
    .bind(CHANNEL);
    Ok(raised.fetch_optional(pool).await?)
}

/// Who keeps a bucket by what is written, and its epoch.
///
/// # Errors
/// When Postgres does not answer.
pub async fn keeper_of(
    pool: &PgPool,
    bucket: BucketRef,
) -> Result<Option<(String, i64)>, LedgerError> {
    let mut reading = read_of(pool, bucket.org).await?;
    let row = sqlx::query_as(
        "select keeper, epoch from bucket
         where org = $1 and sale = $2 and bucket = $3 and keeper is not null",
    )
    .bind(bucket.org)
    .bind(bucket.sale)
    .bind(bucket.bucket);
    let keeper = row.fetch_optional(&mut *reading).await?;
    reading.commit().await?;
    Ok(keeper)
}

/// Listens for calls to take buckets over, on a connection of its own.
#[derive(Debug)]
pub struct HeirCalls(PgListener);

impl HeirCalls {
    /// Begins to listen at the server of `pool`.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn listen(pool: &PgPool) -> Result<HeirCalls, LedgerError> {
        let options = pool.connect_options().as_ref().clone();
        let own = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
        let mut listener = PgListener::connect_with(&own).await?;
        listener.listen(CHANNEL).await?;
        Ok(HeirCalls(listener))
    }

    /// Waits until `process` is called.
    ///
    /// # Errors
    /// When the connection broke; calls may have been missed.
    pub async fn called(&mut self, process: &str) -> Result<(), LedgerError> {
        while self.0.recv().await?.payload() != process {}
        Ok(())
    }
}
