//! Reads a cell's Postgres: every bucket with its shares, orders, units and ledger, at one moment.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::{Connection, Executor, PgConnection, Row};
use uuid::Uuid;

use super::evidence::{Bucket, LedgerRow, OrderRow, Share, UnitRow};
use super::{CellStores, ReadError};
use crate::id::{BuyerKey, OrderId};
use crate::told::OrderState;

/// Where rows of (org, sale, bucket), in the cell's aliases, belong.
type Places = HashMap<(i32, i32, i32), usize>;

/// A session of its own.
pub(super) async fn open(stores: &CellStores) -> Result<PgConnection, ReadError> {
    let failed = |source| ReadError::Postgres { cell: stores.cell.clone(), source };
    PgConnection::connect(&stores.postgres_url).await.map_err(failed)
}

/// Begins a snapshot that nothing changes.
pub(super) async fn begin(cell: &str, session: &mut PgConnection) -> Result<(), ReadError> {
    let failed = |source| ReadError::Postgres { cell: cell.to_owned(), source };
    let begin = "begin transaction isolation level repeatable read read only";
    session.execute(begin).await.map(|_| ()).map_err(failed)
}

/// Ends it.
pub(super) async fn end(cell: &str, session: &mut PgConnection) -> Result<(), ReadError> {
    let failed = |source| ReadError::Postgres { cell: cell.to_owned(), source };
    session.execute("rollback").await.map(|_| ()).map_err(failed)
}

/// Reads what the session sees.
pub(super) async fn read(cell: &str, session: &mut PgConnection) -> Result<Vec<Bucket>, ReadError> {
    let failed = |source| ReadError::Postgres { cell: cell.to_owned(), source };
    let rows = sqlx::query(
        "select b.org, b.sale, b.bucket, o.id as org_id, s.id as sale_id,
                case when isfinite(s.start_at)
                     then (extract(epoch from s.start_at) * 1000000)::bigint end as start_us,
                b.epoch, b.seq, b.head, b.granted::bigint, b.live::bigint, b.paid::bigint,
                b.ranks, b.tail, b.cursor, b.settled
         from bucket b join sale s using (org, sale) join org o using (org)
         order by b.org, b.sale, b.bucket",
    );
    let mut buckets = Vec::new();
    let mut places = Places::new();
    for row in rows.fetch_all(&mut *session).await.map_err(failed)? {
        places.insert(place(&row).map_err(failed)?, buckets.len());
        buckets.push(bucket(cell, &row).map_err(failed)?);
    }
    let mut reading = Reading { cell, session, buckets, places };
    reading.shares().await?;
    reading.orders().await?;
    reading.units().await?;
    reading.ledger().await?;
    Ok(reading.buckets)
}

struct Reading<'a> {
    cell: &'a str,
    session: &'a mut PgConnection,
    buckets: Vec<Bucket>,
    places: Places,
}

impl Reading<'_> {
    async fn shares(&mut self) -> Result<(), ReadError> {
        let select = "select org, sale, bucket, first_unit, units from share
                      order by org, sale, first_unit";
        self.each(select, |bucket, row| {
            let share =
                Share { first_unit: number(row, "first_unit")?, units: number(row, "units")? };
            bucket.shares.push(share);
            Ok(())
        })
        .await
    }

    async fn orders(&mut self) -> Result<(), ReadError> {
        let select = "select org, sale, bucket, id, buyer, quantity::int, state::int,
                             attempt::int, ticket, intent
                      from \"order\" order by org, sale, bucket, ticket, id";
        self.each(select, |bucket, row| {
            let state: i32 = row.try_get("state")?;
            let unknown = || sqlx::Error::Decode(format!("an order in the state {state}").into());
            bucket.orders.push(OrderRow {
                order: OrderId(id(row, "id")?),
                buyer: BuyerKey(id(row, "buyer")?),
                quantity: number(row, "quantity")?,
                state: OrderState::from_number(state).ok_or_else(unknown)?,
                attempt: number(row, "attempt")?,
                ticket: row.try_get("ticket")?,
                intent: row.try_get("intent")?,
            });
            Ok(())
        })
        .await
    }

    async fn units(&mut self) -> Result<(), ReadError> {
        let select = "select org, sale, bucket, unit, buyer, id, slot::int from unit
                      order by org, sale, unit, id";
        self.each(select, |bucket, row| {
            bucket.units.push(UnitRow {
                unit: number(row, "unit")?,
                buyer: BuyerKey(id(row, "buyer")?),
                order: OrderId(id(row, "id")?),
                slot: number(row, "slot")?,
            });
            Ok(())
        })
        .await
    }

    async fn ledger(&mut self) -> Result<(), ReadError> {
        let select = "select org, sale, bucket, seq, epoch, at_us, entries, root, hash from ledger
                      order by org, sale, bucket, seq";
        self.each(select, |bucket, row| {
            bucket.rows.push(LedgerRow {
                seq: row.try_get("seq")?,
                epoch: row.try_get("epoch")?,
                at_us: row.try_get("at_us")?,
                entries: row.try_get("entries")?,
                root: row.try_get("root")?,
                hash: row.try_get("hash")?,
            });
            Ok(())
        })
        .await
    }

    /// Gives each row to the bucket it belongs to.
    async fn each(
        &mut self,
        select: &'static str,
        mut take: impl FnMut(&mut Bucket, &PgRow) -> Result<(), sqlx::Error>,
    ) -> Result<(), ReadError> {
        let failed = |source| ReadError::Postgres { cell: self.cell.to_owned(), source };
        for row in sqlx::query(select).fetch_all(&mut *self.session).await.map_err(failed)? {
            let at = place(&row).map_err(failed)?;
            let bucket = self.places.get(&at).and_then(|place| self.buckets.get_mut(*place));
            let Some(bucket) = bucket else {
                let (_, sale, bucket) = at;
                let what =
                    format!("a row of bucket {bucket} of its sale {sale}, which is not there");
                return Err(ReadError::Layout { cell: self.cell.to_owned(), what });
            };
            take(bucket, &row).map_err(failed)?;
        }
        Ok(())
    }
}

fn bucket(cell: &str, row: &PgRow) -> Result<Bucket, sqlx::Error> {
    Ok(Bucket {
        cell: cell.to_owned(),
        org: row.try_get("org_id")?,
        sale: row.try_get("sale_id")?,
        number: number(row, "bucket")?,
        start_us: row.try_get("start_us")?,
        epoch: row.try_get("epoch")?,
        seq: row.try_get("seq")?,
        head: row.try_get("head")?,
        granted: row.try_get("granted")?,
        live: row.try_get("live")?,
        paid: row.try_get("paid")?,
        ranks: row.try_get("ranks")?,
        tail: row.try_get("tail")?,
        cursor: row.try_get("cursor")?,
        settled: row.try_get("settled")?,
        ..Bucket::default()
    })
}

fn place(row: &PgRow) -> Result<(i32, i32, i32), sqlx::Error> {
    Ok((row.try_get("org")?, row.try_get("sale")?, row.try_get("bucket")?))
}

/// A number that is never negative.
fn number(row: &PgRow, column: &str) -> Result<u32, sqlx::Error> {
    let value: i32 = row.try_get(column)?;
    u32::try_from(value)
        .map_err(|_| sqlx::Error::Decode(format!("{column} is {value}, below nothing").into()))
}

fn id(row: &PgRow, column: &str) -> Result<[u8; 16], sqlx::Error> {
    row.try_get::<Uuid, _>(column).map(Uuid::into_bytes)
}
