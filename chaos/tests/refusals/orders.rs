//! Orders: when they cannot be paid or given back, and what a card may do to them.

use std::time::Duration;

use anyhow::{Context, ensure};
use local::Faults;
use proto::fault::{Fault, Reason};
use proto::limits::ATTEMPTS_MAX;
use tonic::Code;

use crate::refunds;
use crate::row::{Expected, Outcome, Row, field, refused, row, says};
use crate::shop::{CARD, Shop, word};
use crate::stage::{SMALL, Stage, lasting};

/// A card that every provider declines, and one that none knows.
const DECLINED: &str = "pm_card_chargeDeclined";
const UNKNOWN: &str = "pm_nobody_knows";

fn conflict(reason: Reason) -> Expected {
    refused(Code::FailedPrecondition, reason)
}

/// The rows.
pub(crate) fn rows() -> Vec<Row> {
    use Reason::{OrderExpired, OrderStateConflict};
    vec![
        row("Checkout: the hold ran out", conflict(OrderExpired), async |s: &Stage| {
            let (buyer, order) = run_out(s).await?;
            word(buyer.checkout(&order, CARD).await)
        }),
        row("CancelOrder: the hold ran out", conflict(OrderExpired), async |s: &Stage| {
            let (buyer, order) = run_out(s).await?;
            word(buyer.cancel(&order).await)
        }),
        row("Checkout: paid already, charged once", says("PAID"), async |s: &Stage| {
            let buyer = s.buyer();
            let order = buyer.buys(&s.open, 2).await?;
            let again = word(buyer.checkout(&order, CARD).await)?;
            ensure!(s.captures(&order)? == 1, "charged {} times", s.captures(&order)?);
            Ok(again)
        }),
        row("CancelOrder: paid already", conflict(OrderStateConflict), async |s: &Stage| {
            let buyer = s.buyer();
            let order = buyer.buys(&s.open, 1).await?;
            word(buyer.cancel(&order).await)
        }),
        row("CancelOrder: given back already", says("CANCELLED"), async |s: &Stage| {
            let buyer = s.buyer();
            let order = buyer.holds(&s.open, 1).await?;
            buyer.cancel(&order).await.context("CancelOrder")?;
            word(buyer.cancel(&order).await)
        }),
        row("Checkout: given back already", conflict(OrderStateConflict), async |s: &Stage| {
            let buyer = s.buyer();
            let order = buyer.holds(&s.open, 1).await?;
            buyer.cancel(&order).await.context("CancelOrder")?;
            word(buyer.checkout(&order, CARD).await)
        }),
    ]
}

/// What becomes of an order that a card does not pay.
pub(crate) fn card_rows() -> Vec<Row> {
    use Reason::{CardDeclined, TooManyAttempts};
    vec![
        row("Checkout: the card is declined", conflict(CardDeclined), async |s: &Stage| {
            let buyer = s.buyer();
            let order = buyer.holds(&s.open, 1).await?;
            let declined = word(buyer.checkout(&order, DECLINED).await)?;
            ensure!(word(buyer.order(&order).await)?.is_ok_and(|state| state == "HELD"));
            ensure!(s.captures(&order)? == 0);
            Ok(declined)
        }),
        row("Checkout: declined, then with a good card", says("PAID"), async |s: &Stage| {
            let buyer = s.buyer();
            let order = buyer.holds(&s.open, 1).await?;
            declines(&buyer, &order, DECLINED).await?;
            word(buyer.checkout(&order, CARD).await)
        }),
        row("Checkout: a card nobody knows", conflict(CardDeclined), async |s: &Stage| {
            let buyer = s.buyer();
            let order = buyer.holds(&s.open, 1).await?;
            word(buyer.checkout(&order, UNKNOWN).await)
        }),
        row("Checkout: a card nobody knows, then a good one", says("PAID"), async |s: &Stage| {
            let buyer = s.buyer();
            let order = buyer.holds(&s.open, 1).await?;
            declines(&buyer, &order, UNKNOWN).await?;
            word(buyer.checkout(&order, CARD).await)
        }),
        row("Checkout: declined too often", conflict(TooManyAttempts), async |s: &Stage| {
            let buyer = s.buyer();
            let order = buyer.holds(&s.open, 1).await?;
            for _ in 0..ATTEMPTS_MAX {
                declines(&buyer, &order, DECLINED).await?;
            }
            word(buyer.checkout(&order, CARD).await)
        }),
        row("Checkout: no payment_method", field("payment_method"), async |s: &Stage| {
            let buyer = s.buyer();
            let order = buyer.holds(&s.open, 1).await?;
            word(buyer.checkout(&order, "").await)
        }),
        row("Checkout: a payment_method without end", field("payment_method"), async |s| {
            let buyer = s.buyer();
            let order = buyer.holds(&s.open, 1).await?;
            word(buyer.checkout(&order, &"p".repeat(129)).await)
        }),
    ]
}

