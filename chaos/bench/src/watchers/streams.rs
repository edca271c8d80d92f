//! WatchSale streams of gRPC, many on a connection. Of a message only the phase is looked at.

use super::tally::{Phase, Tally};
use super::{Scene, source};
use crate::calls::{accepted, framed};
use anyhow::{Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use h2::RecvStream;
use h2::client::SendRequest;
use http::{Method, Request, Version};
use prost::bytes::Bytes;
use proto::limits::WATCHERS_PER_CONNECTION_MAX;
use proto::wire::storefront::WatchSaleRequest;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Connections that open at a time.
const AT_ONCE: usize = 8;
/// Bytes that may be on their way to a connection: its streams share them.
const WINDOW_BYTES: u32 = 1 << 20;
/// What comes before a message, and before its first text.
const HEAD_BYTES: usize = 5;
/// The tag of the phase, which follows the sale's name.
const PHASE_TAG: u8 = 2 << 3;
const PATH: &str = "/floodgate.storefront.v1.StorefrontService/WatchSale";

/// Opens so many streams on so many connections, the same on each but the last.
pub(super) async fn open(
    scene: &Scene,
    connections: usize,
    streams: usize,
) -> Result<Vec<JoinHandle<()>>> {
    let shared = WATCHERS_PER_CONNECTION_MAX as usize;
    let one = |number: usize| async move {
        let send = connect(scene, number).await?;
        let mut open = Vec::new();
        for _ in 0..shared.min(streams - number * shared) {
            let mut body = ask(scene, &send).await?;
            let (tally, mut last) = (scene.tally.clone(), Phase::Unknown);
            ensure!(look(&mut body, &tally, &mut last).await, "a stream ended at once");
            open.push(tokio::spawn(watch(body, tally, last)));
        }
        Ok::<_, anyhow::Error>(open)
    };
    let open: Vec<_> =
        stream::iter(0..connections).map(one).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(open.into_iter().flatten().collect())
}

/// A connection.
pub(super) async fn connect(scene: &Scene, number: usize) -> Result<SendRequest<Bytes>> {
    let address = scene.url.trim_start_matches("http://").parse()?;
    let stream = source::connect(address, number).await?;
    let (send, connection) = h2::client::Builder::new()
        .initial_connection_window_size(WINDOW_BYTES)
        .enable_push(false)
        .handshake(stream)
        .await?;
    tokio::spawn(connection);
    Ok(send)
}

/// Asks to watch; a refusal is an error.
pub(super) async fn ask(scene: &Scene, send: &SendRequest<Bytes>) -> Result<RecvStream> {
    let mut send = send.clone().ready().await?;
    let request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(format!("{}{PATH}", scene.url))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {}", scene.token))
        .body(())?;
    let (answered, mut body) = send.send_request(request, false)?;
    body.send_data(framed(&WatchSaleRequest { sale: scene.sale() })?, true)?;
    let (head, body) = answered.await?.into_parts();
    accepted(&head.headers)?;
    Ok(body)
}

async fn watch(mut body: RecvStream, tally: Arc<Tally>, mut last: Phase) {
    while look(&mut body, &tally, &mut last).await {}
    tally.end();
}

/// Reads what comes next; whether there may come more.
async fn look(body: &mut RecvStream, tally: &Tally, last: &mut Phase) -> bool {
    let Some(Ok(data)) = body.data().await else { return false };
    tally.saw(last, phase_of(&data));
    body.flow_control().release_capacity(data.len()).is_ok()
}

/// The phase in a frame, which comes as one piece.
fn phase_of(frame: &[u8]) -> Phase {
    let name = frame.get(HEAD_BYTES + 1).copied().map_or(0, usize::from);
    match frame.get(HEAD_BYTES + 2 + name..).unwrap_or_default() {
        [PHASE_TAG, 2, ..] => Phase::Open,
        [PHASE_TAG, 3, ..] => Phase::Paused,
        _ => Phase::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::wire::storefront::{SaleState, sale_state};

    #[test]
    fn phases_are_read_off_frames() {
        for (phase, read) in [
            (sale_state::Phase::Open, Phase::Open),
            (sale_state::Phase::Paused, Phase::Paused),
            (sale_state::Phase::Ended, Phase::Other),
        ] {
            let sale = "orgs/bench/sales/swatched".to_owned();
            let state = SaleState { sale, phase: phase.into(), free: 9, ..SaleState::default() };
            assert_eq!(phase_of(&framed(&state).unwrap()), read);
        }
    }
}
