//! Tickets: whose they are, whether it is their turn, what they have served.

use anyhow::{Context, bail};
use proto::fault::Reason;
use proto::ticket::{Ticket, TicketKey};
use proto::wire::storefront::ticket::State;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::row::{Expected, Outcome, Row, refused, row, says};
use crate::shop::{POLL, SOON, Shop, fresh_id, word};
use crate::stage::{SMALL, Stage, lasting};

fn invalid() -> Expected {
    refused(Code::InvalidArgument, Reason::TicketInvalid)
}

fn not_yours() -> Expected {
    refused(Code::PermissionDenied, Reason::TicketNotYours)
}

/// Reserves with a ticket; GetTicket must say the same of it.
async fn try_ticket(buyer: &Shop, sale: &str, ticket: &str) -> Outcome {
    let shown = word(buyer.ticket(sale, ticket).await)?;
    let held = word(buyer.reserve(sale, ticket, 1, &fresh_id()).await)?;
    match (&shown, &held) {
        (Err(shown), Err(held)) if shown.details() == held.details() => {}
        _ => bail!("GetTicket said {shown:?}, Reserve {held:?}"),
    }
    Ok(held)
}

/// The rows.
pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("ticket: none", invalid(), async |s: &Stage| try_ticket(&s.buyer(), &s.open, "").await),
        row("ticket: nonsense", invalid(), async |s: &Stage| {
            try_ticket(&s.buyer(), &s.open, "a.b.c").await
        }),
        row("ticket: longer than any", invalid(), async |s: &Stage| {
            try_ticket(&s.buyer(), &s.open, &"t".repeat(600)).await
        }),
        row("ticket: forged under a key of one's own", invalid(), forged),
        row("ticket: a better place written into it", invalid(), altered),
        row("ticket: of another buyer", not_yours(), async |s: &Stage| {
            let theirs = s.buyer().admitted(&s.open).await?;
            try_ticket(&s.buyer(), &s.open, &theirs).await
        }),
        row("ticket: of another sale in the same cells", not_yours(), async |s: &Stage| {
            let (buyer, sale) = (s.buyer(), s.sale(|sale| sale.stock = 100).await?);
            let ticket = buyer.admitted(&sale).await?;
            try_ticket(&buyer, &s.open, &ticket).await
        }),
        row("ticket: of another sale in another cell", not_yours(), elsewhere),
        row("ticket: its turn has passed", passed(), turn_passed),
        row("ticket: spent, its order given back", spent(), async |s: &Stage| {
            let buyer = s.buyer();
            let ticket = buyer.admitted(&s.open).await?;
            let held = buyer.reserve(&s.open, &ticket, 1, &fresh_id()).await.context("Reserve")?;
            buyer.cancel(&held.get_ref().name).await.context("CancelOrder")?;
            word(buyer.reserve(&s.open, &ticket, 1, &fresh_id()).await)
        }),
        row("ticket: spent, its order paid", spent(), async |s: &Stage| {
            let buyer = s.buyer();
            let ticket = buyer.admitted(&s.open).await?;
            let held = buyer.reserve(&s.open, &ticket, 1, &fresh_id()).await.context("Reserve")?;
            let name = held.into_inner().name;
            buyer.checkout(&name, crate::shop::CARD).await.context("Checkout")?;
            word(buyer.reserve(&s.open, &ticket, 1, &fresh_id()).await)
        }),
        row("ticket: its turn has not come", not_admitted(), async |s: &Stage| {
            let sale = s.sale(|sale| sale.admission_rate = 1).await?;
            let (buyer, ticket) = waiting(s, &sale).await?;
            word(buyer.reserve(&sale, &ticket, 1, &fresh_id()).await)
        }),
        row("ticket: the slowest line moves all the same", says("ADMITTED"), async |s: &Stage| {
            let sale = s.sale(|sale| sale.admission_rate = 1).await?;
            s.buyer().admitted(&sale).await?;
            Ok(Ok("ADMITTED".to_owned()))
        }),
    ]
}

fn passed() -> Expected {
    refused(Code::FailedPrecondition, Reason::TicketExpired)
}

fn spent() -> Expected {
    refused(Code::FailedPrecondition, Reason::TicketSpent)
}

fn not_admitted() -> Expected {
    refused(Code::FailedPrecondition, Reason::NotAdmitted)
}

async fn forged(s: &Stage) -> Outcome {
    let buyer = s.buyer();
    let real = buyer.admitted(&s.open).await?;
    let header = real.split('.').next().context("a header")?;
    let ticket = Ticket {
        sale: s.open.rsplit('/').next().unwrap_or_default().into(),
        bucket: 0,
        buyer: proto::id::BuyerKey([0; 16]),
        window: 0,
        index: 0,
        weight: 1,
    };
    // The very header of a real one, so that a live key is looked for.
    let own = TicketKey::new("own", &[7; 32]).sign(&ticket);
    let (_, rest) = own.split_once('.').context("a ticket")?;
    try_ticket(&buyer, &s.open, &format!("{header}.{rest}")).await
}

async fn altered(s: &Stage) -> Outcome {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let buyer = s.buyer();
    let real = buyer.admitted(&s.open).await?;
    let parts: Vec<_> = real.split('.').collect();
    let mut claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1])?)?;
    claims["idx"] = (claims["idx"].as_u64().context("an index")? + 1).into();
    let claims = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims)?);
    try_ticket(&buyer, &s.open, &format!("{}.{claims}.{}", parts[0], parts[2])).await
}

/// Small sales lie in one cell each: among a few of them two lie apart.
async fn elsewhere(s: &Stage) -> Outcome {
    let buyer = s.buyer();
    let mut tickets: Vec<(String, String)> = Vec::new();
    for _ in 0..12 {
        let sale = s.sale(|sale| sale.stock = SMALL).await?;
        let ticket = buyer.admitted(&sale).await?;
        // Keys belong to cells, and a ticket's header names its key.
        let header = |ticket: &str| ticket.split('.').next().map(str::to_owned);
        if let Some((other, _)) = tickets.iter().find(|(_, one)| header(one) != header(&ticket)) {
            return try_ticket(&buyer, other, &ticket).await;
        }
        tickets.push((sale, ticket));
    }
    bail!("twelve small sales lie in the same cell")
}

async fn turn_passed(s: &Stage) -> Outcome {
    let sale = s.sale(|sale| sale.keeping_time = lasting(1_000)).await?;
    let buyer = s.buyer();
    let ticket = buyer.admitted(&sale).await?;
    let deadline = Instant::now() + SOON;
    loop {
        let now = buyer.ticket(&sale, &ticket).await.context("GetTicket")?;
        if now.get_ref().state() == State::Expired {
            return word(buyer.reserve(&sale, &ticket, 1, &fresh_id()).await);
        }
        if Instant::now() > deadline {
            bail!("its turn does not pass: {now:?}");
        }
        sleep(POLL).await;
    }
}

/// Lets buyers join until one has to wait.
async fn waiting(s: &Stage, sale: &str) -> anyhow::Result<(Shop, String)> {
    let mut last = None;
    for _ in 0..20 {
        let buyer = s.buyer();
        let ticket = buyer.join(sale).await.context("Join")?.into_inner();
        last = Some((buyer, ticket.ticket));
    }
    let (buyer, ticket) = last.context("nobody joined")?;
    let state = buyer.ticket(sale, &ticket).await.context("GetTicket")?.into_inner().state();
    anyhow::ensure!(state == State::Waiting, "the twentieth is {state:?}");
    Ok((buyer, ticket))
}
