//! Holds: when a sale does not sell, what a buyer may not have, and what a repeated request gives.

use anyhow::{Context, bail};
use proto::fault::{Fault, Reason};
use proto::wire::admin::sale::{Class, State};
use proto::wire::admin::{CancelSaleRequest, PauseSaleRequest, Sale};
use proto::wire::storefront::Order;
use tokio::time::{Instant, sleep};
use tonic::{Code, Response, Status};

use crate::row::{Expected, Outcome, Row, field, refused, row, says};
use crate::shop::{CARD, POLL, SOON, Shop, fresh_id, sale_until, word};
use crate::stage::{SMALL, Stage, in_ms, stock};

fn closed(reason: Reason) -> Expected {
    refused(Code::FailedPrecondition, reason)
}

/// When a sale does not sell.
pub(crate) fn closed_rows() -> Vec<Row> {
    use Reason::{NoUnitNow, SaleCancelled, SaleEnded, SaleNotOpen, SalePaused, SoldOut};
    vec![
        row("Join: hours before the sale", closed(SaleNotOpen), async |s: &Stage| {
            let sale = s.scheduled(&s.acme, stock_at(7_200_000)).await?;
            let buyer = s.buyer();
            known(&buyer, &sale).await?;
            word(buyer.join(&sale).await)
        }),
        row("Reserve: in the line of a sale that is not open", closed(SaleNotOpen), early),
        row("Reserve: STANDARD, not open", closed(SaleNotOpen), async |s: &Stage| {
            let sale = Sale { class: Class::Standard.into(), ..stock_at(60_000) };
            let sale = s.sale_of(&s.acme, sale).await?;
            let buyer = s.buyer();
            let ticket = buyer.join(&sale).await.context("Join")?.into_inner().ticket;
            word(buyer.reserve(&sale, &ticket, 1, &fresh_id()).await)
        }),
        row("Reserve: paused, with an admitted ticket", closed(SalePaused), async |s: &Stage| {
            let (buyer, sale, ticket) = paused(s).await?;
            word(buyer.reserve(&sale, &ticket, 1, &fresh_id()).await)
        }),
        row("Checkout: paused, of a hold from before", says("PAID"), async |s: &Stage| {
            let sale = s.sale(|_| {}).await?;
            let buyer = s.buyer();
            let order = buyer.holds(&sale, 1).await?;
            pause(s, &sale).await?;
            word(buyer.checkout(&order, CARD).await)
        }),
        row("Join: over, a hold still lives", closed(SaleEnded), async |s: &Stage| {
            let ended = ended(s).await?;
            word(ended.buyer.join(&ended.sale).await)
        }),
        row("Reserve: over, with an admitted ticket", closed(SaleEnded), async |s: &Stage| {
            let Ended { sale, buyer, ticket, .. } = ended(s).await?;
            word(buyer.reserve(&sale, &ticket, 1, &fresh_id()).await)
        }),
        row("Checkout: over, of a hold from before", says("PAID"), async |s: &Stage| {
            let ended = ended(s).await?;
            word(ended.holder.checkout(&ended.order, CARD).await)
        }),
        row("Join: called off", closed(SaleCancelled), called_off),
        row("Join: sold out", closed(SoldOut), async |s: &Stage| {
            let (sale, ..) = sold_out(s, Class::Flash).await?;
            word(s.buyer().join(&sale).await)
        }),
        row("Reserve: sold out, the ticket still waits", closed(SoldOut), async |s: &Stage| {
            let (sale, buyer, ticket) = sold_out(s, Class::Flash).await?;
            word(buyer.reserve(&sale, &ticket, 1, &fresh_id()).await)
        }),
        row("Reserve: sold out, the ticket is admitted", closed(SoldOut), async |s: &Stage| {
            let (sale, buyer, ticket) = sold_out(s, Class::Standard).await?;
            word(buyer.reserve(&sale, &ticket, 1, &fresh_id()).await)
        }),
        row("Reserve: nothing is free now", refused(Code::Unavailable, NoUnitNow), async |s| {
            let sale = s.sale(|sale| sale.stock = 2).await?;
            let (one, two) = (s.buyer(), s.buyer());
            let (first, second) = (one.admitted(&sale).await?, two.admitted(&sale).await?);
            one.reserve(&sale, &first, 2, &fresh_id()).await.context("Reserve")?;
            word(two.reserve(&sale, &second, 1, &fresh_id()).await)
        }),
    ]
}

