//! Settings of the cell's Postgres, read back at the start of each process, and what follows from them.
//!
//! | setting | is | otherwise |
//! |---|---|---|
//! | `fsync` | on | refused: a power cut takes commits along that buyers were told of |
//! | `full_page_writes` | on | refused: a page that was half written at a crash is lost |
//! | `synchronous_commit` | on, `remote_write`, `remote_apply` | refused: an answer would leave before its commit is safe |
//! | role | no superuser, no BYPASSRLS, owns nothing, may become no such role | refused: row security and the ledger's permissions would not bind it |
//! | `max_wal_size` | 2 GB or more | said: checkpoints come in the middle of a rush, and full pages after them |
//! | `checkpoint_timeout` | 15 min or more | said: the same |
//! | `wal_init_zero` | off | said: a new segment is first written full of zeros, while commits wait |
//!
//! `wal_recycle`, `wal_level` and the version are written into the log beside them. A cell without a synchronous standby
//! loses what was on a lost disk, whatever is set; with one, `synchronous_commit` waits for it.

use super::LedgerError;
use crate::fitness::Fitness;
use sqlx::{PgPool, Row};
use std::collections::HashMap;

/// The settings that are judged, by the names under which they are charted.
pub(crate) const JUDGED: [&str; 7] = [
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "role",
    "max_wal_size",
    "checkpoint_timeout",
    "wal_init_zero",
];
/// Below this, a rush of holds fills the log before its time.
const MAX_WAL_SIZE_LEAST_MB: u64 = 2_048;
/// Checkpoints come this seldom at least, unless the log is full.
const CHECKPOINT_TIMEOUT_LEAST_S: u64 = 900;

/// What a role may do beyond what was granted to it by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// It is a superuser or may become one.
    Superuser,
    /// It passes row security by or may become a role that does.
    BypassesRowSecurity,
    /// It owns the database or one of its tables, or may become their owner.
    Owner,
}

/// The settings as the server says them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `fsync`.
    pub fsync: bool,
    /// `full_page_writes`.
    pub full_page_writes: bool,
    /// `synchronous_commit` of this process's sessions.
    pub synchronous_commit: String,
    /// `max_wal_size`, in megabytes.
    pub max_wal_size_mb: u64,
    /// `checkpoint_timeout`, in seconds.
    pub checkpoint_timeout_s: u64,
    /// `wal_init_zero`.
    pub wal_init_zero: bool,
    /// `wal_recycle`.
    pub wal_recycle: bool,
    /// `wal_level`.
    pub wal_level: String,
    /// `server_version`.
    pub server_version: String,
    /// The role of this process's sessions.
    pub role: String,
    /// What that role may do beyond its grants.
    pub powers: Vec<Power>,
}

impl Settings {
    /// Reads them from the server, as the sessions of `pool` have them.
    ///
    /// # Errors
    /// When Postgres does not answer, or with something that is no setting.
    pub async fn read(pool: &PgPool) -> Result<Settings, LedgerError> {
        let rows: Vec<(String, String)> =
            sqlx::query_as("select name, setting from pg_settings").fetch_all(pool).await?;
        let settings: HashMap<String, String> = rows.into_iter().collect();
        let text = |name: &str| settings.get(name).cloned().unwrap_or_default();
        let is_on = |name: &str| text(name) == "on";
        let number = |name: &str| {
            text(name).parse().map_err(|_| sqlx::Error::Decode(format!("no {name}").into()))
        };
        // Whoever may become a role may do what it may.
        let role = sqlx::query(
            "with mine as (select r.* from pg_roles r where pg_has_role(r.oid, 'member'))
             select current_user::text,
                    exists (select from mine where rolsuper),
                    exists (select from mine where rolbypassrls),
                    exists (select from mine join pg_database d on d.datdba = mine.oid
                            where d.datname = current_database())
                 or exists (select from mine join pg_class c on c.relowner = mine.oid
                            where c.relnamespace = 'public'::regnamespace)",
        )
        .fetch_one(pool)
        .await?;
        let mut powers = Vec::new();
        for (place, power) in
            (1..).zip([Power::Superuser, Power::BypassesRowSecurity, Power::Owner])
        {
            if role.try_get(place)? {
                powers.push(power);
            }
        }
        Ok(Settings {
            fsync: is_on("fsync"),
            full_page_writes: is_on("full_page_writes"),
            synchronous_commit: text("synchronous_commit"),
            max_wal_size_mb: number("max_wal_size")?,
            checkpoint_timeout_s: number("checkpoint_timeout")?,
            wal_init_zero: is_on("wal_init_zero"),
            wal_recycle: is_on("wal_recycle"),
            wal_level: text("wal_level"),
            server_version: text("server_version"),
            role: role.try_get(0)?,
            powers,
        })
    }

