//! Reading what belongs to one org: a transaction that sees one moment, that org's rows, and writes nothing.

use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};

/// Begins it. The org lasts as long as the transaction, so a connection that goes back to its pool is nobody's.
pub(crate) async fn read_of(
    pool: &PgPool,
    org: i32,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let begin = format!(
        "begin isolation level repeatable read read only; set local floodgate.org = '{org}'"
    );
    pool.begin_with(AssertSqlSafe(begin)).await
}