/// What is free when who comes first wants more.
pub(crate) fn line_rows() -> Vec<Row> {
    vec![row("Reserve: one is free, who comes first wants two", says("HELD"), async |s: &Stage| {
        let sale = s.sale(|sale| sale.stock = 3).await?;
        let (one, two, three) = (s.buyer(), s.buyer(), s.buyer());
        one.holds(&sale, 2).await?;
        let second = two.admitted(&sale).await?;
        let refused = two.reserve(&sale, &second, 2, &fresh_id()).await.err();
        let reason = refused.and_then(|status| Fault::of_status(&status)).map(|f| f.reason);
        anyhow::ensure!(reason == Some(Reason::NoUnitNow), "of one unit, two: {reason:?}");
        // Long before the second's ticket is kept no longer, which stays good meanwhile.
        let third = three.admitted(&sale).await?;
        let answer = word(three.reserve(&sale, &third, 1, &fresh_id()).await)?;
        let stands = word(two.ticket(&sale, &second).await)?;
        anyhow::ensure!(stands.as_ref().is_ok_and(|state| state == "ADMITTED"), "{stands:?}");
        Ok(answer)
    })]
}

/// What becomes of a sale whose buckets have come to rest.
pub(crate) fn rested_rows() -> Vec<Row> {
    vec![
        row("Join: settled", closed(Reason::SaleEnded), async |s: &Stage| {
            let settled = settled(s).await?;
            word(s.buyer().join(&settled.sale).await)
        }),
        row("GetOrder: settled", says("PAID"), async |s: &Stage| {
            let settled = settled(s).await?;
            word(settled.buyer.order(&settled.order).await)
        }),
        row("Reserve: settled, the request again", says("the same order, PAID"), async |s| {
            let settled = settled(s).await?;
            let Settled { sale, buyer, ticket, id, order } = &settled;
            same(order, buyer.reserve(sale, ticket, 1, id).await)
        }),
        row("Checkout: settled, of a paid order", says("PAID"), async |s: &Stage| {
            let settled = settled(s).await?;
            word(settled.buyer.checkout(&settled.order, CARD).await)
        }),
        row("Join: called off and settled", closed(Reason::SaleEnded), async |s: &Stage| {
            let sale = s.sale(|_| {}).await?;
            cancel(s, &sale).await?;
            sale_until(&mut s.sales(), &sale, is_settled).await?;
            word(s.buyer().join(&sale).await)
        }),
    ]
}

/// What a buyer may not have, and repeats.
pub(crate) fn rows() -> Vec<Row> {
    use Reason::{OverCap, RequestIdReused};
    let reused = || refused(Code::InvalidArgument, RequestIdReused);
    vec![
        row("Reserve: 0 units", field("quantity"), async |s: &Stage| quantity(s, 0).await),
        row("Reserve: 4 billion units", field("quantity"), async |s: &Stage| {
            quantity(s, u32::MAX).await
        }),
        row("Reserve: one more than the cap", closed(OverCap), async |s: &Stage| {
            quantity(s, 3).await
        }),
        row("Reserve: beyond the cap with what is paid", closed(OverCap), async |s: &Stage| {
            let buyer = s.buyer();
            buyer.buys(&s.open, 1).await?;
            let ticket = buyer.admitted(&s.open).await?;
            word(buyer.reserve(&s.open, &ticket, 2, &fresh_id()).await)
        }),
        row("Join: with the cap paid", closed(OverCap), async |s: &Stage| {
            let buyer = s.buyer();
            buyer.buys(&s.open, 2).await?;
            word(buyer.join(&s.open).await)
        }),
        row("Reserve: a request_id that is no UUID", field("request_id"), async |s: &Stage| {
            let buyer = s.buyer();
            let ticket = buyer.admitted(&s.open).await?;
            word(buyer.reserve(&s.open, &ticket, 1, "1").await)
        }),
        row("Reserve: the same request again", says("the same order, HELD"), async |s: &Stage| {
            repeat(s, 2, |_, _| async { Ok(()) }).await
        }),
        row("Reserve: the same id, another quantity", reused(), async |s: &Stage| {
            repeat(s, 1, |_, _| async { Ok(()) }).await
        }),
        row("Reserve: again after CancelOrder", says("the same order, CANCELLED"), async |s| {
            repeat(s, 2, |buyer, order| async move {
                buyer.cancel(&order).await.context("CancelOrder").map(drop)
            })
            .await
        }),
        row("Reserve: again after it was paid", says("the same order, PAID"), async |s: &Stage| {
            repeat(s, 2, |buyer, order| async move {
                buyer.checkout(&order, CARD).await.context("Checkout").map(drop)
            })
            .await
        }),
        row("Reserve: cancelled, the same id, another quantity", reused(), async |s: &Stage| {
            repeat(s, 1, |buyer, order| async move {
                buyer.cancel(&order).await.context("CancelOrder").map(drop)
            })
            .await
        }),
        row(
            "Reserve: another request while one is live",
            says("the same order, HELD"),
            async |s| {
                let buyer = s.buyer();
                let ticket = buyer.admitted(&s.open).await?;
                let held =
                    buyer.reserve(&s.open, &ticket, 1, &fresh_id()).await.context("Reserve")?;
                same(&held.get_ref().name, buyer.reserve(&s.open, &ticket, 2, &fresh_id()).await)
            },
        ),
    ]
}