/// What an unwell provider makes of orders. It is the only one, so these are tried one after another.
pub(crate) fn provider_rows() -> Vec<Row> {
    let busy = || refused(Code::Unavailable, Reason::PaymentBusy);
    vec![
        row("Checkout: the provider cannot even begin", busy(), async |s: &Stage| {
            let buyer = s.buyer();
            let order = buyer.holds(&s.open, 1).await?;
            let unwell = Faults { error_rate: 1.0, ..Faults::default() };
            let refused =
                while_provider(s, unwell, async || word(buyer.checkout(&order, CARD).await))
                    .await?;
            let paid = word(buyer.checkout(&order, CARD).await)?;
            ensure!(paid.as_ref().is_ok_and(|paid| paid == "PAID"), "afterwards: {paid:?}");
            ensure!(s.captures(&order)? == 1);
            Ok(refused)
        }),
        row(
            "RefundOrder: the provider refuses for good",
            refused(Code::FailedPrecondition, Reason::RefundRefused),
            async |s: &Stage| {
                let (buyer, subject) = refunds::buyer(s)?;
                let order = buyer.buys(&s.open, 1).await?;
                let desk = refunds::merchant(s)?;
                let disputed = Faults { refund_refuse_rate: 1.0, ..Faults::default() };
                let ask = async || word(desk.refund(&order, &subject).await);
                let refused = while_provider(s, disputed, ask).await?;
                let kept = word(buyer.order(&order).await)?;
                ensure!(kept.as_ref().is_ok_and(|kept| kept == "PAID"), "refused: {kept:?}");
                ensure!(s.captures(&order)? == 1);
                let again = ask().await?;
                ensure!(again.as_ref().is_ok_and(|again| again == "REFUNDED"), "{again:?}");
                Ok(refused)
            },
        ),
        row("Checkout: the provider is slower than the call may be", says("PAYING"), async |s| {
            let (_, slow) = slowly_paid(s, async |_, _| Ok(Ok(String::new()))).await?;
            Ok(slow)
        }),
        row(
            "CancelOrder: a payment is under way",
            conflict(Reason::OrderStateConflict),
            async |s: &Stage| {
                let cancelled = async |buyer: &Shop, order: &str| word(buyer.cancel(order).await);
                Ok(slowly_paid(s, cancelled).await?.0)
            },
        ),
        row("Checkout: again while one is under way, charged once", says("PAID"), async |s| {
            let again = async |buyer: &Shop, order: &str| word(buyer.checkout(order, CARD).await);
            Ok(slowly_paid(s, again).await?.0)
        }),
    ]
}

/// Does something while a payment of two seconds is under way: what that came to, and what the impatient payer heard.
/// In the end the order is paid, once.
async fn slowly_paid(
    s: &Stage,
    act: impl AsyncFn(&Shop, &str) -> Outcome,
) -> anyhow::Result<(Result<String, tonic::Status>, Result<String, tonic::Status>)> {
    let buyer = s.buyer();
    let order = buyer.holds(&s.open, 1).await?;
    let slow = Faults { latency_ms: 2_000, ..Faults::default() };
    let (first, acted) = while_provider(s, slow, async || {
        let patience = Duration::from_millis(700);
        let first = word(buyer.checkout_within(&order, CARD, patience).await)?;
        Ok((first, act(&buyer, &order).await?))
    })
    .await?;
    buyer.until(&order, "PAID").await?;
    ensure!(s.captures(&order)? == 1, "charged {} times", s.captures(&order)?);
    Ok((acted, first))
}

/// Does something while the provider has these faults.
async fn while_provider<T>(
    s: &Stage,
    faults: Faults,
    act: impl AsyncFnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    s.platform.stack().set_faults(&faults).await?;
    let acted = act().await;
    s.platform.stack().set_faults(&Faults::default()).await?;
    acted
}

/// Tries to pay with a card that will not do.
async fn declines(buyer: &Shop, order: &str, card: &str) -> anyhow::Result<()> {
    let status = buyer.checkout(order, card).await.err().context("a bad card paid")?;
    let fault = Fault::of_status(&status);
    ensure!(fault.is_some_and(|fault| fault.reason == Reason::CardDeclined), "{status:?}");
    Ok(())
}

/// A buyer whose hold ran out.
async fn run_out(s: &Stage) -> anyhow::Result<(Shop, String)> {
    let sale = s
        .sale(|sale| {
            sale.stock = SMALL;
            sale.hold_ttl = lasting(1_000);
        })
        .await?;
    let buyer = s.buyer();
    let order = buyer.holds(&sale, 1).await?;
    buyer.until(&order, "EXPIRED").await?;
    Ok((buyer, order))
}
