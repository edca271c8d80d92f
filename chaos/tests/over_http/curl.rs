//! curl, as a shop's own scripts would use it.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::process::Command;

/// What came back.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Told {
    /// A header's value; empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(one, _)| one.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// The body.
    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("{self:?}"))
    }

    /// The body of an answer that is one.
    pub(crate) fn answer(&self) -> anyhow::Result<Value> {
        ensure!(self.status == 200, "{self:?}");
        ensure!(self.header("content-type") == "application/json", "{self:?}");
        self.json()
    }
}

/// Asks, and waits for the whole answer.
pub(crate) async fn ask(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> anyhow::Result<Told> {
    let mut curl = curl(method, url, headers);
    if !body.is_empty() {
        curl.args(["--data-binary", body]);
        // What curl would say by itself of such a body.
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            curl.args(["-H", "content-type:"]);
        }
    }
    let output = curl.output().await.context("curl")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "curl {method} {url}: {errors}");
    read(&String::from_utf8(output.stdout)?)
}

/// Listens to a stream for a while.
pub(crate) async fn listen(
    url: &str,
    headers: &[(&str, &str)],
    time: Duration,
) -> anyhow::Result<Told> {
    let mut curl = curl("GET", url, headers);
    curl.args(["--no-buffer", "--max-time", &time.as_secs_f32().to_string()]);
    read(&String::from_utf8(curl.output().await.context("curl")?.stdout)?)
}

fn curl(method: &str, url: &str, headers: &[(&str, &str)]) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--include", "--http1.1", "--max-time", "20"]);
    curl.args(["--request", method, "--path-as-is", "--globoff"]).kill_on_drop(true);
    for (name, value) in headers {
        curl.args(["--header", &format!("{name}: {value}")]);
    }
    curl.arg(url);
    curl
}

fn read(text: &str) -> anyhow::Result<Told> {
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no head: {text}"))?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?;
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    let headers = lines.filter_map(header).collect();
    Ok(Told { status: status.parse()?, headers, body: body.to_owned() })
}
