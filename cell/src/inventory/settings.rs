//! Settings of the cell's Redis, read off its INFO at each connection and now and then, and what follows from them.
//!
//! | setting | is | otherwise |
//! |---|---|---|
//! | `maxmemory_policy` | noeviction | refused: a full Redis would forget grants to make room |
//! | `appendonly` | no | said: it costs time, and what a restarted Redis remembers is older than Postgres |
//! | `save` | "" | said, once a Redis has written or read its memory to or from a disk: the same |
//!
//! A Redis that remembers something older sells nothing by that: its run is a new one, so every bucket is loaded anew.

use crate::fitness::Fitness;

/// The settings that are judged, by the names under which they are charted.
pub(super) const JUDGED: [&str; 3] = ["maxmemory_policy", "appendonly", "save"];

/// A Redis as its INFO (server, memory, persistence) says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// `run_id`: which start of which server.
    pub run: String,
    /// `maxmemory_policy`.
    pub maxmemory_policy: String,
    /// Whether what is written is appended to a file.
    pub appends: bool,
    /// Keys that came from a disk when it started.
    pub loaded_keys: u64,
    /// Whether its memory was written to a disk, or is now.
    pub saves: bool,
}

impl ServerInfo {
    /// Reads it off the text. A field that is not there counts as one that is not as it should be, where that matters.
    pub fn read(info: &str) -> ServerInfo {
        let field = |name: &str| {
            let of = |line: &str| line.strip_prefix(name)?.strip_prefix(':').map(str::to_owned);
            info.lines().find_map(|line| of(line.trim()))
        };
        let number = |name: &str| field(name).and_then(|text| text.parse::<i64>().ok());
        ServerInfo {
            run: field("run_id").unwrap_or_default(),
            maxmemory_policy: field("maxmemory_policy").unwrap_or_default(),
            appends: number("aof_enabled") != Some(0),
            loaded_keys: number("rdb_last_load_keys_loaded")
                .and_then(|keys| u64::try_from(keys).ok())
                .unwrap_or(0),
            // How long the last one took, in seconds; -1 when there was none.
            saves: number("rdb_bgsave_in_progress") == Some(1)
                || number("rdb_last_bgsave_time_sec").is_some_and(|took| took >= 0),
        }
    }

    /// Says what follows from it.
    pub fn judge(&self) -> Fitness {
        let mut fitness = Fitness::default();
        if self.maxmemory_policy != "noeviction" {
            fitness.refuse("maxmemory_policy", format!(
                "redis may forget grants to make room (maxmemory-policy is {:?}): set maxmemory-policy noeviction",
                self.maxmemory_policy
            ));
        }
        if self.appends {
            fitness.cost(
                "appendonly",
                "redis appends to a file, which costs time and is never read: set appendonly no",
            );
        }
        if self.saves || self.loaded_keys > 0 {
            fitness.cost("save", format!(
                "redis keeps its memory on a disk ({} keys came from there), which costs time and is always older than Postgres: set save \"\" and remove its file",
                self.loaded_keys
            ));
        }
        fitness
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n# Memory\r\nmaxmemory:0\r\n\
        maxmemory_policy:noeviction\r\n# Persistence\r\nrdb_bgsave_in_progress:0\r\n\
        rdb_last_bgsave_time_sec:-1\r\nrdb_last_load_keys_loaded:0\r\naof_enabled:0\r\n";

    #[test]
    fn what_could_forget_is_refused_and_what_costs_time_is_said() {
        // What is changed into what; what is refused for it, and what it costs.
        let rows: [(&str, &str, &[&str], &[&str]); 8] = [
            ("", "", &[], &[]),
            ("noeviction", "allkeys-lru", &["maxmemory_policy"], &[]),
            ("noeviction", "volatile-ttl", &["maxmemory_policy"], &[]),
            ("maxmemory_policy:noeviction\r\n", "", &["maxmemory_policy"], &[]),
            ("aof_enabled:0", "aof_enabled:1", &[], &["appendonly"]),
            ("time_sec:-1", "time_sec:0", &[], &["save"]),
            ("in_progress:0", "in_progress:1", &[], &["save"]),
            ("keys_loaded:0", "keys_loaded:7", &[], &["save"]),
        ];
        for (from, to, refused, costs) in rows {
            let info = ServerInfo::read(&GOOD.replacen(from, to, 1));
            assert_eq!(info.run, "abc");
            let fitness = info.judge();
            let names = |remarks: &[crate::fitness::Remark]| -> Vec<&str> {
                remarks.iter().map(|remark| remark.setting).collect()
            };
            assert_eq!(names(&fitness.refusals), refused, "{to}");
            assert_eq!(names(&fitness.costs), costs, "{to}");
            assert!(refused.iter().chain(costs).all(|setting| JUDGED.contains(setting)));
        }
    }
}
