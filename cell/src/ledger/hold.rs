//! Holding units: a batch of orders with the units that the inventory granted them.

use super::{BucketRef, Entries, LedgerError};
use proto::id::{BuyerKey, OrderId};
use proto::wire::events::{LedgerEntry, ledger_entry::Kind};
use sqlx::PgPool;
use uuid::Uuid;

/// One order to hold.
#[derive(Clone, Debug)]
pub struct Hold {
    /// Derived from the request.
    pub order: OrderId,
    /// Whose.
    pub buyer: BuyerKey,
    /// The rank of the ticket that it spends.
    pub ticket: u64,
    /// Granted unit numbers.
    pub units: Vec<u32>,
    /// The first of the buyer's slots that it takes: as many as the buyer has paid units.
    pub first_slot: u8,
    /// Price times quantity, in the currency's minor unit.
    pub amount_minor: i64,
}

/// What all orders of a batch share.
#[derive(Clone, Debug)]
pub struct HoldBatch<'a> {
    /// The bucket.
    pub bucket: BucketRef,
    /// The keeper's epoch.
    pub epoch: i64,
    /// One more than the last.
    pub batch: i64,
    /// Of the sale.
    pub revision: u32,
    /// ISO 4217.
    pub currency: &'a str,
}

impl HoldBatch<'_> {
    /// Commits all holds of the batch, or none. Returns the time of the hold in microseconds since 1970.
    ///
    /// # Errors
    /// [`LedgerError`]; after `Taken` or `NotSelling` the entries may be sent one by one under the same number.
    pub async fn commit(&self, pool: &PgPool, holds: &[Hold]) -> Result<i64, LedgerError> {
        let entries = Entries::new(holds.iter().map(|hold| self.entry(hold)).collect());
        let (mut orders, mut buyers) =
            (Vec::with_capacity(holds.len()), Vec::with_capacity(holds.len()));
        let (mut quantities, mut tickets) =
            (Vec::with_capacity(holds.len()), Vec::with_capacity(holds.len()));
        let (mut unit_orders, mut unit_buyers) = (Vec::new(), Vec::new());
        let (mut units, mut slots) = (Vec::new(), Vec::new());
        for hold in holds {
            let (order, buyer) = (Uuid::from_bytes(hold.order.0), Uuid::from_bytes(hold.buyer.0));
            orders.push(order);
            buyers.push(buyer);
            quantities.push(i16::try_from(hold.units.len()).unwrap_or(i16::MAX));
            tickets.push(hold.ticket.cast_signed());
            for (slot, &unit) in (i16::from(hold.first_slot)..).zip(&hold.units) {
                unit_orders.push(order);
                unit_buyers.push(buyer);
                units.push(unit.cast_signed());
                slots.push(slot);
            }
        }
        let at_us = sqlx::query_scalar(
            "select hold($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        )
        .bind(self.bucket.org)
        .bind(self.bucket.sale)
        .bind(self.bucket.bucket)
        .bind(self.epoch)
        .bind(self.batch)
        .bind(self.revision.cast_signed())
        .bind(&orders)
        .bind(&buyers)
        .bind(&quantities)
        .bind(&tickets)
        .bind(&unit_orders)
        .bind(&unit_buyers)
        .bind(&units)
        .bind(&slots)
        .bind(&entries.bytes)
        .bind(&entries.root[..])
        .fetch_one(pool)
        .await?;
        Ok(at_us)
    }

    fn entry(&self, hold: &Hold) -> LedgerEntry {
        LedgerEntry {
            kind: Kind::Held.into(),
            order: hold.order.0.to_vec(),
            buyer: hold.buyer.0.to_vec(),
            units: hold.units.clone(),
            ticket: hold.ticket,
            amount_minor: hold.amount_minor,
            currency: self.currency.into(),
            revision: self.revision,
            ..LedgerEntry::default()
        }
    }
}
