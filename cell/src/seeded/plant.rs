//! The list of seeded bugs, and how each comes into what is run.

use crate::ledger::{Hold, HoldBatch};
use sqlx::{Executor, PgPool};
use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::Duration;

/// Names the bug to plant.
const VARIABLE: &str = "FLOODGATE_SEEDED_BUG";

/// Each with its name and what is wrong then.
macro_rules! bugs {
    ($($id:ident = $name:literal, $sentence:literal;)*) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug { $(#[doc = $sentence] $id,)* }

        /// Every bug: its name, and what is wrong when it is planted.
        pub const BUGS: &[(Bug, &str, &str)] = &[$((Bug::$id, $name, $sentence),)*];
    };
}

bugs! {
    NoFenceInRedis = "no-fence-in-redis", "Redis does not compare the epoch of a batch.";
    NoFenceInPostgres = "no-fence-in-postgres", "Postgres does not compare the epoch of a transition.";
    CapUnchecked = "cap-unchecked", "Neither store refuses what exceeds a buyer's cap.";
    ReleaseTwice = "release-twice", "A unit returns whether or not it names the order.";
    AnswerBeforeCommit = "answer-before-commit", "A hold is answered and committed a moment later.";
    CommitNotDurable = "commit-not-durable", "A commit is answered before it is on disk.";
    ExpiryWithoutState = "expiry-without-state", "An order expires in whatever state it is.";
    LoadForgetsPaying = "load-forgets-paying", "A take-over does not load orders that are PAYING.";
    OrgMissingInKey = "org-missing-in-key", "The keys in Redis do not name the org.";
    TicketSpentTwice = "ticket-spent-twice", "Redis does not remember spent tickets.";
    BatchAppliedAgain = "batch-applied-again", "A batch that is sent again is applied again.";
    GateIgnored = "gate-ignored", "A ticket of any rank may reserve.";
    DeclinedIsPaid = "declined-is-paid", "A declined card is taken for a capture.";
    MoveThatCopies = "move-that-copies", "A bucket that gives units up keeps them in its share.";
}

/// Lines of the library in Redis, and what stands there instead.
const LUA: &[(Bug, &str, &str)] = &[
    (Bug::NoFenceInRedis, "  if values[1] ~= epoch then\n", "  if false then\n"),
    (Bug::CapUnchecked, "    elseif paid + quantity > cap then\n", "    elseif false then\n"),
    (Bug::ReleaseTwice, "        if owners[unit] == order then\n", "        if true then\n"),
    (Bug::TicketSpentTwice, "    elseif rank < spent then\n", "    elseif false then\n"),
    (
        Bug::BatchAppliedAgain,
        "  local last = tonumber(values[3] or '0')\n",
        "  local last = tonumber(batch) - 1\n",
    ),
];

/// Lines of functions in Postgres, and what stands there instead.
const SQL: &[(Bug, &str, &str, &str)] = &[
    (
        Bug::NoFenceInPostgres,
        "lock_bucket",
        "    if not found or b.epoch <> p_epoch then\n",
        "    if not found then\n",
    ),
    (
        Bug::CapUnchecked,
        "hold",
        "    if exists (select 1 from unnest(p_slots) slot where slot >= t.cap or slot < 0) then\n",
        "    if false then\n",
    ),
    (
        Bug::CommitNotDurable,
        "lock_bucket",
        "    perform enter_bucket(p_org, p_sale, p_bucket);\n",
        "    perform enter_bucket(p_org, p_sale, p_bucket), set_config('synchronous_commit', 'off', true);\n",
    ),
    (
        Bug::ExpiryWithoutState,
        "settle",
        "                      and (o.state = 1 or o.state in (2, 6) and e.attempt = o.attempt)\n",
        "                      and true\n",
    ),
    (
        Bug::MoveThatCopies,
        "give_up",
        "    from unnest(v_shares - v_units) r;\n",
        "    from unnest(v_shares) r;\n",
    ),
];

/// How much later the hold is committed that was answered before.
const LATER: Duration = Duration::from_millis(100);
/// Whoever changes the schema holds this, one process at a time.
const SCHEMA_LOCK: i64 = 0x0066_6c6f_6f64;

/// Whether `bug` is the one that is planted.
pub(crate) fn is(bug: Bug) -> bool {
    planted() == Some(bug)
}

/// The library in Redis, with the bug that is planted.
pub(crate) fn lua(library: &'static str) -> Cow<'static, str> {
    let lines = LUA.iter().filter(|(bug, ..)| is(*bug));
    lines.fold(library.into(), |text, (_, line, instead)| swap(&text, line, instead).into())
}

/// Changes the schema's functions by the bug that is planted.
///
/// # Errors
/// When Postgres refuses or does not answer.
pub(crate) async fn sql(pool: &PgPool) -> Result<(), sqlx::Error> {
    for (_, function, line, instead) in SQL.iter().filter(|(bug, ..)| is(*bug)) {
        let mut change = pool.begin().await?;
        let lock = sqlx::query("select pg_advisory_xact_lock($1)").bind(SCHEMA_LOCK);
        lock.execute(&mut *change).await?;
        let text = "select pg_get_functiondef($1::regproc)";
        let text: String = sqlx::query_scalar(text).bind(function).fetch_one(&mut *change).await?;
        // Another process of the cell has been here before.
        let mark = format!("{} -- seeded\n", instead.trim_end());
        if !text.contains(&mark) {
            let text = swap(&text, line, &mark);
            change.execute(sqlx::AssertSqlSafe(text)).await?;
        }
        change.commit().await?;
    }
    Ok(())
}

/// The changed lines that are not found exactly once where they should be: those bugs must be written anew.
pub fn missing() -> Vec<String> {
    let library = crate::inventory::LIBRARY;
    let in_redis = LUA.iter().map(|(_, line, _)| ("redis", *line, library.matches(line).count()));
    let in_postgres = SQL
        .iter()
        .map(|(_, function, line, _)| (*function, *line, newest(function).matches(line).count()));
    let wrong = in_redis.chain(in_postgres).filter(|(.., found)| *found != 1);
    wrong.map(|(place, line, found)| format!("{found} lines in {place} are {line:?}")).collect()
}

/// The text of a function in the schema, as the last migration that writes it has it.
fn newest(function: &str) -> String {
    let begins =
        [format!("create function {function}("), format!("create or replace function {function}(")];
    let mut newest = String::new();
    for migration in crate::ledger::MIGRATIONS.iter() {
        let text = migration.sql.as_str();
        if let Some(at) = begins.iter().filter_map(|begin| text.rfind(begin)).max() {
            newest = text[at..].split("end $$;").next().unwrap_or_default().to_owned();
        }
    }
    newest
}

/// Commits a batch after its caller has gone on.
pub(crate) fn commit_later(pool: &PgPool, batch: &HoldBatch<'_>, holds: &[Hold]) {
    let HoldBatch { bucket, epoch, batch, revision, currency } = batch.clone();
    let (pool, holds, currency) = (pool.clone(), holds.to_vec(), currency.to_owned());
    tokio::spawn(async move {
        tokio::time::sleep(LATER).await;
        let batch = HoldBatch { bucket, epoch, batch, revision, currency: &currency };
        if let Err(error) = batch.commit(&pool, &holds).await {
            tracing::warn!(%error, "a hold that was answered is not committed");
        }
    });
}

fn planted() -> Option<Bug> {
    static PLANTED: OnceLock<Option<Bug>> = OnceLock::new();
    *PLANTED.get_or_init(|| {
        let named = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty())?;
        let known = BUGS.iter().find(|(_, name, _)| *name == named);
        #[expect(clippy::panic, reason = "a bug that is not planted must not pass for one that is")]
        let Some((bug, name, sentence)) = known else {
            panic!("{VARIABLE}: no bug is named {named}");
        };
        tracing::warn!(bug = name, sentence, "a bug is planted");
        Some(*bug)
    })
}

/// The text with another line in this one's place.
fn swap(text: &str, line: &str, instead: &str) -> String {
    let found = text.matches(line).count();
    assert!(found == 1, "{found} lines instead of one are {line:?}; the bug must be written anew");
    text.replacen(line, instead, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_that_a_bug_changes_is_there_once() {
        assert_eq!(missing(), Vec::<String>::new());
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = BUGS.iter().map(|(_, name, _)| name).collect();
        assert_eq!(names.len(), BUGS.len());
    }
}