async fn quantity(s: &Stage, quantity: u32) -> Outcome {
    let buyer = s.buyer();
    let ticket = buyer.admitted(&s.open).await?;
    word(buyer.reserve(&s.open, &ticket, quantity, &fresh_id()).await)
}

/// Holds two units, lets something happen to the order, and sends the request again with this quantity.
async fn repeat<Happened>(
    s: &Stage,
    quantity: u32,
    happens: impl FnOnce(Shop, String) -> Happened,
) -> Outcome
where
    Happened: Future<Output = anyhow::Result<()>>,
{
    let (buyer, id) = (s.buyer(), fresh_id());
    let ticket = buyer.admitted(&s.open).await?;
    let held = buyer.reserve(&s.open, &ticket, 2, &id).await.context("Reserve")?.into_inner();
    happens(buyer.clone(), held.name.clone()).await?;
    same(&held.name, buyer.reserve(&s.open, &ticket, quantity, &id).await)
}

fn same(name: &str, answer: Result<Response<Order>, Status>) -> Outcome {
    if let Ok(answer) = &answer {
        anyhow::ensure!(answer.get_ref().name == name, "another order: {answer:?}");
    }
    Ok(word(answer)?.map(|word| format!("the same order, {word}")))
}

fn stock_at(start_in_ms: i64) -> Sale {
    let (start_time, end_time) = (in_ms(start_in_ms), in_ms(start_in_ms + 3_600_000));
    Sale { start_time, end_time, ..stock(100) }
}

/// Waits until the router knows a sale.
async fn known(buyer: &Shop, sale: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + SOON;
    while let Err(status) = buyer.state(sale).await {
        if Instant::now() > deadline {
            bail!("the router does not know {sale}: {status}");
        }
        sleep(POLL).await;
    }
    Ok(())
}

/// Waits until the page of a sale says so.
async fn page(buyer: &Shop, sale: &str, phase: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let now = word(buyer.state(sale).await)?;
        if now.as_ref().is_ok_and(|now| now == phase) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{sale} is {now:?}, not {phase}");
        }
        sleep(POLL).await;
    }
}

async fn early(s: &Stage) -> Outcome {
    let sale = s.sale_of(&s.acme, stock_at(60_000)).await?;
    let buyer = s.buyer();
    let ticket = buyer.join(&sale).await.context("Join")?.into_inner().ticket;
    word(buyer.reserve(&sale, &ticket, 1, &fresh_id()).await)
}

async fn pause(s: &Stage, sale: &str) -> anyhow::Result<()> {
    let request = PauseSaleRequest { name: sale.to_owned() };
    s.sales().pause_sale(request).await.context("PauseSale")?;
    page(&s.buyer(), sale, "PAUSED").await
}

/// Waits until the keeper of an admitted ticket takes no hold any more. More than the cap is never held, so that
/// asking for it changes nothing.
async fn shut(buyer: &Shop, sale: &str, ticket: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let answer = buyer.reserve(sale, ticket, 3, &fresh_id()).await;
        let fault = answer.err().and_then(|status| Fault::of_status(&status));
        if fault.as_ref().is_some_and(|fault| fault.reason != Reason::OverCap) {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "{sale} still sells: {fault:?}");
        sleep(POLL).await;
    }
}

