//! The payment provider's process, as the stack sees it; the simulator itself is a program of its own.

use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::endpoint::Endpoint;
use crate::ports::loopback;
use crate::probe::Probe;
use crate::server::Launch;
use crate::{Faults, LocalError, Stack, http};

/// How the provider is started on a port.
pub(crate) fn launch(program: PathBuf, folder: PathBuf, port: u16) -> Launch {
    let address = loopback(port);
    let args = ["--listen", &address.to_string(), "--data-dir", &folder.display().to_string()];
    Launch {
        program,
        args: args.map(str::to_owned).into(),
        env: Vec::new(),
        folder,
        user: None,
        before_start: |_| (),
        stop_signal: Signal::SIGTERM,
        probe: Probe::Http(address, "/healthz".to_owned()),
        endpoint: Endpoint { address, metrics: None, url: format!("http://{address}") },
    }
}

impl Stack {
    /// Replaces the provider's faults.
    ///
    /// # Errors
    /// When the provider was not started, does not answer, or refuses them.
    pub async fn set_faults(&self, faults: &Faults) -> Result<(), LocalError> {
        let address = self.endpoint("provider")?.address;
        let json = serde_json::to_string(faults)
            .map_err(|error| LocalError::Input(format!("faults are no JSON: {error}")))?;
        let posted = http::request(address, "POST", "/faults", Some(&json)).await;
        match posted.map_err(LocalError::io("reach the provider"))? {
            (200, _) => Ok(()),
            (status, said) => Err(LocalError::Input(format!("provider says {status}: {said}"))),
        }
    }
}
