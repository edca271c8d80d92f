//! What the ledgers say, as plain values: nothing here is judged yet.

use serde::{Deserialize, Serialize};

use crate::id::{BuyerKey, OrderId};
use crate::told::{OrderState, Told};

/// All that is known of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What was agreed about each sale, in the order in which the told log counts them.
    pub sales: Vec<Agreed>,
    /// What clients asked and were told.
    pub told: Vec<Told>,
    /// What the provider's file says.
    pub intents: Vec<Intent>,
    /// What the stores of all cells say.
    pub buckets: Vec<Bucket>,
}

/// What a merchant and the platform agreed about a sale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// The org's id.
    pub org: String,
    /// The sale's id.
    pub sale: String,
    /// Whether a gate stands before it.
    pub flash: bool,
    /// Units, those included that were added and those that the merchant took back.
    pub stock: u32,
    /// Units that the merchant took back in the end, by the sale's record.
    #[serde(default)]
    pub surrendered: u32,
    /// Units a buyer.
    pub cap: u32,
    /// Of one unit, in the currency's minor unit.
    pub price_minor: i64,
    /// Tickets admitted a second over all buckets.
    pub admission_rate: u32,
}

impl Agreed {
    /// Units that can be sold.
    pub fn units(&self) -> u32 {
        self.stock.saturating_sub(self.surrendered)
    }
}

/// A payment at the provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The provider's id.
    pub id: String,
    /// The order it was made for, as whoever made it named it.
    pub order: Option<String>,
    /// What was to be paid, in the currency's minor unit.
    pub amount: u64,
    /// How often money was taken.
    pub captures: u32,
    /// Money taken.
    pub captured: u64,
    /// Money given back.
    pub refunded: u64,
    /// How often a card was declined.
    pub declines: u32,
}

/// A bucket, as its cell's Postgres and Redis hold it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// The cell.
    pub cell: String,
    /// The org's id.
    pub org: String,
    /// The sale's id.
    pub sale: String,
    /// The bucket's number.
    pub number: u32,
    /// The sale's start by this cell, unix microseconds; none when it has none yet.
    pub start_us: Option<i64>,
    /// The newest epoch.
    pub epoch: i64,
    /// The ledger's last sequence number.
    pub seq: i64,
    /// The hash of the ledger's last row.
    pub head: Vec<u8>,
    /// Units granted to it.
    pub granted: i64,
    /// Units it counts as live.
    pub live: i64,
    /// Units it counts as paid.
    pub paid: i64,
    /// Ranks below this were given out or will never be.
    pub ranks: i64,
    /// Tickets with lower ranks than this came too late.
    pub tail: i64,
    /// Tickets with lower ranks than this were admitted.
    pub cursor: i64,
    /// Whether it is at rest for good.
    pub settled: bool,
    /// Its shares, by first unit.
    pub shares: Vec<Share>,
    /// Its orders.
    pub orders: Vec<OrderRow>,
    /// Its units that are not free.
    pub units: Vec<UnitRow>,
    /// Its ledger, by sequence number.
    pub rows: Vec<LedgerRow>,
    /// What Redis remembers of it.
    pub memory: Option<Memory>,
}

/// Units that a bucket may sell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The first.
    pub first_unit: u32,
    /// How many from there.
    pub units: u32,
}

/// An order's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRow {
    /// The order.
    pub order: OrderId,
    /// The buyer.
    pub buyer: BuyerKey,
    /// Units.
    pub quantity: u32,
    /// What became of it.
    pub state: OrderState,
    /// Payment attempts.
    pub attempt: u32,
    /// The rank of the ticket that it spent.
    pub ticket: i64,
    /// The provider's id of its payment.
    pub intent: Option<String>,
}

/// The row of a unit that is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitRow {
    /// The unit.
    pub unit: u32,
    /// Who has it.
    pub buyer: BuyerKey,
    /// In which order.
    pub order: OrderId,
    /// Which of the buyer's places below the cap.
    pub slot: u32,
}

/// A row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// 1, 2, 3, …
    pub seq: i64,
    /// The keeper's epoch.
    pub epoch: i64,
    /// Unix microseconds by the cell's Postgres.
    pub at_us: i64,
    /// `floodgate.events.v1.LedgerBatch`.
    pub entries: Vec<u8>,
    /// What it says the Merkle root is.
    pub root: Vec<u8>,
    /// What it says its hash is.
    pub hash: Vec<u8>,
}

/// What a Redis remembers of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// The epoch it was loaded under.
    pub epoch: i64,
    /// Whether it serves.
    pub open: bool,
    /// Units granted to the bucket.
    pub granted: u32,
    /// Local index of the first unit that was never granted to an order.
    pub next: u32,
    /// By local index: the order that has it.
    pub units: Vec<Option<OrderId>>,
    /// Local indices that were returned.
    pub returned: Vec<u32>,
    /// Buyers with orders, now or before.
    pub buyers: Vec<BuyerMemory>,
}

/// What a Redis remembers of a buyer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuyerMemory {
    /// The buyer.
    pub buyer: BuyerKey,
    /// Units that are held or being paid.
    pub live: u32,
    /// Units paid.
    pub paid: u32,
    /// Their tickets of ranks below this are spent.
    pub spent_below: i64,
}

impl Bucket {
    /// Whether the bucket may sell a unit.
    pub fn has(&self, unit: u32) -> bool {
        let reaches =
            |share: &Share| unit.checked_sub(share.first_unit).is_some_and(|n| n < share.units);
        self.shares.iter().any(reaches)
    }

    /// How many units its shares hold.
    pub fn share_units(&self) -> u64 {
        self.shares.iter().map(|share| u64::from(share.units)).sum()
    }
}

impl Intent {
    /// Captures that were not given back in full.
    pub const fn unrefunded_captures(&self) -> u32 {
        if self.refunded >= self.captured { 0 } else { self.captures }
    }

    /// The order it was made for: an id, or a resource name that ends with one.
    pub fn order_id(&self) -> Option<OrderId> {
        self.order.as_deref()?.rsplit('/').next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_the_units_of_its_shares() {
        let shares = vec![Share { first_unit: 10, units: 3 }, Share { first_unit: 40, units: 2 }];
        let bucket = Bucket { shares, ..Bucket::default() };
        let units: Vec<u32> = (0..50).filter(|unit| bucket.has(*unit)).collect();
        assert_eq!((units, bucket.share_units()), (vec![10, 11, 12, 40, 41], 5));
    }
}
