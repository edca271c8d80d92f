//! Requests as files for h2load, and whether they are answered as they should be: h2load does not look at gRPC's status.

use super::REQUEST_BYTES;
use crate::sale::{Cell, ORG};
use anyhow::{Context, Result, ensure};
use local::Stack;
use prost::Message;
use proto::wire::fleet::ProbeRequest;
use proto::wire::fleet::probe_service_client::ProbeServiceClient;
use proto::wire::storefront::storefront_service_client::StorefrontServiceClient;
use proto::wire::storefront::{GetTicketRequest, JoinRequest, ticket};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::Code;
use tonic::transport::Endpoint;

/// A probe.
pub(super) fn probe(folder: &Path) -> Result<PathBuf> {
    let mut request =
        ProbeRequest { cell: String::new(), payload: vec![7; REQUEST_BYTES - 3].into() };
    while request.encoded_len() > REQUEST_BYTES {
        request.payload = request.payload.slice(1..);
    }
    write(folder, "probe.grpc", &request)
}

/// A poll of a buyer's ticket, which the buyer gets first, in a sale that is open.
pub(super) async fn poll(cell: &Cell, url: &str, sale: &str, token: &str) -> Result<PathBuf> {
    let sale = format!("orgs/{ORG}/sales/{sale}");
    let channel = Endpoint::from_shared(url.to_owned())?.connect().await?;
    let mut client = StorefrontServiceClient::new(channel);
    let joined = again(|| {
        let (mut client, request) =
            (client.clone(), with(token, JoinRequest { sale: sale.clone() }));
        async move { client.join(request?).await }
    });
    let ticket = joined.await.context("a buyer cannot join")?.into_inner().ticket;
    let request = GetTicketRequest { sale, ticket };
    let polled = client.get_ticket(with(token, request.clone())?).await?.into_inner();
    ensure!(polled.state() != ticket::State::Unspecified, "an odd answer to a poll: {polled:?}");
    write(cell.stack().folder(), "poll.grpc", &request)
}

/// Whether a probe comes back as it went.
pub(super) async fn check(url: &str, token: Option<&str>) -> Result<()> {
    let channel = Endpoint::from_shared(url.to_owned())?.connect().await?;
    let client = ProbeServiceClient::new(channel);
    let payload: prost::bytes::Bytes = vec![1; 9].into();
    let answered = again(|| {
        let mut client = client.clone();
        let probe = ProbeRequest { cell: String::new(), payload: payload.clone() };
        let request = match token {
            Some(token) => with(token, probe),
            None => Ok(tonic::Request::new(probe)),
        };
        async move { client.probe(request?).await }
    });
    let answer = answered.await.context("a probe was refused")?;
    ensure!(answer.into_inner().payload == payload, "a probe came back altered");
    Ok(())
}

/// How many calls a router has refused since it started.
pub(super) async fn refusals(stack: &Stack, router: &str) -> Result<u64> {
    let (_, text) = stack.ask_plane(router, "GET", "/metrics").await?;
    let counters = text.lines().filter(|line| line.starts_with("floodgate_router_refusals_total"));
    counters
        .map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<u64>())
        .sum::<Result<u64, _>>()
        .context("an odd counter of refusals")
}

/// Asks again while the router does not know its cells yet.
async fn again<T, Call>(call: impl Fn() -> Call) -> Result<T, tonic::Status>
where
    Call: Future<Output = Result<T, tonic::Status>>,
{
    const TRIES_MAX: usize = 100;
    for _ in 0..TRIES_MAX {
        match call().await {
            Err(status) if status.code() == Code::Unavailable => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            answer => return answer,
        }
    }
    call().await
}

fn with<M>(token: &str, message: M) -> Result<tonic::Request<M>, tonic::Status> {
    let mut request = tonic::Request::new(message);
    let value = format!("Bearer {token}").parse();
    let value = value.map_err(|_| tonic::Status::internal("a token cannot be sent"))?;
    request.metadata_mut().insert("authorization", value);
    Ok(request)
}

fn write(folder: &Path, name: &str, request: &impl Message) -> Result<PathBuf> {
    let mut frame = vec![0];
    frame.extend(u32::try_from(request.encoded_len())?.to_be_bytes());
    frame.extend(request.encode_to_vec());
    let path = folder.join(name);
    std::fs::write(&path, frame)?;
    Ok(path)
}