    /// Says what follows from them.
    pub fn judge(&self) -> Fitness {
        let mut fitness = Fitness::default();
        if !self.fsync {
            fitness.refuse("fsync", "fsync is off, so a power cut takes commits along that buyers were told of: set fsync = on");
        }
        if !self.full_page_writes {
            fitness.refuse("full_page_writes", "full_page_writes is off, so a page that was half written at a crash is lost: set full_page_writes = on");
        }
        if !matches!(&*self.synchronous_commit, "on" | "remote_write" | "remote_apply") {
            fitness.refuse(
                "synchronous_commit",
                format!(
                    "synchronous_commit is {}, so answers would leave before their commits are safe: set synchronous_commit = on",
                    self.synchronous_commit
                ),
            );
        }
        if let Some(power) = self.powers.first() {
            let what = match power {
                Power::Superuser => "is a superuser or may become one",
                Power::BypassesRowSecurity => {
                    "bypasses row security or may become a role that does"
                }
                Power::Owner => "owns the schema or may become its owner",
            };
            fitness.refuse("role", format!(
                "the role {} {what}, so nothing keeps orgs apart and the ledger whole: give --postgres a role that owns nothing, like floodgate_cell of deploy/postgres/roles.sql, and the owner's address to --postgres-owner",
                self.role
            ));
        }
        self.add_costs(&mut fitness);
        fitness
    }

    fn add_costs(&self, fitness: &mut Fitness) {
        if self.max_wal_size_mb < MAX_WAL_SIZE_LEAST_MB {
            fitness.cost("max_wal_size", format!(
                "max_wal_size is {} MB, so a rush ends in checkpoints: set max_wal_size = {MAX_WAL_SIZE_LEAST_MB}MB or more",
                self.max_wal_size_mb
            ));
        }
        if self.checkpoint_timeout_s < CHECKPOINT_TIMEOUT_LEAST_S {
            fitness.cost("checkpoint_timeout", format!(
                "checkpoint_timeout is {} s, so whole pages are logged again and again: set checkpoint_timeout = {CHECKPOINT_TIMEOUT_LEAST_S}s or more",
                self.checkpoint_timeout_s
            ));
        }
        if self.wal_init_zero {
            fitness.cost("wal_init_zero", "wal_init_zero is on, so commits wait while a new segment is filled with zeros: set wal_init_zero = off where the file system keeps a file's size with its data");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Settings {
        Settings {
            fsync: true,
            full_page_writes: true,
            synchronous_commit: "on".into(),
            max_wal_size_mb: 2_048,
            checkpoint_timeout_s: 900,
            wal_init_zero: false,
            wal_recycle: false,
            wal_level: "minimal".into(),
            server_version: "15.18".into(),
            role: "floodgate_cell".into(),
            powers: Vec::new(),
        }
    }

    #[test]
    fn what_breaks_a_promise_is_refused_and_what_costs_time_is_said() {
        type Change = fn(&mut Settings);
        // The change, what is refused for it, what it costs, and what the words must say.
        let rows: [(Change, &[&str], &[&str], &str); 15] = [
            (|_| {}, &[], &[], ""),
            (|s| s.fsync = false, &["fsync"], &[], "set fsync = on"),
            (|s| s.full_page_writes = false, &["full_page_writes"], &[], "full_page_writes = on"),
            (|s| s.synchronous_commit = "off".into(), &["synchronous_commit"], &[], "is off"),
            (|s| s.synchronous_commit = "local".into(), &["synchronous_commit"], &[], "is local"),
            (|s| s.synchronous_commit = String::new(), &["synchronous_commit"], &[], "= on"),
            (|s| s.synchronous_commit = "remote_write".into(), &[], &[], ""),
            (|s| s.synchronous_commit = "remote_apply".into(), &[], &[], ""),
            (|s| s.powers = vec![Power::Superuser, Power::Owner], &["role"], &[], "superuser"),
            (|s| s.powers = vec![Power::BypassesRowSecurity], &["role"], &[], "row security"),
            (|s| s.powers = vec![Power::Owner], &["role"], &[], "--postgres-owner"),
            (|s| s.max_wal_size_mb = 1_024, &[], &["max_wal_size"], "is 1024 MB"),
            (|s| s.checkpoint_timeout_s = 300, &[], &["checkpoint_timeout"], "is 300 s"),
            (|s| s.wal_init_zero = true, &[], &["wal_init_zero"], "wal_init_zero = off"),
            (
                |s| (s.fsync, s.wal_init_zero, s.wal_recycle) = (false, true, true),
                &["fsync"],
                &["wal_init_zero"],
                "power cut",
            ),
        ];
        for (number, (change, refused, costs, words)) in rows.into_iter().enumerate() {
            let mut settings = good();
            change(&mut settings);
            let fitness = settings.judge();
            let names = |remarks: &[crate::fitness::Remark]| -> Vec<&str> {
                remarks.iter().map(|remark| remark.setting).collect()
            };
            assert_eq!(names(&fitness.refusals), refused, "row {number}");
            assert_eq!(names(&fitness.costs), costs, "row {number}");
            assert_eq!(fitness.refusal().is_some(), !refused.is_empty(), "row {number}");
            let said: String =
                fitness.refusals.iter().chain(&fitness.costs).map(ToString::to_string).collect();
            assert!(said.contains(words), "row {number}: {said}");
            for setting in refused.iter().chain(costs) {
                assert!(JUDGED.contains(setting), "row {number}: {setting} is not charted");
            }
        }
    }
}
