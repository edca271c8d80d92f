//! One more than may watch: over either protocol they are told to poll.

use super::{Scene, sse, streams};
use crate::calls::Refused;
use anyhow::{Context, Result, bail, ensure};
use proto::fault::Reason;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tonic::Code;

const SOON: Duration = Duration::from_secs(5);

/// Over events: too many requests, when to come again, and what to do meanwhile.
pub(super) async fn sse(scene: &Scene) -> Result<()> {
    let mut stream = sse::ask(scene, 0).await?;
    let mut said = String::new();
    let label = Reason::TooManyWatchers.label();
    while !said.contains(label) {
        let mut read = [0; 2_048];
        let count = timeout(SOON, stream.read(&mut read)).await.context(said.clone())??;
        ensure!(count > 0, "one more over events was told {said:?}");
        said.push_str(std::str::from_utf8(read.get(..count).unwrap_or_default())?);
    }
    let whole = said.starts_with("HTTP/1.1 429 ") && said.contains("retry-after: ");
    ensure!(whole && said.contains("poll"), "one more over events was told {said:?}");
    Ok(())
}

/// Over gRPC.
pub(super) async fn stream(scene: &Scene) -> Result<()> {
    let send = streams::connect(scene, 0).await?;
    match streams::ask(scene, &send).await {
        Ok(_) => bail!("one more over gRPC was let in"),
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(Refused(Code::ResourceExhausted, _)) => Ok(()),
            _ => Err(error).context("one more over gRPC"),
        },
    }
}
