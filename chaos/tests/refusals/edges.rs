//! The edges: messages that are none, headers and deadlines without measure, and who asks too often.

use anyhow::{Context, bail, ensure};
use floodgate_chaos::identity::Signer;
use futures_util::future::join_all;
use proto::fault::{Fault, Reason};
use proto::wire::admin::GetSaleRequest;
use proto::wire::fleet::{ProbeRequest, SetOrgQuotaRequest};
use proto::wire::storefront::{JoinRequest, ReserveRequest};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::row::{Expected, Outcome, Row, field, refused, row, says};
use crate::shop::{SOON, fresh_id, word};
use crate::stage::{Stage, Tenant, lasting};
use crate::wire;

const JOIN: &str = "floodgate.storefront.v1.StorefrontService/Join";
const RESERVE: &str = "floodgate.storefront.v1.StorefrontService/Reserve";
const PROBE: &str = "floodgate.fleet.v1.ProbeService/Probe";
const GET_SALE: &str = "floodgate.admin.v1.SaleService/GetSale";
/// A method of every service that a caller reaches, and the server where it is.
const DOORS: [(&str, &str); 3] = [("router", JOIN), ("router", PROBE), ("control-plane", GET_SALE)];

/// Calls that come at the same moment.
const CROWD: usize = 40;

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
        row("GetSaleState: an org asks too often", exhausted(Reason::OrgRate), org_rate),
        row("Join: an address asks too often", exhausted(Reason::AddressRate), address_rate),
    ]
}

/// An org that was given little.
async fn org_rate(s: &Stage) -> Outcome {
    let tenant =
        Tenant { id: "thrifty".into(), signer: Signer::of_org("thrifty", "k1", &[9; 32])? };
    s.register(&tenant).await?;
    let request = SetOrgQuotaRequest { name: "orgs/thrifty".into(), calls_per_s: 1 };
    s.orgs().set_org_quota(request).await.context("SetOrgQuota")?;
    let nothing = "orgs/thrifty/sales/s0000000000000000";
    let deadline = Instant::now() + SOON;
    loop {
        // Each time another buyer: it is not theirs that is used up.
        let refused = word(s.buyer_of(&tenant).state(nothing).await)?;
        let fault = refused.as_ref().err().and_then(Fault::of_status);
        if fault.is_none_or(|fault| fault.reason != Reason::NotFound) || Instant::now() > deadline {
            s.buyer().state(&s.open).await.context("another org")?;
            return Ok(refused);
        }
    }
}

/// A router that takes little from an address: before it looks at tokens, and behind a proxy from each of its clients.
async fn address_rate(s: &Stage) -> Outcome {
    let rate = ["--address-calls-per-s", "1"];
    s.another_router("router-addresses", &rate).await?;
    // Without a token, and with a header that anybody can send.
    let crowd = vec!["198.51.100.7".to_owned(); CROWD];
    let refused = at_once(s, "router-addresses", crowd).await?;
    ensure!(refused.len() > CROWD / 2, "only {} refused", refused.len());
    let proxied = [&rate[..], &["--proxies", "127.0.0.0/8"]].concat();
    s.another_router("router-proxied", &proxied).await?;
    let clients = (0..CROWD).map(|client| format!("192.0.2.1, 198.51.100.{client}")).collect();
    let among_many = at_once(s, "router-proxied", clients).await?;
    ensure!(among_many.is_empty(), "{among_many:?}");
    let one = vec!["192.0.2.1, 198.51.101.1".to_owned(); CROWD];
    ensure!(!at_once(s, "router-proxied", one).await?.is_empty(), "one client behind a proxy");
    Ok(Err(refused.into_iter().next().context("nobody was refused")?))
}

/// Calls without a token, all at the same time, that a proxy says it forwards for these: those that were refused because
/// of their address.
async fn at_once(s: &Stage, router: &str, clients: Vec<String>) -> anyhow::Result<Vec<Status>> {
    let url = s.url(router)?;
    let calls = clients.iter().map(async |client| {
        let body = wire::frame(&JoinRequest { sale: s.open.clone() });
        wire::call(&url, JOIN, &[("x-forwarded-for", client.as_str())], body).await
    });
    let mut refused = Vec::new();
    for answer in join_all(calls).await {
        let status = answer?.err().context("a call without a token was answered")?;
        match Fault::of_status(&status).map(|fault| fault.reason) {
            Some(Reason::AddressRate) => refused.push(status),
            Some(Reason::TokenMissing) => {}
            other => bail!("{other:?}"),
        }
    }
    Ok(refused)
}
