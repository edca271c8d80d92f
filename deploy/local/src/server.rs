//! One named server: what starts it, what it is asked to see whether it serves, how it is ended.
//!
//! A server keeps its name, ports, folder, log and command line for as long as the stack lives, through
//! any number of deaths. Nothing restarts by itself.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep, timeout};

use crate::LocalError;
use crate::endpoint::Endpoint;
use crate::ports::PortClaim;
use crate::probe::Probe;
use crate::process::{Dying, Process, Spawner};
use crate::tree::working_in;

/// How often a starting server is asked whether it is ready.
const READY_POLL: Duration = Duration::from_millis(10);

/// How much of the log an error carries.
const TAIL_LINES_MAX: usize = 30;
const TAIL_BYTES_MAX: u64 = 16 * 1024;

/// Variables a server inherits; everything else in the developer's environment stays outside.
const INHERITED: [&str; 6] =
    ["PATH", "TMPDIR", "RUST_LOG", "RUST_BACKTRACE", "LLVM_PROFILE_FILE", "NO_COLOR"];

/// What a server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// It runs.
    Running,
    /// It was paused here and has not been resumed.
    Paused,
    /// It was stopped or killed here.
    Down,
    /// It ended although nobody here asked for that.
    Exited(ExitStatus),
}

impl std::fmt::Display for ServerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::Paused => f.write_str("paused"),
            Self::Down => f.write_str("down"),
            Self::Exited(status) => write!(f, "exited ({status})"),
        }
    }
}

/// News of a server that ended although nobody here asked for that.
#[derive(Debug, Clone)]
pub struct UnexpectedExit {
    /// The server's name.
    pub name: String,
    /// The process it was.
    pub pid: u32,
    /// How it ended.
    pub status: ExitStatus,
}

/// Everything needed to start a server, again and again. Its arguments and environment may hold passwords.
#[derive(Clone)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// Its working folder; everything it writes lies in it.
    pub(crate) folder: PathBuf,
    /// The user (and group) to become.
    pub(crate) user: Option<&'static str>,
    /// Tidies the working folder of a server that is known to be down.
    pub(crate) before_start: fn(&Path),
    pub(crate) stop_signal: Signal,
    pub(crate) probe: Probe,
    pub(crate) endpoint: Endpoint,
}

impl std::fmt::Debug for Launch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Launch").field(&self.program).field(&self.endpoint).finish()
    }
}

#[derive(Debug, Default)]
struct Now {
    process: Option<Arc<Process>>,
    paused: bool,
}

/// A server of a stack.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    launch: Launch,
    log: PathBuf,
    _ports: Vec<PortClaim>,
    exits: broadcast::Sender<UnexpectedExit>,
    now: Mutex<Now>,
    /// Whoever changes what runs holds this, one at a time.
    changing: tokio::sync::Mutex<()>,
}

/// Why a start did not work out.
#[derive(Debug)]
pub(crate) enum StartFailure {
    /// Somebody else listens on its port.
    PortTaken,
    Other(LocalError),
}

impl Server {
    pub(crate) fn new(
        name: &str,
        launch: Launch,
        log: PathBuf,
        ports: Vec<PortClaim>,
        exits: broadcast::Sender<UnexpectedExit>,
    ) -> Self {
        let (now, changing) = Default::default();
        Self { name: name.to_owned(), launch, log, _ports: ports, exits, now, changing }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.launch.endpoint
    }

    /// Whether it is a plane, which depends on all that are none.
    pub(crate) fn is_plane(&self) -> bool {
        self.launch.endpoint.metrics.is_some()
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        let process = self.now().process.clone()?;
        process.exit().is_none().then(|| process.pid())
    }

    pub(crate) fn state(&self) -> ServerState {
        let now = self.now();
        let Some(process) = now.process.as_ref() else { return ServerState::Down };
        match (process.exit(), process.unexpected_exit()) {
            (_, Some(status)) => ServerState::Exited(status),
            (Some(_), None) => ServerState::Down,
            (None, _) if now.paused => ServerState::Paused,
            (None, _) => ServerState::Running,
        }
    }

