//! Taking a bucket over: raise its epoch, then read everything that it holds in one snapshot.
//!
//! Raising the epoch waits for commits under way, and whoever kept the bucket before is refused from then on.

use super::of_org::read_all_of;
use super::{BucketRef, LedgerError, Share};
use futures_util::{StreamExt, TryStreamExt};
use proto::id::{BuyerKey, OrderId};
use sqlx::{PgPool, Row, postgres::PgRow};
use std::time::Duration;
use uuid::Uuid;

/// A bucket that some process should keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub bucket: BucketRef,
    /// The sale's id.
    pub sale_id: String,
    /// Its epoch now.
    pub epoch: i64,
    /// Who keeps it, as far as is written.
    pub keeper: Option<String>,
}

/// An order that has units.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Which.
    pub order: OrderId,
    /// Whose.
    pub buyer: BuyerKey,
    /// `floodgate.storefront.v1.Order.State`.
    pub state: i32,
    /// The rank of its ticket.
    pub ticket: u64,
    /// Microseconds since 1970.
    pub deadline_us: i64,
    /// Of the sale.
    pub revision: u32,
    /// Payment attempts so far.
    pub attempt: u32,
    /// The provider's id of the payment.
    pub intent: Option<String>,
    /// Price times quantity, by that revision.
    pub amount_minor: i64,
    /// In rising order.
    pub units: Vec<u32>,
}

/// A ticket that made an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpentTicket {
    /// Whose.
    pub buyer: BuyerKey,
    /// Its rank.
    pub rank: u64,
}

/// A bucket as Postgres has it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The epoch under which it is kept from now on.
    pub epoch: i64,
    /// The last batch of holds.
    pub hold_batch: i64,
    /// The last batch of moves.
    pub settle_batch: i64,
    /// Units granted.
    pub granted: u32,
    /// No rank from here on was given out.
    pub ranks: u64,
    /// The same, more exactly, where somebody knows: Postgres does not.
    pub given: Option<u64>,
    /// See [`proto::rank::standing`].
    pub tail: u64,
    /// See [`proto::rank::standing`].
    pub cursor: u64,
    /// Up to here the gate has used up its rate, in microseconds since 1970.
    pub gate_us: i64,
    /// The units that it may sell, by their numbers.
    pub shares: Vec<Share>,
    /// Orders with units.
    pub holders: Vec<Holder>,
    /// Spent tickets whose turn has not passed.
    pub spent: Vec<SpentTicket>,
}

/// A sign of life.
#[derive(Clone, Copy, Debug)]
pub struct Beat<'a> {
    /// The process's name.
    pub process: &'a str,
    /// Which start of it: random.
    pub incarnation: Uuid,
    /// Whether it is the first of this start. It takes the name, from whoever has it.
    pub is_first: bool,
    /// For how long a sign of life counts.
    pub fresh: Duration,
}

/// The cell's processes as a sign of life finds them.
#[derive(Clone, Debug)]
pub struct Life {
    /// Who gave a sign of life lately, oneself among them, by name.
    pub living: Vec<String>,
    /// Postgres' clock in microseconds since 1970.
    pub now_us: i64,
    /// Another start of this name has given a sign of life since this one's last, and lives: this one was not taken.
    pub replaced: bool,
}

/// Gives a sign of life.
///
/// # Errors
/// When Postgres does not answer.
pub async fn beat(pool: &PgPool, beat: Beat<'_>) -> Result<Life, LedgerError> {
    let row = sqlx::query(
        "with beat as (
             insert into process as p (process, incarnation, seen_at)
             values ($1, $2, clock_timestamp())
             on conflict (process) do update
             set incarnation = excluded.incarnation, seen_at = excluded.seen_at
             where $3 or p.incarnation is not distinct from excluded.incarnation
                or p.seen_at <= clock_timestamp() - $4 * interval '1 millisecond'
             returning 1)
         select array(select process from process
                      where seen_at > clock_timestamp() - $4 * interval '1 millisecond'
                         or process = $1
                      order by 1) as living,
                (extract(epoch from clock_timestamp()) * 1000000)::bigint as now_us,
                not exists (select from beat) as replaced",
    )
    .bind(beat.process)
    .bind(beat.incarnation)
    .bind(beat.is_first)
    .bind(i64::try_from(beat.fresh.as_millis()).unwrap_or(i64::MAX))
    .fetch_one(pool)
    .await?;
    let mut living: Vec<String> = row.try_get("living")?;
    if !living.iter().any(|other| other == beat.process) {
        living.push(beat.process.into());
    }
    Ok(Life { living, now_us: row.try_get("now_us")?, replaced: row.try_get("replaced")? })
}