async fn cancel(s: &Stage, sale: &str) -> anyhow::Result<()> {
    let request = CancelSaleRequest { name: sale.to_owned() };
    s.sales().cancel_sale(request).await.context("CancelSale")?;
    page(&s.buyer(), sale, "CANCELLED").await
}

async fn paused(s: &Stage) -> anyhow::Result<(Shop, String, String)> {
    let sale = s.sale(|_| {}).await?;
    let buyer = s.buyer();
    let ticket = buyer.admitted(&sale).await?;
    pause(s, &sale).await?;
    shut(&buyer, &sale, &ticket).await?;
    Ok((buyer, sale, ticket))
}

/// A sale that is over while a hold lives, so that its bucket is still kept.
struct Ended {
    sale: String,
    holder: Shop,
    order: String,
    buyer: Shop,
    ticket: String,
}

async fn ended(s: &Stage) -> anyhow::Result<Ended> {
    let sale = s
        .sale(|sale| {
            sale.stock = SMALL;
            sale.end_time = in_ms(6_000);
        })
        .await?;
    let (holder, buyer) = (s.buyer(), s.buyer());
    let order = holder.holds(&sale, 1).await?;
    let ticket = buyer.admitted(&sale).await?;
    page(&buyer, &sale, "ENDED").await?;
    shut(&buyer, &sale, &ticket).await?;
    Ok(Ended { sale, holder, order, buyer, ticket })
}

/// A sale whose buckets are at rest, and what was bought there.
struct Settled {
    sale: String,
    buyer: Shop,
    ticket: String,
    id: String,
    order: String,
}

async fn settled(s: &Stage) -> anyhow::Result<Settled> {
    let sale = s.sale(|sale| sale.end_time = in_ms(5_000)).await?;
    let (buyer, id) = (s.buyer(), fresh_id());
    let ticket = buyer.admitted(&sale).await?;
    let order = buyer.reserve(&sale, &ticket, 1, &id).await.context("Reserve")?.into_inner().name;
    buyer.checkout(&order, CARD).await.context("Checkout")?;
    sale_until(&mut s.sales(), &sale, is_settled).await?;
    Ok(Settled { sale, buyer, ticket, id, order })
}

fn is_settled(sale: &Sale) -> bool {
    sale.state() == State::Settled
}

async fn called_off(s: &Stage) -> Outcome {
    let sale = s.sale(|sale| sale.stock = SMALL).await?;
    let (holder, buyer) = (s.buyer(), s.buyer());
    let order = holder.holds(&sale, 1).await?;
    cancel(s, &sale).await?;
    let answer = word(buyer.join(&sale).await)?;
    // Holds of a sale that was called off are given back.
    holder.until(&order, "CANCELLED").await?;
    Ok(answer)
}

/// A sale of one unit that is sold, and a buyer who was in line before that.
async fn sold_out(s: &Stage, class: Class) -> anyhow::Result<(String, Shop, String)> {
    let sale = s
        .sale(|sale| {
            sale.class = class.into();
            (sale.stock, sale.cap) = (1, 1);
        })
        .await?;
    let (one, two) = (s.buyer(), s.buyer());
    let ticket = one.admitted(&sale).await?;
    let held = once_warm(async || one.reserve(&sale, &ticket, 1, &fresh_id()).await).await?;
    let late = two.join(&sale).await.context("Join")?.into_inner().ticket;
    one.checkout(&held.name, CARD).await.context("Checkout")?;
    let deadline = Instant::now() + SOON;
    while !two.state(&sale).await?.get_ref().sold_out {
        anyhow::ensure!(Instant::now() < deadline, "never sold out");
        sleep(POLL).await;
    }
    Ok((sale, two, late))
}

/// The answer of a keeper that knows that all cells are ready: everyday tickets are admitted before it may.
async fn once_warm(
    reserve: impl AsyncFn() -> Result<Response<Order>, Status>,
) -> anyhow::Result<Order> {
    let deadline = Instant::now() + SOON;
    loop {
        let answer = reserve().await.map(Response::into_inner);
        let fault = answer.as_ref().err().and_then(Fault::of_status);
        if fault.is_none_or(|fault| fault.reason != Reason::SaleNotWarm) {
            return answer.context("Reserve");
        }
        anyhow::ensure!(Instant::now() < deadline, "{answer:?}");
        sleep(POLL).await;
    }
}
