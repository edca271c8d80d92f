//! A cell's Postgres: a server of its own, so that one can be killed, paused or filled alone.
//!
//! Its folder is a copy of a template that `initdb` made once, with the roles of deploy/postgres/roles.sql. Who is on this
//! machine may log in without a password: as `floodgate_cell`, whose session the endpoint's URL opens; as `floodgate`, who
//! owns the schema; and as `postgres`, the superuser.

pub(crate) mod clock;
mod fsync;
pub(crate) mod segment;
mod template;
pub(crate) mod wal;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

pub(crate) use template::copy_template;

use crate::LocalError;
use crate::endpoint::Endpoint;
use crate::ports::loopback;
use crate::probe::Probe;
use crate::server::Launch;

/// Where Debian puts the programs of each version; they are not on PATH.
const VERSIONS_FOLDER: &str = "/usr/lib/postgresql";

/// The role that owns the schema, and its database.
const OWNER: &str = "floodgate";

/// The role that cells work as.
const ROLE: &str = "floodgate_cell";

/// Longer paths do not fit a Unix socket's address with the socket's own name.
const SOCKET_FOLDER_BYTES_MAX: usize = 90;

/// Differences from Postgres' defaults. What a commit promises (fsync, synchronous_commit,
/// full_page_writes) is spelt out although it is the default: figures are taken with it.
const SETTINGS: [(&str, &str); 13] = [
    ("listen_addresses", "127.0.0.1"),
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    // Many servers share a small machine; a cell's hot rows fit.
    ("shared_buffers", "32MB"),
    // Writing a new segment full of zeros first stalls commits (p99 80 ms instead of 15 ms); the file
    // systems used here keep a grown file's size with its data, which is all that it is for.
    ("wal_init_zero", "off"),
    // Segments are not renamed for later use either: a fresh file is as cheap, and the folder small.
    ("wal_recycle", "off"),
    // Checkpoints (and the full pages after them) come by time, not in the middle of a burst.
    ("max_wal_size", "2GB"),
    ("checkpoint_timeout", "15min"),
    // A cell's processes share some twenty connections; a person and a judge want in, too.
    ("max_connections", "60"),
    // Nobody replicates from a local cell unless a setting says so.
    ("max_wal_senders", "0"),
    ("wal_level", "minimal"),
    // Plain text in our own log file.
    ("logging_collector", "off"),
];

/// Where Postgres' programs are.
pub(crate) fn programs() -> Option<PathBuf> {
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let mut found: Vec<PathBuf> = std::fs::read_dir(VERSIONS_FOLDER)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| version(path).is_some() && path.join("bin/initdb").exists())
        .collect();
    found.sort_by_key(|path| version(path));
    found.pop().map(|path| path.join("bin"))
}

/// The user Postgres runs as: it refuses to be root.
pub(crate) fn user() -> Option<&'static str> {
    nix::unistd::geteuid().is_root().then_some("postgres")
}

/// Writes the settings into the folder; the given ones win, and win over `postgresql.conf`.
pub(crate) fn configure(folder: &Path, settings: &[(String, String)]) -> Result<(), LocalError> {
    let socket_folder = match folder.to_str() {
        Some(path) if path.len() <= SOCKET_FOLDER_BYTES_MAX => path,
        // No Unix socket then: nobody here needs it.
        _ => "",
    };
    let defaults = SETTINGS.iter().map(|(key, value)| (*key, *value));
    let chosen = settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let all = defaults.chain([("unix_socket_directories", socket_folder)]).chain(chosen);
    let lines: String =
        all.map(|(key, value)| format!("{key} = '{}'\n", value.replace('\'', "''"))).collect();
    let file = folder.join("data/floodgate.conf");
    // Postgres' own user reads it, whatever the umask is; strangers cannot reach its folder.
    std::fs::write(&file, lines)
        .and_then(|()| std::fs::set_permissions(&file, Permissions::from_mode(0o644)))
        .map_err(LocalError::io("write Postgres' settings"))
}

/// A pid file from before a kill -9 names a process that by now may be somebody else's Postgres, which
/// would keep this one from starting. Only for a server that is known to be down.
fn remove_stale_pid_file(folder: &Path) {
    std::fs::remove_file(folder.join("data/postmaster.pid")).ok();
}

/// How Postgres is started on a port, with further environment.
pub(crate) fn launch(
    programs: &Path,
    folder: PathBuf,
    port: u16,
    env: &[(String, String)],
) -> Launch {
    let address = loopback(port);
    let (postgres, data) = (programs.join("postgres"), folder.join("data"));
    // `env` and no variable of the launch: a library that is loaded first must not be so before the user has changed.
    let variables = env.iter().map(|(name, value)| format!("{name}={value}"));
    let rest = [&postgres.display().to_string(), "-D", &data.display().to_string(), "-p"];
    let args = variables.chain(rest.map(str::to_owned)).chain([port.to_string()]);
    Launch {
        program: PathBuf::from("env"),
        args: args.collect(),
        env: Vec::new(),
        folder,
        user: user(),
        before_start: remove_stale_pid_file,
        // "Fast": sessions are cut, the last checkpoint is written.
        stop_signal: Signal::SIGINT,
        probe: Probe::Postgres(address, OWNER),
        endpoint: Endpoint { address, metrics: None, url: role_url(address, ROLE) },
    }
}

/// The address of a session of the role that owns the schema.
pub(crate) fn owner_url(endpoint: &Endpoint) -> String {
    role_url(endpoint.address, OWNER)
}

/// The address of the superuser's session on a cell's database.
pub(crate) fn admin_url(endpoint: &Endpoint) -> String {
    role_url(endpoint.address, "postgres")
}

fn role_url(address: std::net::SocketAddr, role: &str) -> String {
    format!("postgres://{role}@{address}/{OWNER}")
}