    /// Starts it and waits until it is ready. It must not be running.
    pub(crate) async fn start(
        &self,
        spawner: &Spawner,
        ready_limit: Duration,
    ) -> Result<(), StartFailure> {
        let _changing = self.changing.lock().await;
        self.launch(spawner, ready_limit).await
    }

    /// Waits until it answers its probe.
    pub(crate) async fn wait_ready(&self, limit: Duration) -> Result<(), LocalError> {
        let process = self.running("waited for")?;
        let from = self.log_length();
        self.ready(&process, limit, from).await
    }

    /// Kills it with everything it started, at one moment; not an error when it is down already.
    pub(crate) async fn kill(&self) -> Result<(), LocalError> {
        // First of all: one that is starting dies now, not when it is ready.
        let gone = match self.strike() {
            Some(dying) => dying.gone().await,
            None => true,
        };
        let _changing = self.changing.lock().await;
        self.kill_now().await?;
        if gone { Ok(()) } else { Err(self.stuck()) }
    }

    /// Asks it to end, and kills it when it has not after the grace.
    pub(crate) async fn stop(&self, grace: Duration) -> Result<(), LocalError> {
        let _changing = self.changing.lock().await;
        self.stop_now(grace).await
    }

    /// Stops it in its tracks, with everything it started.
    pub(crate) async fn pause(&self) -> Result<(), LocalError> {
        let _changing = self.changing.lock().await;
        self.running("paused")?.freeze();
        self.now().paused = true;
        Ok(())
    }

    /// Lets it go on.
    pub(crate) async fn resume(&self) -> Result<(), LocalError> {
        let _changing = self.changing.lock().await;
        self.running("resumed")?.thaw();
        self.now().paused = false;
        Ok(())
    }

    /// Ends it when it runs, then starts it on its port, in its folder, with its command line.
    pub(crate) async fn restart(
        &self,
        spawner: &Spawner,
        grace: Duration,
        ready_limit: Duration,
    ) -> Result<(), LocalError> {
        let _changing = self.changing.lock().await;
        self.stop_now(grace).await?;
        self.launch(spawner, ready_limit).await.map_err(|failure| match failure {
            StartFailure::PortTaken => {
                let reason =
                    format!("its port {} was taken meanwhile", self.launch.endpoint.address);
                self.start_error(reason, self.log_length())
            }
            StartFailure::Other(error) => error,
        })
    }

    /// Where it works.
    pub(crate) fn folder(&self) -> &Path {
        &self.launch.folder
    }

    /// Sends SIGKILL without waiting: for a stack that is being dropped.
    pub(crate) fn strike(&self) -> Option<Dying> {
        let process = self.now().process.clone()?;
        Some(process.kill_tree())
    }

