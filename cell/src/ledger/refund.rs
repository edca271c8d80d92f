//! Refunds in the ledger: whether one is written down. Asked rarely, of payments that nobody claims.

use super::{BucketRef, LedgerError};
use prost::Message;
use proto::wire::events::{LedgerBatch, ledger_entry::Kind};
use sqlx::PgPool;

/// Whether the bucket's ledger names a refund of the payment `intent` (the provider's id).
///
/// # Errors
/// When Postgres does not answer, or a row is not what was written.
pub async fn is_refund_written(
    pool: &PgPool,
    bucket: BucketRef,
    intent: &str,
) -> Result<bool, LedgerError> {
    // No index leads there: nothing that happens often asks for it.
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(
        "select entries from ledger
         where org = $1 and sale = $2 and bucket = $3 and position($4::bytea in entries) > 0",
    )
    .bind(bucket.org)
    .bind(bucket.sale)
    .bind(bucket.bucket)
    .bind(intent.as_bytes())
    .fetch_all(pool)
    .await?;
    for row in rows {
        let batch = LedgerBatch::decode(&row[..])
            .map_err(|error| LedgerError::Refused(sqlx::Error::Decode(error.into())))?;
        let is_it = |kind: Kind, of: &str| kind == Kind::Refunded && of == intent;
        if batch.entries.iter().any(|entry| is_it(entry.kind(), &entry.intent)) {
            return Ok(true);
        }
    }
    Ok(false)
}
