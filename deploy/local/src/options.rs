//! What a stack is made with, besides the servers that are started in it.

use std::path::PathBuf;
use std::time::Duration;

/// How a stack is made. The default is what a test wants.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// The run folder; it must be empty. By default a new one in the temporary folder.
    pub folder: Option<PathBuf>,
    /// Whether the folder stays when the stack goes. The environment variable
    /// `FLOODGATE_KEEP_RUN_FOLDER`, when set, means yes for all.
    pub keep: bool,
    /// Postgres settings that win over this crate's.
    pub postgres_settings: Vec<(String, String)>,
    /// The size of a file system of its own for every Postgres' log, so that it can be filled; needs root.
    pub postgres_wal_bytes_max: Option<u64>,
    /// Whether every Postgres' clock can be set.
    pub postgres_clock: bool,
    /// Redis settings that win over this crate's.
    pub redis_settings: Vec<(String, String)>,
    /// How long a server may take to become ready.
    pub ready_limit: Duration,
    /// How long a server that is asked to stop may take before it is killed.
    pub stop_grace: Duration,
}

impl Default for StackOptions {
    fn default() -> Self {
        Self {
            folder: None,
            keep: false,
            postgres_settings: Vec::new(),
            postgres_wal_bytes_max: None,
            postgres_clock: false,
            redis_settings: Vec::new(),
            ready_limit: Duration::from_secs(60),
            stop_grace: Duration::from_secs(15),
        }
    }
}