/// Takes back the sign of life of a process that keeps nothing any more, so that others need not wait for its silence.
/// Another start of the same name keeps its own.
///
/// # Errors
/// When Postgres does not answer.
pub async fn leave(pool: &PgPool, process: &str, incarnation: Uuid) -> Result<(), LedgerError> {
    sqlx::query("delete from process where process = $1 and incarnation = $2")
        .bind(process)
        .bind(incarnation)
        .execute(pool)
        .await?;
    Ok(())
}

/// The buckets that are not at rest, at most `most`.
///
/// # Errors
/// When Postgres does not answer.
pub async fn candidates(pool: &PgPool, most: usize) -> Result<Vec<Candidate>, LedgerError> {
    let rows =
        sqlx::query("select org, sale, bucket, epoch, keeper, sale_id from buckets_to_keep($1)")
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .fetch_all(pool)
            .await?;
    rows.iter()
        .map(|row| {
            Ok(Candidate {
                bucket: bucket_of(row)?,
                sale_id: row.try_get("sale_id")?,
                epoch: row.try_get("epoch")?,
                keeper: row.try_get("keeper")?,
            })
        })
        .collect()
}

pub(super) fn bucket_of(row: &PgRow) -> Result<BucketRef, sqlx::Error> {
    Ok(BucketRef {
        org: row.try_get("org")?,
        sale: row.try_get("sale")?,
        bucket: row.try_get("bucket")?,
    })
}

/// Raises the bucket's epoch from `epoch` and makes `process` its keeper. None: somebody else was faster, or the bucket
/// is at rest.
///
/// # Errors
/// When Postgres does not answer; the outcome is then unknown, and trying again from a newly read epoch is safe.
pub async fn take_over(
    pool: &PgPool,
    bucket: BucketRef,
    epoch: i64,
    process: &str,
) -> Result<Option<i64>, LedgerError> {
    let taken: Option<i64> = sqlx::query_scalar("select epoch from take_over($1, $2, $3, $4, $5)")
        .bind(bucket.org)
        .bind(bucket.sale)
        .bind(bucket.bucket)
        .bind(epoch)
        .bind(process)
        .fetch_optional(pool)
        .await?;
    Ok(taken)
}

/// Reads what a bucket holds, in one snapshot that begins after its epoch was raised to `epoch`.
///
/// # Errors
/// [`LedgerError::Stale`] when somebody else has taken it meanwhile, or when Postgres does not answer.
pub async fn load(pool: &PgPool, bucket: BucketRef, epoch: i64) -> Result<Loaded, LedgerError> {
    let mut snapshot = read_all_of(pool, bucket.org).await?;
    let row = sqlx::query(
        "select epoch, hold_batch, settle_batch, granted, ranks, tail, cursor, gate_us
         from bucket where org = $1 and sale = $2 and bucket = $3",
    )
    .bind(bucket.org)
    .bind(bucket.sale)
    .bind(bucket.bucket)
    .fetch_one(&mut *snapshot)
    .await?;
    let now: i64 = row.try_get("epoch")?;
    if now != epoch {
        return Err(LedgerError::Stale(format!("the epoch is {now}, not {epoch}")));
    }
    let tail: i64 = row.try_get("tail")?;
    let shares = sqlx::query(
        "select first_unit, units from share where org = $1 and sale = $2 and bucket = $3 order by first_unit",
    )
    .bind(bucket.org)
    .bind(bucket.sale)
    .bind(bucket.bucket)
    .fetch_all(&mut *snapshot)
    .await?;
    let mut holders: Vec<Holder> = sqlx::query(
        r#"select o.id, o.buyer, o.state, o.ticket, o.revision, o.attempt, o.intent,
                  (extract(epoch from o.deadline) * 1000000)::bigint as deadline_us,
                  t.price_minor * o.quantity as amount_minor, u.units
           from (select id, array_agg(unit order by unit) as units from unit
                 where org = $1 and sale = $2 and bucket = $3 group by id) u
           join "order" o on o.org = $1 and o.sale = $2 and o.id = u.id
           join terms t on t.org = $1 and t.sale = $2 and t.revision = o.revision"#,
    )
    .bind(bucket.org)
    .bind(bucket.sale)
    .bind(bucket.bucket)
    .fetch(&mut *snapshot)
    .map(|row| holder_of(&row?))
    .try_collect()
    .await?;
    let spent = sqlx::query(
        r#"select buyer, ticket from "order" where org = $1 and sale + 0 = $2 and bucket = $3 and ticket >= $4"#,
    )
    .bind(bucket.org)
    .bind(bucket.sale)
    .bind(bucket.bucket)
    .bind(tail)
    .fetch(&mut *snapshot)
    .map(|row| spent_of(&row?))
    .try_collect()
    .await?;
    snapshot.commit().await?;
    if crate::seeded::planted!(LoadForgetsPaying) {
        holders.retain(|one| one.state != i32::from(proto::wire::storefront::order::State::Paying));
    }
    Ok(Loaded {
        epoch,
        hold_batch: row.try_get("hold_batch")?,
        settle_batch: row.try_get("settle_batch")?,
        granted: row.try_get::<i32, _>("granted")?.cast_unsigned(),
        ranks: row.try_get::<i64, _>("ranks")?.cast_unsigned(),
        given: None,
        tail: tail.cast_unsigned(),
        cursor: row.try_get::<i64, _>("cursor")?.cast_unsigned(),
        gate_us: row.try_get("gate_us")?,
        shares: shares.iter().map(share_of).collect::<Result<_, _>>()?,
        holders,
        spent,
    })
}

