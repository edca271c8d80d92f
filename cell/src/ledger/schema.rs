//! The schema: brought up to date by the role that owns it, and waited for by the processes, who work as another role.
//!
//! A process works with a schema that has all of its own migrations, word for word. One that has more of them belongs to a
//! newer version, which a process of this one can work with while a cell is being updated.

use super::LedgerError;
use sqlx::PgPool;
use sqlx::migrate::{MigrateError, Migrator};
use std::collections::HashMap;

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Brings the schema up to date, in a session of the role that owns it. Several processes may do so at once.
///
/// # Errors
/// When Postgres cannot be reached or a migration fails.
pub async fn migrate(owner: &PgPool) -> Result<(), MigrateError> {
    let has_newer = |error: &MigrateError| matches!(error, MigrateError::VersionMissing(_));
    match MIGRATIONS.run(owner).await {
        Err(error) if has_newer(&error) => {}
        done => done?,
    }
    #[cfg(feature = "drills")]
    crate::seeded::sql(owner).await?;
    Ok(())
}

/// The migrations that the schema lacks, each by its number and name, as a session of the working role sees it.
///
/// # Errors
/// When Postgres does not answer.
pub async fn missing(pool: &PgPool) -> Result<Vec<String>, LedgerError> {
    let is_counted: bool = sqlx::query_scalar(
        "select coalesce(has_table_privilege(to_regclass('public._sqlx_migrations'), 'select'), false)",
    )
    .fetch_one(pool)
    .await?;
    let mut done: HashMap<i64, Vec<u8>> = HashMap::new();
    // Before the last of them, which grants that, the working role may not even see which there are.
    if is_counted {
        let rows: Vec<(i64, Vec<u8>)> =
            sqlx::query_as("select version, checksum from public._sqlx_migrations where success")
                .fetch_all(pool)
                .await?;
        done.extend(rows);
    }
    let lacks = MIGRATIONS.iter().filter_map(|migration| {
        let name = format!("{:04} {}", migration.version, migration.description);
        match done.get(&migration.version) {
            Some(checksum) if **checksum == *migration.checksum => None,
            Some(_) => Some(format!("{name} (another text of it was run)")),
            None => Some(name),
        }
    });
    Ok(lacks.collect())
}
