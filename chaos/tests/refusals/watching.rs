//! Watching: as many as may, and one more.

use proto::fault::Reason;
use proto::limits::WATCHERS_PER_CONNECTION_MAX;
use proto::wire::storefront::WatchSaleRequest;
use proto::wire::storefront::storefront_service_client::StorefrontServiceClient;
use tonic::Code;
use tonic::transport::Endpoint;

use crate::row::{Outcome, Row, refused, row, says};
use crate::shop::line;
use crate::stage::Stage;

/// So many streams on one connection.
pub(crate) fn rows() -> Vec<Row> {
    let too_many = refused(Code::ResourceExhausted, Reason::TooManyWatchers);
    vec![
        row("WatchSale: as many as a connection may have", says("WATCHED"), async |s: &Stage| {
            watch(s, WATCHERS_PER_CONNECTION_MAX).await
        }),
        row("WatchSale: one more than a connection may have", too_many, async |s: &Stage| {
            watch(s, WATCHERS_PER_CONNECTION_MAX + 1).await
        }),
    ]
}

/// The streams are kept until the last was asked for, and each tells a state at once.
async fn watch(s: &Stage, streams: u32) -> Outcome {
    let channel = Endpoint::from_shared(s.url("router")?)?.connect().await?;
    let line = line(&channel, &s.buyer_token(&s.acme))?;
    let mut client = StorefrontServiceClient::new(line);
    let mut watched = Vec::new();
    for _ in 0..streams {
        let answer = client.watch_sale(WatchSaleRequest { sale: s.open.clone() }).await;
        let mut states = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) => return Ok(Err(status)),
        };
        anyhow::ensure!(states.message().await?.is_some(), "a watcher was told nothing");
        watched.push(states);
    }
    Ok(Ok("WATCHED".to_owned()))
}
