//! A plane: a program of this workspace, started with the flags that all of them share.

use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::endpoint::Endpoint;
use crate::ports::loopback;
use crate::probe::Probe;
use crate::server::Launch;
use crate::{LocalError, Stack, http};

/// A plane to start: `--listen`, `--metrics-listen` and `--data-dir` are added to its arguments. What must not be seen by
/// every user of the machine, such as an address with a password, belongs into its environment.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PlaneSpec {
    /// Its name in the stack, such as `router-2` or `cell-1/p1`.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments besides the shared three.
    pub args: Vec<String>,
    /// Its environment besides PATH and the like.
    pub env: Vec<(String, String)>,
}

impl std::fmt::Debug for PlaneSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, program) = (&self.name, &self.program);
        f.debug_struct("PlaneSpec")
            .field("name", name)
            .field("program", program)
            .finish_non_exhaustive()
    }
}

impl PlaneSpec {
    /// How it is started; it is ready when `/readyz` on its metrics address says 200.
    pub(crate) fn launch(&self, folder: PathBuf, port: u16, metrics_port: u16) -> Launch {
        let (address, metrics) = (loopback(port), loopback(metrics_port));
        let encrypted = self.args.iter().any(|arg| arg == "--tls-cert");
        let scheme = if encrypted { "https" } else { "http" };
        let shared = [
            ("--listen", address.to_string()),
            ("--metrics-listen", metrics.to_string()),
            ("--data-dir", folder.display().to_string()),
        ];
        let shared = shared.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        Launch {
            program: self.program.clone(),
            args: shared.chain(self.args.iter().cloned()).collect(),
            env: self.env.clone(),
            folder,
            user: None,
            before_start: |_| (),
            stop_signal: Signal::SIGTERM,
            probe: Probe::Http(metrics, "/readyz".to_owned()),
            endpoint: Endpoint {
                address,
                metrics: Some(metrics),
                url: format!("{scheme}://{address}"),
            },
        }
    }
}

impl Stack {
    /// Asks a plane something at the address of its metrics, such as `GET` of `/metrics`. Returns the status code and
    /// the body.
    ///
    /// # Errors
    /// When no server has this name, it is no plane, or it does not answer.
    pub async fn ask_plane(
        &self,
        name: &str,
        method: &str,
        path: &str,
    ) -> Result<(u16, String), LocalError> {
        let no_plane = || LocalError::Input(format!("{name} is no plane: it has no metrics"));
        let address = self.endpoint(name)?.metrics.ok_or_else(no_plane)?;
        let asked = http::request(address, method, path, None).await;
        asked.map_err(LocalError::io(format!("ask {name} for {path}")))
    }
}
