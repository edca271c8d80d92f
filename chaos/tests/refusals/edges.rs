//! The edges: messages that are none, headers and deadlines without measure, and who asks too often.

use anyhow::{Context, ensure};
use proto::fault::{Fault, Reason};
use proto::wire::admin::GetSaleRequest;
use proto::wire::fleet::ProbeRequest;
use proto::wire::storefront::{JoinRequest, ReserveRequest};
use tonic::Code;

use crate::row::{Expected, Outcome, Row, field, refused, row, says};
use crate::shop::{fresh_id, word};
use crate::stage::{Stage, lasting};
use crate::wire;

const JOIN: &str = "floodgate.storefront.v1.StorefrontService/Join";
const RESERVE: &str = "floodgate.storefront.v1.StorefrontService/Reserve";
const PROBE: &str = "floodgate.fleet.v1.ProbeService/Probe";
const GET_SALE: &str = "floodgate.admin.v1.SaleService/GetSale";
/// A method of every service that a caller reaches, and the server where it is.
const DOORS: [(&str, &str); 3] = [("router", JOIN), ("router", PROBE), ("control-plane", GET_SALE)];

fn too_large() -> Expected {
    refused(Code::InvalidArgument, Reason::MessageTooLarge)
}

fn undecodable() -> Expected {
    refused(Code::InvalidArgument, Reason::MessageUndecodable)
}

/// The same bytes to every door.
fn at_every_door(what: &str, expected: Expected, body: &[u8]) -> Vec<Row> {
    let at = |(server, method): &(&'static str, &'static str)| {
        let (server, method, body) = (*server, *method, body.to_vec());
        let name = method.rsplit('/').next().unwrap_or_default();
        row(format!("{name}: {what}"), expected.clone(), async move |s: &Stage| {
            send(s, server, method, &[], body.clone()).await
        })
    };
    DOORS.iter().map(at).collect()
}

