//! A cell's Redis: keeps nothing on disk, so a restarted one is an empty one.
//!
//! Three users may connect: `cell`, as deploy/redis/cell.acl has it, whose session the endpoint's URL opens; `admin`, who
//! may do everything, for whoever judges or damages; and who gives no name, who may PING. Passwords are drawn for each
//! server and stand in `users.conf` in its folder, which nobody else may read.

mod older;

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use rand::RngExt;

use crate::LocalError;
use crate::endpoint::Endpoint;
use crate::ports::loopback;
use crate::probe::Probe;
use crate::server::Launch;

/// The user of cells, without a password.
const CELL_ACL: &str = include_str!("../../redis/cell.acl");

/// Where the users of a server stand, in its folder.
const USERS_FILE: &str = "users.conf";

/// Differences from Redis' defaults.
const SETTINGS: [(&str, &str); 6] = [
    ("bind", "127.0.0.1"),
    // Loopback only; who gives no name may do nothing.
    ("protected-mode", "no"),
    // Nothing is kept: what counts is in Postgres, and half a memory would be worse than none.
    ("save", ""),
    ("appendonly", "no"),
    // A full Redis refuses writes; it never forgets a grant to make room.
    ("maxmemory-policy", "noeviction"),
    ("daemonize", "no"),
];

/// The user who may do everything, up to the password.
const ADMIN: &str = "user admin on ~* &* +@all >";

/// The password of the user `cell`.
pub(crate) struct CellPassword(String);

impl CellPassword {
    /// Draws passwords and writes the users where only ourselves, and so the server, can read them.
    pub(crate) fn draw(folder: &Path) -> Result<CellPassword, LocalError> {
        let mine = password();
        let cell = CELL_ACL.lines().find(|line| line.starts_with("user cell on "));
        let cell = cell.unwrap_or_default();
        let text =
            format!("user default reset on nopass +ping\n{cell} >{mine}\n{ADMIN}{}\n", password());
        let path = folder.join(USERS_FILE);
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&path)?;
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            file.write_all(text.as_bytes())
        };
        write().map_err(LocalError::io("write the users of a Redis"))?;
        Ok(CellPassword(mine))
    }
}

/// How Redis is started on a port; later settings win.
pub(crate) fn launch(
    folder: PathBuf,
    port: u16,
    password: &CellPassword,
    settings: &[(String, String)],
) -> Launch {
    let address = loopback(port);
    let mut args = vec![folder.join(USERS_FILE).display().to_string()];
    args.extend(["--port".to_owned(), port.to_string()]);
    args.extend(["--dir".to_owned(), folder.display().to_string()]);
    let defaults = SETTINGS.iter().map(|(key, value)| (*key, *value));
    let chosen = settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    for (key, value) in defaults.chain(chosen) {
        args.extend([format!("--{key}"), value.to_owned()]);
    }
    Launch {
        program: PathBuf::from("redis-server"),
        args,
        env: Vec::new(),
        folder,
        user: None,
        before_start: |_| (),
        stop_signal: Signal::SIGTERM,
        probe: Probe::Redis(address),
        endpoint: Endpoint { address, metrics: None, url: url(address, "cell", &password.0) },
    }
}

/// The address of a session that may do everything.
pub(crate) fn admin_url(folder: &Path, endpoint: &Endpoint) -> Result<String, LocalError> {
    let doing = || LocalError::io("read the users of a Redis");
    let text = fs::read_to_string(folder.join(USERS_FILE)).map_err(doing())?;
    let admin = text.lines().find_map(|line| line.strip_prefix(ADMIN));
    Ok(url(endpoint.address, "admin", admin.unwrap_or_default()))
}

fn url(address: SocketAddr, user: &str, password: &str) -> String {
    format!("redis://{user}:{password}@{address}")
}

/// 128 bits nobody guesses.
fn password() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}
