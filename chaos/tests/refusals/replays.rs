//! Things that are good once, used by a thousand at the same time: one wins, whoever is how fast. Who finds no room on a
//! busy machine is told to come again, and nothing else can go wrong.

use std::collections::BTreeSet;
use std::fmt::Debug;

use anyhow::{Context, ensure};
use futures_util::{StreamExt, stream};
use proto::fault::Reason;
use proto::wire::storefront::order::State;
use proto::wire::storefront::{Order, Ticket};
use sqlx::{Connection, PgConnection};
use tonic::transport::Endpoint;
use tonic::{Response, Status};

use crate::attacks::reason;
use crate::shop::{CARD, Shop, fresh_id, line};
use crate::stage::Stage;

/// Calls at the same time, and connections that they come over.
const REPLAYS: usize = 1_000;
const CONNECTIONS: usize = 8;

/// Tries everything that is good once.
pub(crate) async fn all(s: &Stage) -> anyhow::Result<()> {
    ticket(s).await.context("a ticket")?;
    request_id(s).await.context("a request_id")?;
    join(s).await.context("a place in line")?;
    checkout(s).await.context("an order to pay")
}

/// A refusal says nothing of what was used: on a busy machine a thousand at once find no room, or no keeper.
fn is_for_now(reason: Option<Reason>) -> bool {
    matches!(reason, Some(Reason::Overloaded | Reason::BucketMoving))
}

/// What a thousand calls of one buyer come to that are made at the same time. The call is told its number.
async fn at_once<T>(
    s: &Stage,
    token: &str,
    call: impl AsyncFn(Shop, usize) -> Result<Response<T>, Status>,
) -> anyhow::Result<Vec<Result<T, Status>>> {
    let url = s.url("router")?;
    let shops: Vec<Shop> = (0..CONNECTIONS)
        .map(|_| Ok(Shop::new(line(&Endpoint::from_shared(url.clone())?.connect_lazy(), token)?)))
        .collect::<anyhow::Result<_>>()?;
    let calls = (0..REPLAYS).map(|number| call(shops[number % CONNECTIONS].clone(), number));
    let answers = stream::iter(calls).buffer_unordered(REPLAYS);
    Ok(answers.map(|answer| answer.map(Response::into_inner)).collect().await)
}

/// The one thing that all who were answered were told; the others were refused for now, or for one of these reasons.
fn one<T, K: Ord + Debug>(
    answers: Vec<Result<T, Status>>,
    reasons: &[Reason],
    what: impl Fn(&T) -> K,
) -> anyhow::Result<K> {
    let (mut told, mut answered) = (BTreeSet::new(), 0);
    for answer in answers {
        match answer {
            Ok(answer) => {
                told.insert(what(&answer));
                answered += 1;
            }
            Err(status) => {
                let why = reason(&status);
                let right = why.is_some_and(|why| reasons.contains(&why));
                ensure!(right || is_for_now(why), "{status:?}");
            }
        }
    }
    ensure!(told.len() == 1, "{answered} were told {told:?}");
    println!("{answered} of {REPLAYS} are told of the same");
    told.pop_first().context("nobody was answered")
}

/// Live orders of a sale and the units that they hold, over all cells.
async fn live(s: &Stage, sale: &str) -> anyhow::Result<(i64, i64)> {
    let mut sum = (0, 0);
    for number in 1..=3 {
        let url = s.platform.stack().postgres_admin_url(&format!("cell-{number}"))?;
        let mut postgres = PgConnection::connect(&url).await?;
        let query = r#"select count(*), coalesce(sum(o.quantity), 0)::bigint
                       from "order" o join sale s using (org, sale)
                       where s.id = $1 and o.state in (1, 2, 7)"#;
        let id = sale.rsplit('/').next().unwrap_or_default();
        let row: (i64, i64) = sqlx::query_as(query).bind(id).fetch_one(&mut postgres).await?;
        sum = (sum.0 + row.0, sum.1 + row.1);
    }
    Ok(sum)
}

