//! Reading what belongs to one org: a transaction that sees one moment, that org's rows, and writes nothing.

use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};

/// Begins it. The org lasts as long as the transaction, so a connection that goes back to its pool is nobody's.
pub(crate) async fn read_of(
    pool: &PgPool,
    org: i32,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    pool.begin_with(AssertSqlSafe(begin(org))).await
}

/// As [`read_of`], to read all of a bucket. Of a new sale Postgres believes that it has a row or two, and would look
/// through its orders once for every unit: the join must not depend on what is believed.
pub(super) async fn read_all_of(
    pool: &PgPool,
    org: i32,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let begin = begin(org) + "; set local enable_nestloop = off";
    pool.begin_with(AssertSqlSafe(begin)).await
}

fn begin(org: i32) -> String {
    format!("begin isolation level repeatable read read only; set local floodgate.org = '{org}'")
}
