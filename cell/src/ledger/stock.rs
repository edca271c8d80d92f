//! Accepting what the control plane has decided: a bucket's share of a sale, and the sale's terms.

use super::{BucketRef, Entries, LedgerError};
use proto::wire::cell::{SaleRecord, sale_record};
use proto::wire::events::{LedgerEntry, ledger_entry::Kind};
use sqlx::{PgPool, Row};

/// What org and sale are called in this cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aliases {
    /// The org's alias.
    pub org: i32,
    /// The sale's alias.
    pub sale: i32,
}

/// Unit numbers without a gap, which a bucket may sell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    /// The first.
    pub first_unit: u32,
    /// How many from there.
    pub units: u32,
}

/// Accepts a bucket's share, once: accepting it again changes nothing.
///
/// # Errors
/// When Postgres refuses or does not answer.
pub async fn accept(
    pool: &PgPool,
    sale: &SaleRecord,
    bucket: u32,
    share: Share,
) -> Result<Aliases, LedgerError> {
    let granted = LedgerEntry {
        kind: Kind::Granted.into(),
        units: vec![share.first_unit, share.first_unit + share.units - 1],
        ..LedgerEntry::default()
    };
    let entries = Entries::new(vec![granted]);
    let row = sqlx::query("select v_org, v_sale from accept($1, $2, $3, $4, $5, $6, $7, $8)")
        .bind(&sale.org)
        .bind(&sale.sale)
        .bind(i16::try_from(sale.class).unwrap_or(0))
        .bind(bucket.cast_signed())
        .bind(share.first_unit.cast_signed())
        .bind(share.units.cast_signed())
        .bind(&entries.bytes)
        .bind(&entries.root[..])
        .fetch_one(pool)
        .await?;
    Ok(Aliases { org: row.try_get("v_org")?, sale: row.try_get("v_sale")? })
}

/// Takes over a sale's times and terms. An older record than the one known changes nothing.
///
/// # Errors
/// When Postgres refuses or does not answer.
pub async fn set_sale(
    pool: &PgPool,
    bucket: BucketRef,
    sale: &SaleRecord,
) -> Result<(), LedgerError> {
    let cancelled = sale.state() == sale_record::State::Cancelled;
    // A sale that is not warm everywhere stays closed, whatever its times say.
    let selling = matches!(sale.state(), sale_record::State::Warm) && !sale.paused;
    sqlx::query(
        "select set_sale($1, $2, $3, to_timestamp($4 / 1000.0), to_timestamp($5 / 1000.0), $6, $7,
                         $8, $9, $10, $11, $12)",
    )
    .bind(bucket.org)
    .bind(bucket.sale)
    .bind(sale.update_ms.cast_signed())
    .bind(sale.start_ms.cast_signed())
    .bind(sale.end_ms.cast_signed())
    .bind(!selling)
    .bind(cancelled)
    .bind(sale.revision.cast_signed())
    .bind(sale.price_minor)
    .bind(&sale.currency)
    .bind(sale.cap.cast_signed())
    .bind(sale.hold_ttl_ms.cast_signed())
    .execute(pool)
    .await?;
    Ok(())
}
