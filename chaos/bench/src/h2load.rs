//! h2load: a load that costs little and is not ours.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

/// How many calls are under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) connections: u32,
    pub(crate) streams: u32,
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.connections, self.streams)
    }
}

/// Sends the gRPC frame in `body` to `url` for `seconds`. Returns how many calls were answered.
pub(crate) async fn run(
    url: &str,
    body: &Path,
    shape: Shape,
    seconds: u64,
    token: Option<&str>,
) -> Result<u64> {
    let mut command = Command::new("h2load");
    command
        .args(["-t", "1", "-c", &shape.connections.to_string(), "-m", &shape.streams.to_string()])
        .args(["-D", &seconds.to_string(), "--warm-up-time", "1"])
        .args(["-H", "content-type: application/grpc", "-H", "te: trailers"])
        .arg("-d")
        .arg(body)
        .kill_on_drop(true);
    if let Some(token) = token {
        command.args(["-H", &format!("authorization: Bearer {token}")]);
    }
    let output = tokio::time::timeout(Duration::from_secs(seconds + 60), command.arg(url).output())
        .await??;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .find(|line| line.starts_with("requests:"))
        .context("h2load printed no result")?;
    // requests: 1000 total, 1000 started, 1000 done, 1000 succeeded, 0 failed, 0 errored, 0 timeout
    let number = |word: &str| -> Option<u64> {
        let part =
            line.trim_start_matches("requests:").split(',').find(|part| part.contains(word))?;
        part.split_whitespace().next()?.parse().ok()
    };
    let (succeeded, failed) = (number("succeeded").unwrap_or(0), number("failed").unwrap_or(0));
    ensure!(succeeded > 0 && failed == 0, "h2load failed: {line}");
    Ok(succeeded)
}
