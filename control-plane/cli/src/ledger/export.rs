//! Writes the ledgers of a sale from a cell's Postgres into a file: all of its buckets there, as one moment has them, each
//! up to its newest signed head.

use std::io::Write;
use std::str::FromStr;
use std::time::{Duration, Instant};

use proto::chain::Row;
use proto::merkle::Hash;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{ConnectOptions, Connection, PgConnection, Row as _};

use super::file::Writer;
use crate::failure::Failure;

/// Rows that are read at a time.
const PAGE_ROWS: i32 = 256;
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// What to export.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// The org's id.
    pub(crate) org: &'a str,
    /// The sale's id.
    pub(crate) sale: &'a str,
    /// Rows that no signed head covers yet, too.
    pub(crate) unsigned: bool,
}

/// What was exported.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Exported {
    pub(crate) buckets: usize,
    pub(crate) rows: u64,
    /// Rows that were left out because no signed head covers them yet.
    pub(crate) left_out: i64,
}

/// A bucket that is there.
struct Found {
    bucket: i32,
    /// The last row of its ledger.
    last: i64,
    /// The newest head, and the last row that it covers.
    head: Option<(i64, String)>,
}

/// Exports; `tell` is told of the progress of long ones.
pub(crate) async fn export(
    address: &str,
    wanted: Wanted<'_>,
    out: impl Write,
    mut tell: impl FnMut(String),
) -> Result<Exported, Failure> {
    let options = PgConnectOptions::from_str(address).map_err(|error| {
        Failure::Usage(format!("{address:?} is no address of a Postgres: {error}"))
    })?;
    let mut connection = options.application_name("floodgate ledger export").connect().await?;
    let mut snapshot =
        connection.begin_with("begin isolation level repeatable read read only").await?;
    let (org, sale) = aliases(&mut snapshot, wanted).await?;
    let mut writer = Writer::begin(out, wanted.org, wanted.sale).map_err(Failure::io(WRITING))?;
    let found = buckets(&mut snapshot, (org, sale)).await?;
    let mut exported = Exported { buckets: found.len(), ..Exported::default() };
    let mut told = Instant::now();
    for Found { bucket, last, head } in found {
        let (covered, text) = match &head {
            Some((seq, text)) => (*seq, text.as_str()),
            None if wanted.unsigned => (0, ""),
            None => {
                let what = format!(
                    "bucket {bucket} has no signed head yet: its audit has not come that far"
                );
                return Err(Failure::Later(what));
            }
        };
        let until = if wanted.unsigned { last } else { covered };
        exported.left_out += last - until;
        writer.bucket(bucket.cast_unsigned(), text).map_err(Failure::io(WRITING))?;
        let mut after = 0;
        while after < until {
            let page = page(&mut snapshot, (org, sale, bucket), (after, until)).await?;
            let Some(newest) = page.last() else { break };
            after = newest.seq.cast_signed();
            for row in page {
                writer.row(row).map_err(Failure::io(WRITING))?;
            }
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                tell(format!("bucket {bucket}: row {after} of {until}"));
            }
        }
    }
    snapshot.commit().await?;
    exported.rows = writer.end().map_err(Failure::io(WRITING))?.1;
    Ok(exported)
}

/// Postgres' condition for what a snapshot may not do.
const READ_ONLY: &str = "25006";

const WRITING: &str = "write the export";

/// What org and sale are called in this cell.
async fn aliases(snapshot: &mut PgConnection, wanted: Wanted<'_>) -> Result<(i32, i32), Failure> {
    let missing = || Failure::NotFound(format!("sale {} is not in this cell", wanted.sale));
    // It would give a name to an org that has none here, and a snapshot writes nothing.
    let org = sqlx::query_scalar("select org_alias($1)").bind(wanted.org);
    let org: i32 = match org.fetch_one(&mut *snapshot).await {
        Err(sqlx::Error::Database(refusal)) if refusal.code().as_deref() == Some(READ_ONLY) => {
            return Err(missing());
        }
        org => org?,
    };
    sqlx::query("select enter_org($1)").bind(org).execute(&mut *snapshot).await?;
    let sale = sqlx::query_scalar("select sale from sale where org = $1 and id = $2").bind(org);
    let sale = sale.bind(wanted.sale).fetch_optional(&mut *snapshot).await?;
    Ok((org, sale.ok_or_else(missing)?))
}

async fn buckets(
    snapshot: &mut PgConnection,
    (org, sale): (i32, i32),
) -> Result<Vec<Found>, Failure> {
    let rows = sqlx::query(
        "select b.bucket, b.seq, h.seq as covered, h.head
         from bucket b left join head h on h.org = b.org and h.sale = b.sale and h.bucket = b.bucket
         where b.org = $1 and b.sale = $2 order by b.bucket",
    );
    let rows = rows.bind(org).bind(sale).fetch_all(snapshot).await?;
    let found = |row: &PgRow| {
        let covered: Option<i64> = row.try_get("covered")?;
        let head: Option<String> = row.try_get("head")?;
        let head = covered.zip(head);
        Ok(Found { bucket: row.try_get("bucket")?, last: row.try_get("seq")?, head })
    };
    rows.iter().map(found).collect()
}

async fn page(
    snapshot: &mut PgConnection,
    (org, sale, bucket): (i32, i32, i32),
    (after, until): (i64, i64),
) -> Result<Vec<Row>, Failure> {
    let rows = sqlx::query(
        "select seq, epoch, at_us, entries, root, hash from ledger_after($1, $2, $3, $4, $5) where seq <= $6",
    );
    let rows = rows.bind(org).bind(sale).bind(bucket).bind(after).bind(PAGE_ROWS).bind(until);
    let rows = rows.fetch_all(snapshot).await?;
    let row = |row: &PgRow| {
        let number = |name| row.try_get::<i64, _>(name).map(i64::cast_unsigned);
        // What is no hash becomes zeros, which nothing hashes to.
        let hash = |name| {
            row.try_get::<&[u8], _>(name).map(|hash| Hash::try_from(hash).unwrap_or_default())
        };
        Ok(Row {
            seq: number("seq")?,
            epoch: number("epoch")?,
            at_us: number("at_us")?,
            entries: row.try_get("entries")?,
            root: hash("root")?,
            hash: hash("hash")?,
        })
    };
    rows.iter().map(row).collect()
}
