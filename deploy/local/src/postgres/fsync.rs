//! A disk that says that it could not write: every fsync and fdatasync of the processes that a server has at the moment
//! fails with EIO, by strace. Processes that it starts later are not touched.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::packages::{self, Package};
use crate::tree::descendants;
use crate::{LocalError, Stack};

/// How long strace may take to hold on to a handful of processes, and how often that is looked at.
const ATTACH_LIMIT: Duration = Duration::from_secs(5);
const ATTACH_POLL: Duration = Duration::from_millis(2);

impl Stack {
    /// Fails every flush of a server's children until all of these have ended, at most for `limit`. Returns how many
    /// calls failed.
    ///
    /// # Errors
    /// When no server has this name, or [`LocalError::NotHere`] when its processes may not be traced from here.
    pub async fn fail_fsync(&self, name: &str, limit: Duration) -> Result<usize, LocalError> {
        packages::ensure(&[Package::Strace]).await?;
        let root = self.pid(name).and_then(|pid| i32::try_from(pid).ok());
        let root = root.ok_or_else(|| LocalError::Input(format!("{name} does not run")))?;
        let log = self.folder().join("logs").join(format!("{}.strace", name.replace('/', ".")));
        let pids: Vec<i32> = descendants(root).iter().map(|seen| seen.pid).collect();
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-e", "trace=fsync,fdatasync"]);
        strace.args(["-e", "inject=fsync,fdatasync:error=EIO", "-o"]).arg(&log);
        for pid in &pids {
            strace.args(["-p", &pid.to_string()]);
        }
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let mut strace = strace.spawn().map_err(LocalError::io("run strace"))?;
        let deadline = Instant::now() + ATTACH_LIMIT;
        while !pids.iter().any(|pid| is_traced(*pid)) {
            if strace.try_wait().map_err(LocalError::io("wait for strace"))?.is_some()
                || Instant::now() > deadline
            {
                let what = "strace may not trace the servers' processes; try as root";
                return Err(LocalError::NotHere(what.to_owned()));
            }
            sleep(ATTACH_POLL).await;
        }
        // It ends by itself when the last of them has ended.
        timeout(limit, strace.wait()).await.ok();
        strace.kill().await.ok();
        failed(&log).map_err(LocalError::io(format!("read {}", log.display())))
    }
}

fn is_traced(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}

fn failed(log: &Path) -> io::Result<usize> {
    Ok(std::fs::read_to_string(log)?.matches("(INJECTED)").count())
}