async fn send(
    s: &Stage,
    server: &str,
    method: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Outcome {
    let token = format!("Bearer {}", s.buyer_token(&s.acme));
    let headers: Vec<_> =
        [("authorization", token.as_str())].iter().chain(headers).copied().collect();
    wire::call(&s.url(server)?, method, &headers, body).await
}

/// Messages and headers.
pub(crate) fn rows() -> Vec<Row> {
    let unspoken = |says| Expected::Bare { code: Code::Unknown, says };
    let large = wire::frame(&JoinRequest { sale: "s".repeat(20_000) });
    let claims_much = [&[0], &u32::MAX.to_be_bytes()[..], b"little"].concat();
    let compressed = [&[1], &6_u32.to_be_bytes()[..], b"little"].concat();
    let odd_flag = [&[9], &6_u32.to_be_bytes()[..], b"little"].concat();
    let cut_short = [&[0], &100_u32.to_be_bytes()[..], b"little"].concat();
    let mut rows = at_every_door("20 kB", too_large(), &large);
    rows.extend(at_every_door("claims 4 GB", too_large(), &claims_much));
    rows.extend(at_every_door(
        "bytes that are no message",
        undecodable(),
        &wire::framed(b"\xff\xff"),
    ));
    rows.extend(at_every_door(
        "a text that is not UTF-8",
        undecodable(),
        &wire::framed(b"\x0a\x01\xff"),
    ));
    rows.extend(at_every_door("a flag that does not exist", undecodable(), &odd_flag));
    rows.extend(at_every_door("compressed, it does not say how", undecodable(), &compressed));
    rows.extend(at_every_door("no message at all", undecodable(), &[]));
    rows.extend(at_every_door("cut short", undecodable(), &cut_short));
    rows.extend([
        row("Join: 9 kB of headers", unspoken("HTTP 431"), async |s: &Stage| {
            headers(s, "router", JOIN, 9 * 1024).await
        }),
        row("GetSale: 9 kB of headers", unspoken("HTTP 431"), async |s: &Stage| {
            headers(s, "control-plane", GET_SALE, 9 * 1024).await
        }),
        row("Join: 7 kB of headers", says("OK"), async |s: &Stage| {
            headers(s, "router", JOIN, 7 * 1024).await
        }),
        row(
            "a method that does not exist",
            Expected::Bare { code: Code::Unimplemented, says: "" },
            async |s: &Stage| {
                send(s, "router", "floodgate.storefront.v1.StorefrontService/Steal", &[], vec![])
                    .await
            },
        ),
        row("Probe: more than 1 KiB", field("payload"), async |s: &Stage| {
            let request = ProbeRequest { payload: vec![7; 1_025].into(), ..Default::default() };
            word(s.probes().probe(request).await)
        }),
    ]);
    rows
}

async fn headers(s: &Stage, server: &str, method: &str, bytes: usize) -> Outcome {
    let padding = "x".repeat(bytes);
    let body = match server {
        "router" => wire::frame(&JoinRequest { sale: s.open.clone() }),
        _ => wire::frame(&GetSaleRequest { name: s.open.clone() }),
    };
    send(s, server, method, &[("x-padding", &padding)], body).await
}

/// Deadlines.
pub(crate) fn deadline_rows() -> Vec<Row> {
    let late = || refused(Code::DeadlineExceeded, Reason::DeadlinePassed);
    vec![
        row("Join: within a microsecond", late(), async |s: &Stage| {
            let body = wire::frame(&JoinRequest { sale: s.open.clone() });
            send(s, "router", JOIN, &[("grpc-timeout", "1u")], body).await
        }),
        row("Reserve: within a microsecond; the same again holds", late(), async |s: &Stage| {
            let (token, id) = (s.buyer_token(&s.acme), fresh_id());
            let buyer = s.shop(&token)?;
            let ticket = buyer.admitted(&s.open).await?;
            let request = ReserveRequest {
                sale: s.open.clone(),
                ticket: ticket.clone(),
                quantity: 1,
                request_id: id.clone(),
            };
            let token = format!("Bearer {token}");
            let headers = [("authorization", token.as_str()), ("grpc-timeout", "1u")];
            let late =
                wire::call(&s.url("router")?, RESERVE, &headers, wire::frame(&request)).await?;
            let again = word(buyer.reserve(&s.open, &ticket, 1, &id).await)?;
            ensure!(again.as_ref().is_ok_and(|again| again == "HELD"), "the same again: {again:?}");
            Ok(late)
        }),
        // Whether a decision was written when the time ran out, the control plane does not know: it gives no reason.
        row(
            "GetSale: within a nanosecond",
            Expected::Bare { code: Code::DeadlineExceeded, says: "time" },
            async |s: &Stage| {
                let token = s.token(&s.acme, "merchant", proto::token::Role::Merchant);
                let token = format!("Bearer {token}");
                let headers = [("authorization", token.as_str()), ("grpc-timeout", "1n")];
                let body = wire::frame(&GetSaleRequest { name: s.open.clone() });
                wire::call(&s.url("control-plane")?, GET_SALE, &headers, body).await
            },
        ),
    ]
}

/// Who asks too often, at routers that allow little.
pub(crate) fn rate_rows() -> Vec<Row> {
    let exhausted = |reason| refused(Code::ResourceExhausted, reason);
    vec![
        row("GetSaleState: a buyer asks too often", exhausted(Reason::BuyerRate), async |s| {
            let flags = ["--buyer-calls-per-s", "1", "--buyer-calls-burst", "2"];
            s.another_router("router-buyers", &flags).await?;
            let buyer = s.buyer_at("router-buyers")?;
            for _ in 0..2 {
                buyer.state(&s.open).await.context("below the limit")?;
            }
            let refused = word(buyer.state(&s.open).await)?;
            // Nobody else is concerned.
            s.buyer_at("router-buyers")?.state(&s.open).await.context("somebody else")?;
            Ok(refused)
        }),
        row(
            "Join: a sale is asked for too often",
            exhausted(Reason::SaleRate),
            async |s: &Stage| {
                s.another_router("router-sales", &["--sale-calls-per-s", "1"]).await?;
                s.buyer_at("router-sales")?.join(&s.open).await.context("below the limit")?;
                let refused = word(s.buyer_at("router-sales")?.join(&s.open).await)?;
                let other = s.sale(|sale| sale.hold_ttl = lasting(60_000)).await?;
                let answer = s.buyer_at("router-sales")?.join(&other).await;
                let fault = answer.as_ref().err().and_then(Fault::of_status);
                // Another sale has a share of its own, once this router knows it.
                ensure!(fault.is_none_or(|fault| fault.reason != Reason::SaleRate), "{answer:?}");
                Ok(refused)
            },
        ),
    ]
}
