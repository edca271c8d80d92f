//! The ledger: what a cell's Postgres decides, one SQL function a transition, a batch in one trip.
//!
//! Promises: nothing is answered before its transaction has committed, a batch does all or nothing, and a batch whose
//! outcome is unknown can be sent again under its number. A transaction is of one org and one bucket, and Postgres sees to
//! that (`0009_isolation.sql`, INV-9). What it does not do: choose units (the inventory's work) or remember anything
//! between calls.

mod entry;
mod handover;
mod hold;
mod key;
mod lookup;
mod of_org;
mod refund;
mod rest;
mod schema;
mod settings;
mod settle;
mod stock;
mod takeover;
mod transfer;

pub use entry::Entries;
pub use handover::{HeirCalls, hand_over, keeper_of};
pub use hold::{Hold, HoldBatch};
pub use key::LedgerKey;
pub use lookup::{Found, find_orders};
pub(crate) use of_org::read_of;
pub use refund::{Refund, is_refund_written, refunding};
pub use rest::{Rested, rest, rested, resting};
#[cfg(feature = "drills")]
pub(crate) use schema::MIGRATIONS;
pub use schema::{migrate, missing};
pub(crate) use settings::JUDGED;
pub use settings::{Power, Settings};
pub use settle::{Move, SettleBatch};
pub use stock::{Aliases, Share, accept, set_sale};
pub use takeover::{
    Beat, Candidate, GateRow, Holder, Life, Loaded, SpentTicket, beat, candidates, leave, load,
    set_gate, take_over,
};
pub use transfer::TransferSide;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use std::{str::FromStr, time::Duration};

/// Connections of one class of sales.
const CONNECTIONS_MAX: u32 = 6;
/// Connections of the audit.
const AUDIT_CONNECTIONS_MAX: u32 = 2;
/// A statement that takes longer than this will not be waited for.
const STATEMENT_MS: u32 = 5_000;
/// How long a batch waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(2);

/// A bucket, by its aliases in this cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BucketRef {
    /// The org's alias.
    pub org: i32,
    /// The sale's alias.
    pub sale: i32,
    /// The bucket's number within the sale.
    pub bucket: i32,
}

/// Why a transition did not happen.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Somebody else keeps the bucket: step down.
    #[error("the bucket has a newer epoch: {0}")]
    Stale(String),
    /// The sale is not selling at this moment.
    #[error("the sale is not selling")]
    NotSelling,
    /// An order is not in the state or at the time that was assumed. Nothing of the batch was done.
    #[error("an order cannot move as asked: {0}")]
    Conflict(String),
    /// A unique key says no. Nothing of the batch was done.
    #[error("{0} says no")]
    Taken(String),
    /// Postgres refused for another reason. Nothing was done.
    #[error("postgres refused: {0}")]
    Refused(#[source] sqlx::Error),
    /// It may have happened or not: send the same batch again, or take the bucket over.
    #[error("the outcome is unknown: {0}")]
    Unknown(#[source] sqlx::Error),
}

impl LedgerError {
    /// What it means for a batch that was sent again: an earlier try may still arrive, so no refusal says that nothing
    /// was done. Only a new epoch makes sure.
    pub(crate) fn after_unknown(self) -> LedgerError {
        match self {
            LedgerError::Stale(_) | LedgerError::Unknown(_) => self,
            refusal => LedgerError::Stale(format!("or not: after an unknown outcome, {refusal}")),
        }
    }
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> LedgerError {
        let refusal = match &error {
            sqlx::Error::Database(refusal) => refusal,
            // Nothing was sent.
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => {
                return LedgerError::Refused(error);
            }
            _ => return LedgerError::Unknown(error),
        };
        match refusal.code().as_deref() {
            Some("FG001") => LedgerError::Stale(refusal.message().into()),
            Some("FG002") => LedgerError::NotSelling,
            Some("FG003") => LedgerError::Conflict(refusal.message().into()),
            Some("23505") => LedgerError::Taken(refusal.constraint().unwrap_or("a key").into()),
            // The server went away, perhaps in the middle of the commit.
            Some(code) if code.starts_with("57") || code.starts_with("08") => {
                LedgerError::Unknown(error)
            }
            _ => LedgerError::Refused(error),
        }
    }
}

/// Opens connections to the cell's Postgres under the name of a class, so that they can be told apart there.
///
/// # Errors
/// When the address cannot be read. Connecting happens when a connection is needed.
pub fn open(address: &str, class: &str) -> Result<PgPool, sqlx::Error> {
    open_up_to(address, class, CONNECTIONS_MAX)
}

/// Opens connections for the audit: few, so that it waits and not what sells.
///
/// # Errors
/// As [`open`].
pub fn open_for_audit(address: &str) -> Result<PgPool, sqlx::Error> {
    open_up_to(address, "audit", AUDIT_CONNECTIONS_MAX)
}

fn open_up_to(address: &str, class: &str, connections: u32) -> Result<PgPool, sqlx::Error> {
    let options = PgConnectOptions::from_str(address)?.application_name(class).options([
        ("statement_timeout", STATEMENT_MS.to_string().as_str()),
        ("synchronous_commit", "on"),
    ]);
    Ok(PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE)
        .test_before_acquire(false)
        .connect_lazy_with(options))
}

/// Opens one connection for the role that owns the schema, to be closed when the schema is up to date. Its statements may
/// take long.
///
/// # Errors
/// When the address cannot be read. Connecting happens when it is needed.
pub fn open_owner(address: &str) -> Result<PgPool, sqlx::Error> {
    let options = PgConnectOptions::from_str(address)?.application_name("schema");
    Ok(PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE).connect_lazy_with(options))
}

/// Postgres' clock now, in microseconds since 1970.
///
/// # Errors
/// When Postgres does not answer.
pub async fn now_us(pool: &PgPool) -> Result<i64, LedgerError> {
    let now =
        sqlx::query_scalar("select (extract(epoch from clock_timestamp()) * 1000000)::bigint");
    Ok(now.fetch_one(pool).await?)
}
