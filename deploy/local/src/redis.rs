//! A cell's Redis: keeps nothing on disk, so a restarted one is an empty one.

use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::ports::loopback;
use crate::probe::Probe;
use crate::server::{Endpoint, Launch};

/// Differences from Redis' defaults.
const SETTINGS: [(&str, &str); 6] = [
    ("bind", "127.0.0.1"),
    // Loopback only, and no password to hand around.
    ("protected-mode", "no"),
    // Nothing is kept: what counts is in Postgres, and half a memory would be worse than none.
    ("save", ""),
    ("appendonly", "no"),
    // A full Redis refuses writes; it never forgets a grant to make room.
    ("maxmemory-policy", "noeviction"),
    ("daemonize", "no"),
];

/// How Redis is started on a port; later settings win.
pub(crate) fn launch(folder: PathBuf, port: u16, settings: &[(String, String)]) -> Launch {
    let address = loopback(port);
    let mut args = vec!["--port".to_owned(), port.to_string()];
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
        endpoint: Endpoint { address, metrics: None, url: format!("redis://{address}") },
    }
}
