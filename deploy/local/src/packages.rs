//! The Debian packages that servers come from.
//!
//! The rules (what counts as missing, who may install, no service is left running) stand once, in
//! `packages.sh`, which is also what builds call; here it is run with `sh`.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::LocalError;

const SCRIPT: &str = include_str!("../packages.sh");

/// How much of what the script said an error carries; it ends with the line to run.
const SAID_LINES_MAX: usize = 10;

/// A Debian package with a server or tool in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Package {
    /// `redis-server`
    Redis,
    /// `etcd-server`
    Etcd,
    /// `postgresql`
    Postgres,
    /// `util-linux`, for `setpriv`
    UtilLinux,
    /// `strace`, for disks that fail
    Strace,
    /// `faketime`, for clocks that step
    Faketime,
}

impl Package {
    /// Its name in Debian.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Etcd => "etcd-server",
            Self::Postgres => "postgresql",
            Self::UtilLinux => "util-linux",
            Self::Strace => "strace",
            Self::Faketime => "faketime",
        }
    }
}

/// Installs those of the packages that are missing; quick when none is.
///
/// # Errors
/// [`LocalError::Packages`] with the one line to run, when they cannot be installed from here.
pub async fn ensure(packages: &[Package]) -> Result<(), LocalError> {
    let names: Vec<&str> = packages.iter().map(|package| package.name()).collect();
    let (code, _, said) = run(&names).await?;
    if code == Some(0) {
        return Ok(());
    }
    let lines: Vec<&str> = said.lines().collect();
    let last = lines.get(lines.len().saturating_sub(SAID_LINES_MAX)..).unwrap_or_default();
    Err(LocalError::Packages { said: last.join("\n") })
}

/// Runs the script; returns its exit code, its output and what it said besides.
async fn run(args: &[&str]) -> Result<(Option<i32>, String, String), LocalError> {
    let doing = || LocalError::io("run packages.sh");
    let mut child = Command::new("sh")
        .args(["-s", "--"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(doing())?;
    let Some(mut stdin) = child.stdin.take() else {
        return Err(doing()(std::io::ErrorKind::BrokenPipe.into()));
    };
    stdin.write_all(SCRIPT.as_bytes()).await.map_err(doing())?;
    drop(stdin);
    let output = child.wait_with_output().await.map_err(doing())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unknown_package_is_refused() {
        let (code, _, said) = run(&["no-such-package"]).await.unwrap();
        assert_eq!(code, Some(64));
        assert!(said.contains("no-such-package"), "{said}");
    }

    #[tokio::test]
    async fn what_is_there_is_not_missing() {
        let (code, missing, _) = run(&["--missing", Package::UtilLinux.name()]).await.unwrap();
        assert_eq!((code, missing.trim()), (Some(0), ""));
    }
}
