//! What a page that listens to a sale's events sees of the end of its connection: the stream's end, and no error.

use anyhow::{Context, ensure};
use proto::token::Role;
use serde_json::Value;

use crate::curl::ask;
use crate::shop::Shop;

/// Listens twice, each time for as long as the connection lasts, as an EventSource does by itself.
pub(crate) async fn end_well_and_go_on(shop: &Shop, id: &str) -> anyhow::Result<()> {
    let url = format!("{}/v1/sales/{id}/events", shop.router);
    let token = shop.bearer("page", Role::Buyer);
    for last in [None, Some("")] {
        let mut headers = vec![("authorization", &*token)];
        headers.extend(last.map(|last| ("last-event-id", last)));
        // It fails when the body is broken off.
        let events = ask("GET", &url, &headers, "").await?;
        ensure!(events.header("content-type") == "text/event-stream", "{events:?}");
        let again = events.body.lines().next().and_then(|line| line.strip_prefix("retry: "));
        let again_ms: u64 = again.context("when to come again")?.parse()?;
        ensure!((1_000..5_000).contains(&again_ms), "{events:?}");
        // What is so now comes first, whatever was told before, and the last event is whole.
        let data = events.body.lines().find_map(|line| line.strip_prefix("data: "));
        let state: Value = serde_json::from_str(data.context("an event")?)?;
        ensure!(state["phase"] == "PHASE_OPEN", "{state}");
        ensure!(events.body.ends_with("\n\n"), "{events:?}");
    }
    Ok(())
}