fn share_of(row: &PgRow) -> Result<Share, sqlx::Error> {
    Ok(Share {
        first_unit: row.try_get::<i32, _>("first_unit")?.cast_unsigned(),
        units: row.try_get::<i32, _>("units")?.cast_unsigned(),
    })
}

fn spent_of(row: &PgRow) -> Result<SpentTicket, sqlx::Error> {
    Ok(SpentTicket {
        buyer: BuyerKey(row.try_get::<Uuid, _>("buyer")?.into_bytes()),
        rank: row.try_get::<i64, _>("ticket")?.cast_unsigned(),
    })
}

fn holder_of(row: &PgRow) -> Result<Holder, sqlx::Error> {
    let units: Vec<i32> = row.try_get("units")?;
    Ok(Holder {
        order: OrderId(row.try_get::<Uuid, _>("id")?.into_bytes()),
        buyer: BuyerKey(row.try_get::<Uuid, _>("buyer")?.into_bytes()),
        state: row.try_get::<i16, _>("state")?.into(),
        ticket: row.try_get::<i64, _>("ticket")?.cast_unsigned(),
        deadline_us: row.try_get("deadline_us")?,
        revision: row.try_get::<i32, _>("revision")?.cast_unsigned(),
        attempt: row.try_get::<i16, _>("attempt")?.unsigned_abs().into(),
        intent: row.try_get("intent")?,
        amount_minor: row.try_get("amount_minor")?,
        units: units.into_iter().map(i32::cast_unsigned).collect(),
    })
}

/// What a gate has come to, all of which only rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateRow {
    /// End of the ranks that may be given out.
    pub ranks: u64,
    /// See [`proto::rank::standing`].
    pub tail: u64,
    /// See [`proto::rank::standing`].
    pub cursor: u64,
    /// Up to here the rate is used up, in microseconds since 1970.
    pub gate_us: i64,
}

/// Writes a gate down, before it is used.
///
/// # Errors
/// [`LedgerError`]; repeating it is safe.
pub async fn set_gate(
    pool: &PgPool,
    bucket: BucketRef,
    epoch: i64,
    gate: GateRow,
) -> Result<(), LedgerError> {
    sqlx::query("select set_gate($1, $2, $3, $4, $5, $6, $7, $8)")
        .bind(bucket.org)
        .bind(bucket.sale)
        .bind(bucket.bucket)
        .bind(epoch)
        .bind(gate.ranks.cast_signed())
        .bind(gate.tail.cast_signed())
        .bind(gate.cursor.cast_signed())
        .bind(gate.gate_us)
        .execute(pool)
        .await?;
    Ok(())
}
