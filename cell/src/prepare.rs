//! What must be so before a process works with its Postgres: settings that keep what is promised, and a schema that is up
//! to date. The first is refused when it is not so, the second is brought about by the schema's owner or waited for.

use crate::fitness::FitnessGauges;
use crate::ledger::{self, LedgerError, Settings};
use runtime::drain::Drain;
use sqlx::PgPool;
use std::time::Duration;

/// The pause between two tries to reach Postgres at the start.
const AGAIN: Duration = Duration::from_millis(300);

/// Nobody may work with this Postgres as it is set up.
#[derive(Debug, thiserror::Error)]
#[error("this Postgres cannot keep what a cell promises: {0}")]
pub(crate) struct Unfit(String);

/// Why it is not so yet.
enum NotYet {
    Unfit(String),
    Later(String),
}

impl From<LedgerError> for NotYet {
    fn from(error: LedgerError) -> NotYet {
        NotYet::Later(error.to_string())
    }
}

/// Waits until it is so. False: the process is to end.
///
/// # Errors
/// [`Unfit`], which says what to set.
pub(crate) async fn prepare(
    pool: &PgPool,
    owner: Option<&PgPool>,
    gauges: &FitnessGauges,
    drain: &Drain,
) -> Result<bool, Unfit> {
    loop {
        match attempt(pool, owner, gauges).await {
            Ok(()) => return Ok(true),
            Err(NotYet::Unfit(why)) => return Err(Unfit(why)),
            Err(NotYet::Later(why)) => tracing::warn!(why, "postgres is not ready yet"),
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = drain.cancelled() => return Ok(false),
        }
    }
}

async fn attempt(
    pool: &PgPool,
    owner: Option<&PgPool>,
    gauges: &FitnessGauges,
) -> Result<(), NotYet> {
    fit(&Settings::read(pool).await?)?;
    if let Some(owner) = owner {
        let migrated = ledger::migrate(owner).await;
        migrated.map_err(|error| {
            NotYet::Later(format!(
                "the schema cannot be brought up to date: {error}; the roles that it needs are made by deploy/postgres/roles.sql"
            ))
        })?;
    }
    let missing = ledger::missing(pool).await?;
    if !missing.is_empty() {
        return Err(NotYet::Later(format!(
            "the schema lacks {}: start a process of this version with --postgres-owner",
            missing.join(", ")
        )));
    }
    // Once more, now that there are tables which the role could own.
    let settings = Settings::read(pool).await?;
    let fitness = settings.judge();
    gauges.show("postgres", &ledger::JUDGED, &fitness);
    tracing::info!(?settings, "postgres is set up");
    fit(&settings)
}

fn fit(settings: &Settings) -> Result<(), NotYet> {
    settings.judge().refusal().map_or(Ok(()), |why| Err(NotYet::Unfit(why)))
}
