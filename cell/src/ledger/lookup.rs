//! Finding orders that are no longer live: the memory of requests.

use super::{BucketRef, LedgerError};
use proto::id::{BuyerKey, OrderId};
use sqlx::{PgPool, Row};
use uuid::Uuid;

/// An order as Postgres has it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Which.
    pub order: OrderId,
    /// Whose.
    pub buyer: BuyerKey,
    /// `floodgate.storefront.v1.Order.State`.
    pub state: i32,
    /// How many units were asked for.
    pub quantity: u32,
    /// Price times quantity, in the currency's minor unit.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// The provider's id of its last payment.
    pub intent: Option<String>,
    /// The units that it still has.
    pub units: Vec<u32>,
}

/// Finds those of `orders` that this bucket has, in no order.
///
/// # Errors
/// When Postgres does not answer.
pub async fn find_orders(
    pool: &PgPool,
    bucket: BucketRef,
    orders: &[OrderId],
) -> Result<Vec<Found>, LedgerError> {
    let ids: Vec<Uuid> = orders.iter().map(|order| Uuid::from_bytes(order.0)).collect();
    let rows = sqlx::query(
        "select id, buyer, state, quantity, intent, currency, amount_minor, units
         from find_orders($1, $2, $3, $4)",
    )
    .bind(bucket.org)
    .bind(bucket.sale)
    .bind(bucket.bucket)
    .bind(&ids)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            let units: Vec<i32> = row.try_get("units")?;
            Ok(Found {
                order: OrderId(row.try_get::<Uuid, _>("id")?.into_bytes()),
                buyer: BuyerKey(row.try_get::<Uuid, _>("buyer")?.into_bytes()),
                state: row.try_get::<i16, _>("state")?.into(),
                quantity: row.try_get::<i16, _>("quantity")?.unsigned_abs().into(),
                amount_minor: row.try_get("amount_minor")?,
                currency: row.try_get("currency")?,
                intent: row.try_get("intent")?,
                units: units.into_iter().map(i32::cast_unsigned).collect(),
            })
        })
        .collect()
}
