//! The control socket: how a person in a second terminal hurts the servers of a running stack.
//!
//! `control.sock` in the run folder takes one request a connection, a line of JSON such as
//! `{"op":"kill","name":"cell-1/redis"}`, and answers with a line of JSON: the servers as they are then,
//! or what went wrong.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::unfold;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::folder::RUN_FOLDER_PREFIX;
use crate::{LocalError, Stack};

/// Requests served at a time; more wait.
const REQUESTS_MAX: usize = 8;
const REQUEST_BYTES_MAX: u64 = 4 * 1024;
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// How long a connection may take to say what it wants.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// What can be asked of a running stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum ControlRequest {
    /// Only tell what there is.
    Ps,
    /// SIGKILL to a server and everything it started.
    Kill {
        /// The server.
        name: String,
    },
    /// Stop it in good order.
    Stop {
        /// The server.
        name: String,
    },
    /// SIGSTOP to a server and everything it started.
    Pause {
        /// The server.
        name: String,
    },
    /// SIGCONT to a server and everything it started.
    Resume {
        /// The server.
        name: String,
    },
    /// Start it again where it was.
    Restart {
        /// The server.
        name: String,
    },
}

/// A server as it is told over the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerReport {
    /// Its name.
    pub name: String,
    /// What it is doing: `running`, `paused`, `down` or `exited (…)`.
    pub state: String,
    /// Its main process, while it has one.
    pub pid: Option<u32>,
    /// The address clients use, without a password.
    pub url: String,
    /// The address of its metrics, when it is a plane.
    pub metrics: Option<SocketAddr>,
    /// Its log file.
    pub log: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Servers(Vec<ServerReport>),
    Error(String),
}

/// All servers of a stack, by name.
#[must_use]
pub fn report(stack: &Stack) -> Vec<ServerReport> {
    let one = |name: String| {
        let endpoint = stack.endpoint(&name)?;
        Ok(ServerReport {
            state: stack.state(&name)?.to_string(),
            pid: stack.pid(&name),
            url: endpoint.shown_url(),
            metrics: endpoint.metrics,
            log: stack.log_path(&name)?,
            name,
        })
    };
    let reports = stack.names().into_iter().map(one);
    // A server that is gone between its name and its report is left out.
    reports.filter_map(|report: Result<_, LocalError>| report.ok()).collect()
}

/// A control socket that can be connected to.
#[derive(Debug)]
pub struct ControlSocket(UnixListener);

impl ControlSocket {
    /// Makes the socket in the stack's run folder.
    ///
    /// # Errors
    /// When it cannot be made, for one because the folder has one.
    pub fn bind(stack: &Stack) -> Result<Self, LocalError> {
        let path = socket(stack.folder());
        let doing = || LocalError::io(format!("listen on {}", path.display()));
        let listener = UnixListener::bind(&path).map_err(doing())?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(doing())?;
        Ok(Self(listener))
    }

    /// Serves requests until the future is dropped.
    pub async fn serve(&self, stack: &Stack) {
        let connections =
            unfold(&self.0, async |listener| Some((listener.accept().await, listener)));
        connections
            .for_each_concurrent(REQUESTS_MAX, async |accepted| {
                if let Ok((stream, _)) = accepted {
                    // Whoever asked and went away gets no answer.
                    serve_one(stack, stream).await.ok();
                }
            })
            .await;
    }
}

/// Asks the stack that runs in a folder.
///
/// # Errors
/// When nothing runs there, or what was asked for went wrong.
pub async fn ask(folder: &Path, request: &ControlRequest) -> Result<Vec<ServerReport>, LocalError> {
    let doing = || LocalError::io(format!("talk to the stack in {}", folder.display()));
    let mut stream = UnixStream::connect(socket(folder)).await.map_err(doing())?;
    write_line(&mut stream, request).await.map_err(doing())?;
    match read_line(&mut stream, ANSWER_BYTES_MAX).await.map_err(doing())? {
        Answer::Servers(servers) => Ok(servers),
        Answer::Error(what) => Err(LocalError::Input(what)),
    }
}

/// The run folders in the temporary folder whose stack listens to a control socket.
pub async fn running_folders() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(RUN_FOLDER_PREFIX);
        if ours && UnixStream::connect(socket(&entry.path())).await.is_ok() {
            found.push(entry.path());
        }
    }
    found
}

async fn serve_one(stack: &Stack, mut stream: UnixStream) -> io::Result<()> {
    let request = timeout(REQUEST_LIMIT, read_line(&mut stream, REQUEST_BYTES_MAX)).await?;
    let done = match request {
        Ok(request) => act(stack, &request).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let answer = done.map_or_else(Answer::Error, |()| Answer::Servers(report(stack)));
    write_line(&mut stream, &answer).await
}

async fn act(stack: &Stack, request: &ControlRequest) -> Result<(), LocalError> {
    match request {
        ControlRequest::Ps => Ok(()),
        ControlRequest::Kill { name } => stack.kill(name).await,
        ControlRequest::Stop { name } => stack.stop(name).await,
        ControlRequest::Pause { name } => stack.pause(name).await,
        ControlRequest::Resume { name } => stack.resume(name).await,
        ControlRequest::Restart { name } => stack.restart(name).await,
    }
}

async fn read_line<T: serde::de::DeserializeOwned>(
    stream: &mut UnixStream,
    bytes_max: u64,
) -> io::Result<T> {
    let mut line = String::new();
    BufReader::new(stream.take(bytes_max)).read_line(&mut line).await?;
    Ok(serde_json::from_str(&line)?)
}

async fn write_line<T: Serialize>(stream: &mut UnixStream, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).await
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("control.sock")
}
