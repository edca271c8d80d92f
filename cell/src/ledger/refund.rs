//! Refunds: of paid orders, and the memory of those of captures that nobody claimed.

use super::of_org::read_of;
use super::{BucketRef, Entries, LedgerError};
use crate::ledger::Move;
use proto::id::{BuyerKey, OrderId};
use proto::wire::events::ledger_entry::Kind;
use sqlx::{PgPool, Row};
use uuid::Uuid;

/// Whether the bucket's ledger names a refund of the payment `intent` (the provider's id) that no order claims.
///
/// # Errors
/// When Postgres does not answer.
pub async fn is_refund_written(
    pool: &PgPool,
    bucket: BucketRef,
    intent: &str,
) -> Result<bool, LedgerError> {
    let mut reading = read_of(pool, bucket.org).await?;
    let written = sqlx::query_scalar(
        "select exists (
             select from given_back
             where sale = $2 and intent = $4 and org = $1 and bucket = $3)",
    )
    .bind(bucket.org)
    .bind(bucket.sale)
    .bind(bucket.bucket)
    .bind(intent);
    let written = written.fetch_one(&mut *reading).await?;
    reading.commit().await?;
    Ok(written)
}

/// The refund of a paid order.
#[derive(Clone, Debug)]
pub struct Refund {
    /// Which order.
    pub order: OrderId,
    /// The provider's id of the payment that goes back.
    pub intent: String,
    /// What goes back, in the currency's minor unit.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// The units that become free: all of the order's, or none in a bucket at rest.
    pub units: Vec<u32>,
}

impl Refund {
    /// Writes down that the refund will be made. Repeating it is safe. Returns how often it was refused before.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] when the order is not paid by this payment.
    pub async fn begin(
        &self,
        pool: &PgPool,
        bucket: BucketRef,
        epoch: i64,
    ) -> Result<i32, LedgerError> {
        let entries = self.entries(Kind::Refunding, Vec::new());
        let refusals = sqlx::query_scalar("select begin_refund($1, $2, $3, $4, $5, $6, $7, $8)")
            .bind(bucket.org)
            .bind(bucket.sale)
            .bind(bucket.bucket)
            .bind(epoch)
            .bind(Uuid::from_bytes(self.order.0))
            .bind(&self.intent)
            .bind(&entries.bytes)
            .bind(&entries.root[..]);
        Ok(refusals.fetch_one(pool).await?)
    }

    /// Writes down that the provider refuses it for good, after `refusals` before. Repeating it is safe.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn refuse(
        &self,
        pool: &PgPool,
        bucket: BucketRef,
        epoch: i64,
        refusals: i32,
    ) -> Result<(), LedgerError> {
        let entries = self.entries(Kind::RefundRefused, Vec::new());
        sqlx::query("select refuse_refund($1, $2, $3, $4, $5, $6, $7, $8)")
            .bind(bucket.org)
            .bind(bucket.sale)
            .bind(bucket.bucket)
            .bind(epoch)
            .bind(Uuid::from_bytes(self.order.0))
            .bind(refusals)
            .bind(&entries.bytes)
            .bind(&entries.root[..])
            .execute(pool)
            .await?;
        Ok(())
    }

    /// Writes down that the money went back, and frees the units. Repeating it is safe.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] when it was not begun, or the order has other units.
    pub async fn end(
        &self,
        pool: &PgPool,
        bucket: BucketRef,
        epoch: i64,
    ) -> Result<(), LedgerError> {
        let entries = self.entries(Kind::Refunded, self.units.clone());
        let units: Vec<i32> = self.units.iter().map(|unit| unit.cast_signed()).collect();
        sqlx::query("select end_refund($1, $2, $3, $4, $5, $6, $7, $8)")
            .bind(bucket.org)
            .bind(bucket.sale)
            .bind(bucket.bucket)
            .bind(epoch)
            .bind(Uuid::from_bytes(self.order.0))
            .bind(&units)
            .bind(&entries.bytes)
            .bind(&entries.root[..])
            .execute(pool)
            .await?;
        Ok(())
    }

    fn entries(&self, kind: Kind, units: Vec<u32>) -> Entries {
        let step = Move {
            intent: Some(self.intent.clone()),
            amount_minor: self.amount_minor,
            currency: self.currency.clone(),
            ..Move::plain(self.order, kind, units)
        };
        Entries::new(vec![step.entry()])
    }
}

/// Orders of a bucket whose refunds have begun and not ended, with their buyers.
///
/// # Errors
/// When Postgres does not answer.
pub async fn refunding(
    pool: &PgPool,
    bucket: BucketRef,
) -> Result<Vec<(OrderId, BuyerKey)>, LedgerError> {
    let mut reading = read_of(pool, bucket.org).await?;
    let rows = sqlx::query(
        r#"select id, buyer from "order" where sale + 0 = $2 and bucket = $3 and org = $1 and refunding"#,
    )
    .bind(bucket.org)
    .bind(bucket.sale)
    .bind(bucket.bucket)
    .fetch_all(&mut *reading)
    .await?;
    reading.commit().await?;
    rows.iter()
        .map(|row| {
            Ok((
                OrderId(row.try_get::<Uuid, _>("id")?.into_bytes()),
                BuyerKey(row.try_get::<Uuid, _>("buyer")?.into_bytes()),
            ))
        })
        .collect()
}
