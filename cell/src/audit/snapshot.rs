//! What the audit reads of one bucket, all of it as one moment has it. Whoever changes a bucket takes its row first, so a
//! snapshot's ledger, counts, orders and units belong together.

use crate::ledger::{BucketRef, read_of};
use proto::chain::Row;
use proto::id::OrderId;
use proto::merkle::Hash;
use proto::replay::{ReplayedOrder, intent_mark};
use proto::wire::storefront::order::State;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Postgres, Row as _, Transaction};
use std::ops::RangeInclusive;
use uuid::Uuid;

/// A bucket's row, as far as the ledger says what must stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BucketRow {
    pub(super) epoch: i64,
    pub(super) seq: u64,
    pub(super) head: Vec<u8>,
    pub(super) at_us: i64,
    pub(super) granted: i64,
    pub(super) live: i64,
    pub(super) paid: i64,
    pub(super) hold_batch: u64,
    pub(super) settle_batch: u64,
}

/// One moment of one bucket.
pub(super) struct Snapshot {
    transaction: Transaction<'static, Postgres>,
    bucket: BucketRef,
}

impl Snapshot {
    pub(super) async fn begin(pool: &PgPool, bucket: BucketRef) -> Result<Snapshot, sqlx::Error> {
        let transaction = read_of(pool, bucket.org).await?;
        Ok(Snapshot { transaction, bucket })
    }

    pub(super) async fn end(self) -> Result<(), sqlx::Error> {
        self.transaction.commit().await
    }

    /// The bucket's row, if there is one.
    pub(super) async fn bucket(&mut self) -> Result<Option<BucketRow>, sqlx::Error> {
        let row = sqlx::query(
            "select epoch, seq, head, at_us, granted, live, paid, hold_batch, settle_batch
             from bucket_now($1, $2, $3)",
        );
        let row = row.bind(self.bucket.org).bind(self.bucket.sale).bind(self.bucket.bucket);
        let Some(row) = row.fetch_optional(&mut *self.transaction).await? else { return Ok(None) };
        let count = |name| row.try_get::<i32, _>(name).map(i64::from);
        let number = |name| row.try_get::<i64, _>(name).map(i64::cast_unsigned);
        Ok(Some(BucketRow {
            epoch: row.try_get("epoch")?,
            seq: number("seq")?,
            head: row.try_get("head")?,
            at_us: row.try_get("at_us")?,
            granted: count("granted")?,
            live: count("live")?,
            paid: count("paid")?,
            hold_batch: number("hold_batch")?,
            settle_batch: number("settle_batch")?,
        }))
    }

    /// At most `most` rows of the ledger behind row `after`.
    pub(super) async fn rows(&mut self, after: u64, most: u32) -> Result<Vec<Row>, sqlx::Error> {
        let rows = sqlx::query(
            "select seq, epoch, at_us, entries, root, hash from ledger_after($1, $2, $3, $4, $5)",
        );
        let rows = rows.bind(self.bucket.org).bind(self.bucket.sale).bind(self.bucket.bucket);
        let rows = rows.bind(after.cast_signed()).bind(most.cast_signed());
        rows.fetch_all(&mut *self.transaction).await?.iter().map(ledger_row).collect()
    }

    /// At most `most` units that are not free, from `from` on, and who has them.
    pub(super) async fn units(
        &mut self,
        from: u32,
        most: u32,
    ) -> Result<Vec<(u32, OrderId)>, sqlx::Error> {
        let rows = sqlx::query("select unit, id from units_from($1, $2, $3, $4, $5)");
        let rows = rows.bind(self.bucket.org).bind(self.bucket.sale).bind(self.bucket.bucket);
        let rows = rows.bind(from.cast_signed()).bind(most.cast_signed());
        let rows = rows.fetch_all(&mut *self.transaction).await?;
        let unit = |row: &PgRow| {
            let unit = row.try_get::<i32, _>("unit")?.cast_unsigned();
            Ok((unit, OrderId(row.try_get::<Uuid, _>("id")?.into_bytes())))
        };
        rows.iter().map(unit).collect()
    }

