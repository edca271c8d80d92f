//! The one etcd node. It fsyncs as in production: what it acknowledged survives kill -9.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::endpoint::Endpoint;
use crate::ports::loopback;
use crate::probe::Probe;
use crate::server::Launch;

/// How etcd is started, on a port for clients and one for the peers it does not have.
pub(crate) fn launch(folder: PathBuf, client_port: u16, peer_port: u16) -> Launch {
    let address = loopback(client_port);
    let (client, peer) = (format!("http://{address}"), format!("http://{}", loopback(peer_port)));
    let data = folder.join("data").display().to_string();
    let cluster = format!("floodgate={peer}");
    let args = [
        ("--name", "floodgate"),
        ("--data-dir", &data),
        ("--listen-client-urls", &client),
        ("--advertise-client-urls", &client),
        ("--listen-peer-urls", &peer),
        ("--initial-advertise-peer-urls", &peer),
        ("--initial-cluster", &cluster),
        // One node elects itself; half the default wait is as safe and starts half a second sooner.
        ("--heartbeat-interval", "50"),
        ("--election-timeout", "500"),
        ("--logger", "zap"),
        ("--log-level", "warn"),
    ];
    Launch {
        program: PathBuf::from("etcd"),
        args: args.iter().flat_map(|(key, value)| [*key, *value]).map(str::to_owned).collect(),
        // etcd 3.4 calls 64-bit ARM experimental and wants to hear that this is known.
        env: if cfg!(target_arch = "aarch64") {
            vec![("ETCD_UNSUPPORTED_ARCH".to_owned(), "arm64".to_owned())]
        } else {
            Vec::new()
        },
        folder,
        user: None,
        before_start: |_| (),
        stop_signal: Signal::SIGTERM,
        probe: Probe::Http(address, "/health".to_owned()),
        endpoint: Endpoint { address, metrics: None, url: client },
    }
}

/// A restarted node must keep the URLs it was born with, so a node whose first port was taken is born
/// again: this removes what the failed start left.
pub(crate) fn forget(folder: &Path) {
    std::fs::remove_dir_all(folder.join("data")).ok();
}
