//! The two sides of a transfer: giving units up and accepting them, each once under the transfer's id.

use super::{BucketRef, Entries, LedgerError, Share};
use crate::transfer::TransferId;
use proto::wire::events::{LedgerEntry, ledger_entry::Kind};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use uuid::Uuid;

/// One side of a transfer, as the bucket there sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferSide {
    /// The bucket on this side.
    pub bucket: BucketRef,
    /// The keeper's epoch, or the last one of a bucket at rest.
    pub epoch: i64,
    /// Which transfer.
    pub transfer: TransferId,
    /// The bucket on the other side. None: the merchant.
    pub peer: Option<u32>,
}

impl TransferSide {
    /// What was given up (or, if `accepted`, accepted) before under this id. None: nothing was decided yet.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn find(
        &self,
        pool: &PgPool,
        accepted: bool,
    ) -> Result<Option<Vec<Share>>, LedgerError> {
        let row = sqlx::query(
            "select v_first_units, v_counts from find_transfer($1, $2, $3, $4, $5, $6)",
        )
        .bind(self.bucket.org)
        .bind(self.bucket.sale)
        .bind(self.bucket.bucket)
        .bind(self.epoch)
        .bind(Uuid::from_bytes(self.transfer.0))
        .bind(accepted)
        .fetch_one(pool)
        .await?;
        Ok(shares(&row)?)
    }

    /// Gives up free units of the bucket, or says for good that it gives none. Returns what was given up under this id,
    /// now or before.
    ///
    /// # Errors
    /// [`LedgerError`]; repeating it is safe. `Taken`: the units are not the bucket's, or an order has one.
    pub async fn give_up(&self, pool: &PgPool, units: &[Share]) -> Result<Vec<Share>, LedgerError> {
        let call =
            "select v_first_units, v_counts from give_up($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        self.commit(pool, call, Kind::GivenUp, units).await
    }

    /// Accepts units that were given up elsewhere. Returns what was accepted under this id, now or before.
    ///
    /// # Errors
    /// [`LedgerError`]; repeating it is safe. `Taken`: a bucket of this cell may sell one of them already.
    pub async fn accept(&self, pool: &PgPool, units: &[Share]) -> Result<Vec<Share>, LedgerError> {
        let call = "select v_first_units, v_counts from accept_units($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        self.commit(pool, call, Kind::Accepted, units).await
    }

    async fn commit(
        &self,
        pool: &PgPool,
        call: &'static str,
        kind: Kind,
        units: &[Share],
    ) -> Result<Vec<Share>, LedgerError> {
        let entry = LedgerEntry {
            kind: kind.into(),
            units: units
                .iter()
                .flat_map(|share| [share.first_unit, share.first_unit + share.units - 1])
                .collect(),
            transfer: self.transfer.0.to_vec(),
            peer: self.peer,
            ..LedgerEntry::default()
        };
        let entries = Entries::new(vec![entry]);
        let firsts: Vec<i32> = units.iter().map(|share| share.first_unit.cast_signed()).collect();
        let counts: Vec<i32> = units.iter().map(|share| share.units.cast_signed()).collect();
        let row = sqlx::query(call)
            .bind(self.bucket.org)
            .bind(self.bucket.sale)
            .bind(self.bucket.bucket)
            .bind(self.epoch)
            .bind(Uuid::from_bytes(self.transfer.0))
            .bind(self.peer.map(u32::cast_signed))
            .bind(&firsts)
            .bind(&counts)
            .bind(&entries.bytes)
            .bind(&entries.root[..])
            .fetch_one(pool)
            .await?;
        Ok(shares(&row)?.unwrap_or_default())
    }
}

/// Two arrays as shares. None: they are null.
fn shares(row: &PgRow) -> Result<Option<Vec<Share>>, sqlx::Error> {
    let firsts: Option<Vec<i32>> = row.try_get("v_first_units")?;
    let counts: Option<Vec<i32>> = row.try_get("v_counts")?;
    let share = |(first, units): (i32, i32)| Share {
        first_unit: first.cast_unsigned(),
        units: units.cast_unsigned(),
    };
    Ok(firsts
        .zip(counts)
        .map(|(firsts, counts)| firsts.into_iter().zip(counts).map(share).collect()))
}