/// A buyer's token, its shop, and a sale in which it is their turn.
async fn admitted(s: &Stage) -> anyhow::Result<(String, Shop, String, String)> {
    let sale = s.sale(|sale| sale.stock = 100).await?;
    let token = s.buyer_token(&s.acme);
    let buyer = s.shop(&token)?;
    let ticket = buyer.admitted(&sale).await?;
    Ok((token, buyer, sale, ticket))
}

/// One ticket, each time under a request of its own: one order.
async fn ticket(s: &Stage) -> anyhow::Result<()> {
    let (token, buyer, sale, ticket) = admitted(s).await?;
    let reserve = async |shop: Shop, _| shop.reserve(&sale, &ticket, 1, &fresh_id()).await;
    let order = one(at_once(s, &token, reserve).await?, &[], |order: &Order| order.name.clone())?;
    ensure!(live(s, &sale).await? == (1, 1), "{:?} live", live(s, &sale).await?);
    let other = s.buyer().reserve(&sale, &ticket, 1, &fresh_id()).await;
    ensure!(other.is_err_and(|status| reason(&status) == Some(Reason::TicketNotYours)), "stolen");
    // Given back, it has served its order: now all of a thousand are refused.
    buyer.cancel(&order).await.context("CancelOrder")?;
    for answer in at_once(s, &token, reserve).await? {
        let refused = answer.map_err(|status| reason(&status));
        let spent = refused == Err(Some(Reason::TicketSpent));
        ensure!(spent || refused.as_ref().is_err_and(|why| is_for_now(*why)), "{refused:?}");
    }
    ensure!(live(s, &sale).await? == (0, 0), "{:?} live", live(s, &sale).await?);
    Ok(())
}

/// One request, of which every second says that it is about two units: one of both is the order.
async fn request_id(s: &Stage) -> anyhow::Result<()> {
    let (token, _, sale, ticket) = admitted(s).await?;
    let id = fresh_id();
    let reserve = async |shop: Shop, number: usize| {
        let quantity = if number.is_multiple_of(2) { 1 } else { 2 };
        shop.reserve(&sale, &ticket, quantity, &id).await
    };
    let answers = at_once(s, &token, reserve).await?;
    let told = |order: &Order| (order.name.clone(), order.units.len());
    let (_, units) = one(answers, &[Reason::RequestIdReused], told)?;
    let expected = (1, i64::try_from(units)?);
    ensure!(live(s, &sale).await? == expected, "{:?} live", live(s, &sale).await?);
    Ok(())
}

/// One buyer joins: one place.
async fn join(s: &Stage) -> anyhow::Result<()> {
    let sale = s.sale(|sale| sale.stock = 100).await?;
    let token = s.buyer_token(&s.acme);
    let join = async |shop: Shop, _| shop.join(&sale).await;
    one(at_once(s, &token, join).await?, &[], |ticket: &Ticket| ticket.ticket.clone())?;
    Ok(())
}

/// One order is paid: one charge.
async fn checkout(s: &Stage) -> anyhow::Result<()> {
    let (token, buyer, sale, ticket) = admitted(s).await?;
    let held = buyer.reserve(&sale, &ticket, 1, &fresh_id()).await.context("Reserve")?;
    let order = held.into_inner().name;
    let pay = async |shop: Shop, _| shop.checkout(&order, CARD).await;
    for answer in at_once(s, &token, pay).await? {
        match answer {
            Ok(answer) => {
                ensure!(matches!(answer.state(), State::Paid | State::Paying), "{answer:?}")
            }
            Err(status) => ensure!(is_for_now(reason(&status)), "{status:?}"),
        }
    }
    buyer.until(&order, "PAID").await?;
    ensure!(s.captures(&order)? == 1, "{} captures", s.captures(&order)?);
    Ok(())
}
