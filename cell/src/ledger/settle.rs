//! Moving orders on: expiry, cancellation, and every step of a payment, in batches of their own.

use super::{BucketRef, Entries, LedgerError};
use proto::id::OrderId;
use proto::wire::events::{LedgerEntry, ledger_entry::Kind};
use sqlx::PgPool;
use uuid::Uuid;

/// What happens to one order.
#[derive(Clone, Debug)]
pub struct Move {
    /// Which order.
    pub order: OrderId,
    /// What happens to it.
    pub kind: Kind,
    /// The units that it holds, where the move frees them.
    pub units: Vec<u32>,
    /// The payment attempt, where the move is about one.
    pub attempt: u32,
    /// The provider's id of the payment, where the move is about one.
    pub intent: Option<String>,
    /// What was captured or went back, in the currency's minor unit.
    pub amount_minor: i64,
    /// ISO 4217, where there is an amount.
    pub currency: String,
}

impl Move {
    /// A move that is not about a payment.
    pub fn plain(order: OrderId, kind: Kind, units: Vec<u32>) -> Move {
        Move {
            order,
            kind,
            units,
            attempt: 0,
            intent: None,
            amount_minor: 0,
            currency: String::new(),
        }
    }

    pub(super) fn entry(&self) -> LedgerEntry {
        LedgerEntry {
            kind: self.kind.into(),
            order: self.order.0.to_vec(),
            units: self.units.clone(),
            attempt: self.attempt,
            intent: self.intent.clone().unwrap_or_default(),
            amount_minor: self.amount_minor,
            currency: self.currency.clone(),
            ..LedgerEntry::default()
        }
    }
}

/// What all moves of a batch share.
#[derive(Clone, Copy, Debug)]
pub struct SettleBatch {
    /// The bucket.
    pub bucket: BucketRef,
    /// The keeper's epoch.
    pub epoch: i64,
    /// One more than the last.
    pub batch: i64,
}

impl SettleBatch {
    /// Commits all moves of the batch, or none; an order stands in a batch once. Returns the time of the moves in
    /// microseconds since 1970.
    ///
    /// # Errors
    /// [`LedgerError`]; after `Conflict` the entries may be sent one by one under the same number.
    pub async fn commit(&self, pool: &PgPool, moves: &[Move]) -> Result<i64, LedgerError> {
        let entries = Entries::new(moves.iter().map(Move::entry).collect());
        let orders: Vec<Uuid> = moves.iter().map(|step| Uuid::from_bytes(step.order.0)).collect();
        let kinds: Vec<i16> =
            moves.iter().map(|step| i16::try_from(i32::from(step.kind)).unwrap_or(0)).collect();
        let attempts: Vec<i16> =
            moves.iter().map(|step| i16::try_from(step.attempt).unwrap_or(i16::MAX)).collect();
        let intents: Vec<Option<&str>> = moves.iter().map(|step| step.intent.as_deref()).collect();
        let freed = moves.iter().flat_map(|step| step.units.iter().map(|unit| (step.order, *unit)));
        let (unit_orders, units): (Vec<Uuid>, Vec<i32>) =
            freed.map(|(order, unit)| (Uuid::from_bytes(order.0), unit.cast_signed())).unzip();
        let at_us = sqlx::query_scalar(
            "select settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        )
        .bind(self.bucket.org)
        .bind(self.bucket.sale)
        .bind(self.bucket.bucket)
        .bind(self.epoch)
        .bind(self.batch)
        .bind(&orders)
        .bind(&kinds)
        .bind(&attempts)
        .bind(&intents)
        .bind(&unit_orders)
        .bind(&units)
        .bind(&entries.bytes)
        .bind(&entries.root[..])
        .fetch_one(pool)
        .await?;
        Ok(at_us)
    }
}
