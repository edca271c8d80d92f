//! A purchase by gRPC-Web, made by hand: frames in the body of an HTTP/1.1 request, and the status in the last of them.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use prost::Message;
use proto::token::Role;
use proto::wire::storefront::{
    CheckoutRequest, GetTicketRequest, JoinRequest, Order, ReserveRequest, Ticket, order, ticket,
};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::books::Told;
use crate::shop::{ORG, Shop, fresh_id};

/// How the frames travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// As they are.
    Binary,
    /// As base64.
    Text,
}

/// A flag and a length.
const HEAD_BYTES: usize = 5;
/// The flag of the frame that has the trailers.
const TRAILERS: u8 = 0x80;

/// Stands in line, holds two units and pays for them.
pub(crate) async fn buys(shop: &Shop, id: &str, coding: Coding) -> anyhow::Result<Told> {
    let bearer = shop.bearer(&format!("{coding:?}"), Role::Buyer);
    let line = Line { url: &shop.router, bearer: &bearer, coding };
    let sale = format!("orgs/{ORG}/sales/{id}");
    let mut place: Ticket = line.call("Join", &JoinRequest { sale: sale.clone() }).await?;
    while place.state() == ticket::State::Waiting {
        let pause = place.ask_again.context("when to ask again")?;
        sleep(Duration::try_from(pause)?).await;
        let ticket = place.ticket.clone();
        place = line.call("GetTicket", &GetTicketRequest { sale: sale.clone(), ticket }).await?;
    }
    ensure!(place.state() == ticket::State::Admitted, "{place:?}");
    let (ticket, request_id) = (place.ticket, fresh_id());
    let reserve = ReserveRequest { sale: sale.clone(), ticket, quantity: 2, request_id };
    let held: Order = line.call("Reserve", &reserve).await?;
    ensure!(held.state() == order::State::Held && held.units.len() == 2, "{held:?}");
    let name = held.name.clone();
    let refused: anyhow::Result<Order> =
        line.call("Checkout", &CheckoutRequest { name, ..CheckoutRequest::default() }).await;
    let refused = refused.err().context("a checkout without a card")?.to_string();
    ensure!(refused.contains("grpc-status:3") && refused.contains("payment_method"), "{refused}");
    let payment_method = "pm_card_visa".to_owned();
    let checkout = CheckoutRequest { name: held.name, payment_method, sale: sale.clone() };
    let paid: Order = line.call("Checkout", &checkout).await?;
    ensure!(paid.state() == order::State::Paid && paid.units == held.units, "{paid:?}");
    let total = paid.total.context("a total")?;
    Ok(Told {
        org: ORG.to_owned(),
        sale,
        order: paid.name,
        units: paid.units,
        amount_minor: total.units * 100 + i64::from(total.nanos) / 10_000_000,
        currency: total.currency_code,
    })
}

struct Line<'a> {
    url: &'a str,
    bearer: &'a str,
    coding: Coding,
}

impl Line<'_> {
    async fn call<A: Message + Default>(
        &self,
        method: &str,
        message: &impl Message,
    ) -> anyhow::Result<A> {
        let message = message.encode_to_vec();
        let length = u32::try_from(message.len())?.to_be_bytes();
        let frame = [&[0], &length[..], &message].concat();
        let (kind, body) = match self.coding {
            Coding::Binary => ("application/grpc-web+proto", frame),
            Coding::Text => ("application/grpc-web-text", STANDARD.encode(frame).into_bytes()),
        };
        let path = format!("/floodgate.storefront.v1.StorefrontService/{method}");
        let request = http::Request::post(path)
            .header("host", "shop")
            .header("content-type", kind)
            .header("accept", kind)
            .header("x-grpc-web", "1")
            .header("authorization", self.bearer)
            .body(Full::new(Bytes::from(body)))?;
        let stream = TcpStream::connect(self.url.trim_start_matches("http://")).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await?;
        ensure!(answer.status() == http::StatusCode::OK, "{answer:?}");
        let refusal = answer.headers().clone();
        let body = answer.into_body().collect().await?.to_bytes();
        connection.abort();
        if let Some(status) = refusal.get("grpc-status") {
            let message = refusal.get("grpc-message").map(|text| text.to_str()).transpose()?;
            bail!("grpc-status:{} {}", status.to_str()?, message.unwrap_or_default());
        }
        let frames = match self.coding {
            Coding::Binary => body.to_vec(),
            Coding::Text => decoded(&body)?,
        };
        read(&frames)
    }
}

/// Base64 of frames, each of which may end with its own padding.
fn decoded(text: &[u8]) -> anyhow::Result<Vec<u8>> {
    let groups = text.chunks(4).map(|group| STANDARD.decode(group));
    Ok(groups.collect::<Result<Vec<_>, _>>()?.concat())
}

/// One message, and a good end.
fn read<A: Message + Default>(mut frames: &[u8]) -> anyhow::Result<A> {
    let mut message = None;
    loop {
        let (head, rest) = frames.split_first_chunk::<HEAD_BYTES>().context("a frame")?;
        let [flag, length @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes(length))?;
        let (content, rest) = rest.split_at_checked(length).context("a whole frame")?;
        if flag & TRAILERS != 0 {
            let trailers = std::str::from_utf8(content)?;
            ensure!(trailers.contains("grpc-status:0\r\n") && rest.is_empty(), "{trailers}");
            return message.context("no message before the end");
        }
        ensure!(message.is_none(), "two messages");
        message = Some(A::decode(content)?);
        frames = rest;
    }
}