    fn now(&self) -> std::sync::MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self, asked: &str) -> Result<Arc<Process>, LocalError> {
        let process = self.now().process.clone().filter(|process| process.exit().is_none());
        process.ok_or_else(|| LocalError::State {
            name: self.name.clone(),
            state: self.state().to_string(),
            asked: asked.to_owned(),
        })
    }

    async fn kill_now(&self) -> Result<(), LocalError> {
        let Some(process) = self.now().process.clone() else { return Ok(()) };
        let gone = process.kill_tree().gone().await;
        if gone {
            process.ended().await;
        }
        // A main process that died alone may have left children behind.
        let gone = gone && Dying::strike(working_in(&self.launch.folder)).gone().await;
        self.now().paused = false;
        if gone { Ok(()) } else { Err(self.stuck()) }
    }

    async fn stop_now(&self, grace: Duration) -> Result<(), LocalError> {
        if let Ok(process) = self.running("stopped") {
            process.set_watched(false);
            process.thaw();
            self.now().paused = false;
            process.signal(self.launch.stop_signal);
            timeout(grace, process.ended()).await.ok();
        }
        self.kill_now().await
    }

    async fn launch(&self, spawner: &Spawner, limit: Duration) -> Result<(), StartFailure> {
        let from = self.log_length();
        (self.launch.before_start)(&self.launch.folder);
        let command = self.command().map_err(StartFailure::Other)?;
        let (name, exits) = (self.name.clone(), self.exits.clone());
        let report = move |pid, status| {
            // No receiver, no news.
            exits.send(UnexpectedExit { name, pid, status }).map(drop).ok();
        };
        let process =
            spawner.spawn(&self.name, command, report).await.map_err(StartFailure::Other)?;
        *self.now() = Now { process: Some(Arc::clone(&process)), paused: false };
        let ready = self.ready(&process, limit, from).await;
        let Err(error) = ready.and_then(|()| self.watch(&process, from)) else { return Ok(()) };
        self.kill_now().await.map_err(StartFailure::Other)?;
        let port_taken = self.tail(from).to_lowercase().contains("address already in use");
        Err(if port_taken { StartFailure::PortTaken } else { StartFailure::Other(error) })
    }

    /// From here on its end is news; an end that came just before is a failed start.
    fn watch(&self, process: &Process, log_from: u64) -> Result<(), LocalError> {
        let ended = process.set_watched(true);
        ended.map_or(Ok(()), |status| {
            Err(self.start_error(format!("it ended ({status})"), log_from))
        })
    }

    async fn ready(
        &self,
        process: &Process,
        limit: Duration,
        log_from: u64,
    ) -> Result<(), LocalError> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = process.exit() {
                return Err(self.start_error(format!("it ended ({status})"), log_from));
            }
            if self.launch.probe.is_ready().await {
                return Ok(());
            }
            if Instant::now() > deadline {
                let reason = format!("it was not ready after {limit:?}");
                return Err(self.start_error(reason, log_from));
            }
            sleep(READY_POLL).await;
        }
    }

    fn command(&self) -> Result<Command, LocalError> {
        let doing = || LocalError::io(format!("open {}", self.log.display()));
        let log = OpenOptions::new().create(true).append(true).open(&self.log).map_err(doing())?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(user) = self.launch.user {
            command.args(["--reuid", user, "--regid", user, "--init-groups"]);
        }
        command.arg("--").arg(&self.launch.program).args(&self.launch.args);
        command.env_clear();
        command.envs(INHERITED.iter().filter_map(|key| Some((key, std::env::var_os(key)?))));
        command.envs(self.launch.env.iter().map(|(key, value)| (key, value)));
        command.current_dir(&self.launch.folder).process_group(0).stdin(Stdio::null());
        command.stdout(log.try_clone().map_err(doing())?).stderr(log);
        Ok(command)
    }

    fn stuck(&self) -> LocalError {
        LocalError::State {
            name: self.name.clone(),
            state: "stuck in the kernel".to_owned(),
            asked: "killed".to_owned(),
        }
    }

    fn start_error(&self, reason: String, log_from: u64) -> LocalError {
        LocalError::Start {
            name: self.name.clone(),
            reason,
            log: self.log.clone(),
            tail: self.tail(log_from),
        }
    }

    fn log_length(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |meta| meta.len())
    }

    fn tail(&self, from: u64) -> String {
        read_tail(&self.log, from).unwrap_or_else(|error| format!("(no log: {error})"))
    }
}

/// The last lines of a log, none from before `from`.
fn read_tail(log: &Path, from: u64) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let end = file.seek(SeekFrom::End(0))?;
    let wanted = end.saturating_sub(TAIL_BYTES_MAX).max(from);
    file.seek(SeekFrom::Start(wanted.min(end)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(TAIL_LINES_MAX);
    Ok(lines.get(skipped..).unwrap_or_default().join("\n"))
}
