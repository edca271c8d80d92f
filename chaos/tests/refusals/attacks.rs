//! Tokens and tickets under attack, on a whole platform: altered bit by bit, and used by a thousand at once. In the end no
//! log of any process holds a token, a ticket or a card.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use futures_util::{StreamExt, stream};
use proto::fault::{Fault, Reason};
use proto::token::Role;
use tonic::{Code, Status};

use crate::shop::{CARD, fresh_id};
use crate::stage::{Stage, stock};
use crate::{platform, replays};

/// Calls with an altered token or ticket that are under way at a time.
const AT_ONCE: usize = 32;
/// Every so manieth bit of a token goes through the router; all of them go through its code in the router's own tests.
const EVERY_BIT: usize = 5;
/// A card that nobody has, as a shop might send one by mistake.
const CANARY_CARD: &str = "4242424242424242-canary-card";

/// `text` with one bit flipped; none where that is no text.
fn flipped(text: &str, bit: usize) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    String::from_utf8(bytes).ok()
}

/// Why, by the closed list.
pub(crate) fn reason(status: &Status) -> Option<Reason> {
    Fault::of_status(status).map(|fault| fault.reason)
}

/// Bits of a token: none of its flips is anybody.
async fn flip_token(s: &Stage) -> anyhow::Result<usize> {
    let token = s.buyer_token(&s.acme);
    s.shop(&token)?.state(&s.open).await.context("the token as it is")?;
    let texts = (0..token.len() * 8).step_by(EVERY_BIT).filter_map(|bit| flipped(&token, bit));
    // What no header can hold does not arrive.
    let shops: Vec<_> = texts.filter_map(|text| s.shop(&text).ok()).collect();
    let tried = shops.len();
    let answers = stream::iter(&shops).map(|shop| shop.state(&s.open)).buffered(AT_ONCE);
    let answers: Vec<_> = answers.collect().await;
    for answer in answers {
        match answer {
            Err(status) if status.code() == Code::Unauthenticated => {}
            other => bail!("an altered token: {other:?}"),
        }
    }
    Ok(tried)
}

/// Bits of a ticket: every one of them, at GetTicket, and some at Reserve.
async fn flip_ticket(s: &Stage) -> anyhow::Result<usize> {
    let buyer = s.buyer();
    let ticket = buyer.admitted(&s.open).await?;
    let texts: Vec<_> = (0..ticket.len() * 8).filter_map(|bit| flipped(&ticket, bit)).collect();
    let shown = stream::iter(&texts).map(|text| buyer.ticket(&s.open, text)).buffered(AT_ONCE);
    let shown: Vec<_> = shown.map(|answer| answer.map(|_| ())).collect().await;
    let held = stream::iter(texts.iter().step_by(10))
        .map(async |text| buyer.reserve(&s.open, text, 1, &fresh_id()).await.map(|_| ()));
    let held: Vec<_> = held.buffered(AT_ONCE).collect().await;
    for answer in shown.iter().chain(&held) {
        match answer {
            Err(status) if reason(status) == Some(Reason::TicketInvalid) => {}
            other => bail!("an altered ticket: {other:?}"),
        }
    }
    buyer.reserve(&s.open, &ticket, 1, &fresh_id()).await.context("the ticket as it is")?;
    Ok(texts.len())
}

/// A purchase with everything that is secret in it, and what goes wrong with such things: their texts.
async fn secrets(s: &Stage) -> anyhow::Result<Vec<String>> {
    let sale = s.sale_of(&s.acme, stock(100)).await?;
    let token = s.token(&s.acme, "canary-buyer", Role::Buyer);
    let buyer = s.shop(&token)?;
    let ticket = buyer.admitted(&sale).await?;
    let held = buyer.reserve(&sale, &ticket, 1, &fresh_id()).await.context("Reserve")?;
    let name = held.into_inner().name;
    let declined = buyer.checkout(&name, CANARY_CARD).await;
    ensure!(declined.is_err(), "a card that nobody has: {declined:?}");
    let declined = buyer.checkout(&name, "pm_card_chargeDeclined").await;
    ensure!(declined.is_err(), "a card without money: {declined:?}");
    buyer.checkout(&name, CARD).await.context("Checkout")?;
    let spoilt = |text: &str| format!("{}x", &text[..text.len() - 1]);
    ensure!(s.shop(&spoilt(&token))?.state(&sale).await.is_err(), "a spoilt token");
    ensure!(buyer.ticket(&sale, &spoilt(&ticket)).await.is_err(), "a spoilt ticket");
    let merchant = s.token(&s.acme, "canary-merchant", Role::Merchant);
    s.shop(&merchant)?.refund(&name, "canary-buyer").await.context("RefundOrder")?;
    let operator = s.operator_token();
    s.orgs_with(&operator)?.list_orgs(proto::wire::fleet::ListOrgsRequest::default()).await?;
    let jws = [token, ticket, merchant, operator];
    // Claims and signatures of their own, too: half a token is half a secret.
    let parts = jws.iter().flat_map(|jws| jws.split('.').skip(1).map(str::to_owned));
    let cards = [CARD, CANARY_CARD, "pm_card_chargeDeclined", "canary-buyer"];
    Ok(parts.chain(cards.map(str::to_owned)).collect())
}

/// What of the secrets stands in a log, and how many logs there are.
fn spilled(logs: &Path, secrets: &[String]) -> anyhow::Result<(usize, Vec<String>)> {
    let (mut read, mut spilled) = (0, Vec::new());
    for entry in std::fs::read_dir(logs)? {
        let path = entry?.path();
        let bytes = std::fs::read(&path)?;
        let text = String::from_utf8_lossy(&bytes);
        read += usize::from(!text.is_empty());
        let has = |line: &&str| secrets.iter().any(|secret| line.contains(secret.as_str()));
        spilled.extend(text.lines().filter(has).map(|line| format!("{}: {line}", path.display())));
    }
    Ok((read, spilled))
}

/// A stage whose planes log whatever they ever would.
async fn talkative() -> anyhow::Result<Stage> {
    let all = ["router", "cell", "control_plane", "runtime", "proto"];
    let own = all.map(|plane| format!("floodgate_{plane}=trace")).join(",");
    let log = format!("debug,h2=info,{own}");
    let flags = ["--buyer-calls-per-s", "10000", "--buyer-calls-burst", "10000"];
    Stage::on(platform::start_with(3, 2, &flags, &[("FLOODGATE_LOG", &log)]).await?).await
}

#[tokio::test]
async fn altered_and_replayed_tokens_and_tickets_are_refused_and_nothing_is_logged() {
    let s = talkative().await.unwrap();
    let secrets = secrets(&s).await.unwrap();
    println!("{} altered tokens refused", flip_token(&s).await.unwrap());
    println!("{} altered tickets refused", flip_ticket(&s).await.unwrap());
    replays::all(&s).await.unwrap();
    let logs = s.platform.stack().folder().join("logs");
    let (read, found) = spilled(&logs, &secrets).unwrap();
    println!("{read} logs, {} secrets", secrets.len());
    assert!(read >= 8, "only {read} logs say anything");
    assert!(found.is_empty(), "{found:#?}");
    // What is looked for would be found.
    std::fs::write(logs.join("planted.log"), format!("x{}y", secrets[0])).unwrap();
    assert_eq!(spilled(&logs, &secrets).unwrap().1.len(), 1);
}