    /// The orders whose ids begin with a byte from `parts`. Of their units only the number is known.
    pub(super) async fn orders(
        &mut self,
        parts: RangeInclusive<u8>,
    ) -> Result<Vec<(OrderId, ReplayedOrder)>, sqlx::Error> {
        let (mut first, mut last) = ([0; 16], [255; 16]);
        (first[0], last[0]) = (*parts.start(), *parts.end());
        let rows = sqlx::query(
            "select id, buyer, state, quantity, ticket, revision, attempt, intent
             from orders_between($1, $2, $3, $4, $5)",
        );
        let rows = rows.bind(self.bucket.org).bind(self.bucket.sale).bind(self.bucket.bucket);
        let rows = rows.bind(Uuid::from_bytes(first)).bind(Uuid::from_bytes(last));
        rows.fetch_all(&mut *self.transaction).await?.iter().map(order).collect()
    }

    /// The newest head that this cell has signed.
    pub(super) async fn newest_head(&mut self) -> Result<Option<String>, sqlx::Error> {
        let head = sqlx::query_scalar("select head from newest_head($1, $2, $3)");
        let head = head.bind(self.bucket.org).bind(self.bucket.sale).bind(self.bucket.bucket);
        head.fetch_optional(&mut *self.transaction).await
    }
}

/// Keeps a head that was signed. An older one changes nothing.
pub(super) async fn put_head(
    pool: &PgPool,
    bucket: BucketRef,
    seq: u64,
    head: &str,
) -> Result<(), sqlx::Error> {
    let put = sqlx::query("select put_head($1, $2, $3, $4, $5)");
    let put = put.bind(bucket.org).bind(bucket.sale).bind(bucket.bucket);
    put.bind(seq.cast_signed()).bind(head).execute(pool).await?;
    Ok(())
}

/// A bucket with the ids of its org and sale.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) bucket: BucketRef,
    pub(super) org: Box<str>,
    pub(super) sale: Box<str>,
}

/// Buckets at rest of whose ledgers a part is not signed for.
pub(super) async fn unsigned_at_rest(
    pool: &PgPool,
    most: usize,
) -> Result<Vec<Named>, sqlx::Error> {
    let rows = sqlx::query("select org, sale, bucket, org_id, sale_id from unsigned_at_rest($1)");
    let rows = rows.bind(i32::try_from(most).unwrap_or(i32::MAX)).fetch_all(pool).await?;
    let named = |row: &PgRow| {
        let bucket = BucketRef {
            org: row.try_get("org")?,
            sale: row.try_get("sale")?,
            bucket: row.try_get("bucket")?,
        };
        let text = |name| row.try_get::<String, _>(name).map(Into::into);
        Ok(Named { bucket, org: text("org_id")?, sale: text("sale_id")? })
    };
    rows.iter().map(named).collect()
}

/// A row whose hashes are no hashes is one that cannot follow: they become zeros, which nothing hashes to.
fn ledger_row(row: &PgRow) -> Result<Row, sqlx::Error> {
    let number = |name| row.try_get::<i64, _>(name).map(i64::cast_unsigned);
    let hash =
        |name| row.try_get::<&[u8], _>(name).map(|hash| Hash::try_from(hash).unwrap_or_default());
    Ok(Row {
        seq: number("seq")?,
        epoch: number("epoch")?,
        at_us: number("at_us")?,
        entries: row.try_get("entries")?,
        root: hash("root")?,
        hash: hash("hash")?,
    })
}

fn order(row: &PgRow) -> Result<(OrderId, ReplayedOrder), sqlx::Error> {
    let quantity: i16 = row.try_get("quantity")?;
    let order = ReplayedOrder {
        state: State::try_from(i32::from(row.try_get::<i16, _>("state")?)).unwrap_or_default(),
        buyer: row.try_get::<Uuid, _>("buyer")?.into_bytes(),
        units: vec![0; quantity.unsigned_abs().into()].into(),
        ticket: row.try_get::<i64, _>("ticket")?.cast_unsigned(),
        revision: row.try_get::<i32, _>("revision")?.cast_unsigned(),
        attempt: row.try_get::<i16, _>("attempt")?.unsigned_abs().into(),
        intent: intent_mark(row.try_get::<Option<&str>, _>("intent")?.unwrap_or_default()),
    };
    Ok((OrderId(row.try_get::<Uuid, _>("id")?.into_bytes()), order))
}
