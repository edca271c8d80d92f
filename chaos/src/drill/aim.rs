//! The aim: which bucket a drill strikes and when, who keeps it, and what its cell's stores are.

use redis::aio::MultiplexedConnection;
use sqlx::{Connection, PgConnection};

use super::blow::Blow;
use super::{DrillError, Field, now_us, share_of};
use crate::judge::CellStores;

/// A bucket that is about to be struck: its moment has come, with calls under way in it.
#[derive(Clone, Debug)]
pub(super) struct Aim {
    pub(super) bucket: u32,
    pub(super) cell: String,
    /// Units of the bucket.
    pub(super) units: u32,
    /// Units of it that were told to be held, ever.
    pub(super) units_told: u64,
    /// Reserves under way in it.
    pub(super) in_flight: u64,
    pub(super) cap: u32,
}

impl Field<'_> {
    /// Which bucket it will be.
    pub(super) fn victim_bucket(&self) -> Option<&(u32, String, u32)> {
        self.buckets.get(self.victim % self.buckets.len().max(1))
    }

    /// Waits until a part (0 to 1) of the moment's share of the victim's units is held, with calls under way there;
    /// none when that did not come.
    pub(super) async fn aim(&self, part: f64) -> Option<Aim> {
        let (bucket, cell, units) = self.victim_bucket()?.clone();
        let filled = u64::from(self.filled) * u64::from(units) / u64::from(self.stock.max(1));
        let crowds = units.saturating_sub(u32::try_from(filled).unwrap_or(u32::MAX));
        let wanted = filled + share_of(crowds, self.moment * part);
        let came = self.moment(|sale| {
            sale.units_told_of(bucket) >= wanted && sale.reserves_in_flight(bucket) > 0
        });
        if !came.await {
            return None;
        }
        let sale = self.sale_live()?;
        let (units_told, in_flight) = (sale.units_told_of(bucket), sale.reserves_in_flight(bucket));
        Some(Aim { bucket, cell, units, units_told, in_flight, cap: self.cap })
    }

    /// A number that says which of `count` ways is taken.
    pub(super) fn way(&self, count: usize) -> usize {
        // The lowest digits choose the bucket.
        self.victim / 1_024 % count.max(1)
    }

    /// The stores of a cell.
    pub(super) fn stores_of(&self, cell: &str) -> Result<&CellStores, DrillError> {
        let found = self.stores.iter().find(|stores| stores.cell == cell);
        found.ok_or_else(|| DrillError::NotHere(format!("{cell} has no stores")))
    }

    /// A superuser's session in a cell's Postgres.
    pub(super) async fn postgres(&self, cell: &str) -> Result<PgConnection, DrillError> {
        Ok(PgConnection::connect(&self.stores_of(cell)?.postgres_url).await?)
    }

    /// A connection to a cell's Redis.
    pub(super) async fn redis(&self, cell: &str) -> Result<MultiplexedConnection, DrillError> {
        let client = redis::Client::open(self.stores_of(cell)?.redis_url.as_str())?;
        Ok(client.get_multiplexed_async_connection().await?)
    }

    /// The process that keeps a bucket, by its name in the stack; none when nobody does.
    pub(super) async fn keeper(
        &self,
        session: &mut PgConnection,
        bucket: u32,
        cell: &str,
    ) -> Result<Option<String>, DrillError> {
        let select = "select b.keeper from bucket b join sale s using (org, sale)
                      where s.id = $1 and b.bucket = $2";
        let query = sqlx::query_scalar(select).bind(self.sale).bind(bucket.cast_signed());
        let keeper: Option<Option<String>> = query.fetch_optional(session).await?;
        Ok(keeper.flatten().map(|process| format!("{cell}/{process}")))
    }
}

impl Aim {
    /// A blow that falls now; `what` was done to whom.
    pub(super) fn blow(self, what: impl Into<String>) -> Blow {
        Blow::new(self, what.into(), now_us())
    }
}
