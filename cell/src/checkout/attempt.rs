//! One attempt to pay, from its opening at the provider to its committed end. It goes on whatever becomes of the call
//! that began it, but not beyond the epoch in which it began.

use super::outcome::{Outcome, look_up};
use crate::failpoint::{self, Failpoint};
use crate::keeper::{AttemptEnd, Keeper};
use crate::ledger::Move;
use crate::payment::{Charge, ProviderError, Seat, Status};
use crate::seeded;
use proto::fault::{Fault, Reason};
use proto::id::OrderId;
use proto::limits::{UNKNOWN_ASK_AFTER_MS, UNKNOWN_ASK_FOR_MS};
use proto::wire::cell::Order;
use proto::wire::events::ledger_entry::Kind;
use proto::wire::storefront::order::State;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// When a buyer may try again whose payment could not even be opened.
const CLOSED_MS: u32 = 1_000;
/// How often an order in REVIEW is looked up.
const REVIEW_EVERY: Duration = Duration::from_secs(10);
/// The pause between two tries to commit the end of an attempt whose order's time is just running out.
const BRINK: Duration = Duration::from_millis(50);
const BRINK_TRIES_MAX: u32 = 40;

/// An order under the epoch in which work on it began.
type Of = (OrderId, i64);

/// What an attempt needs to know of its order.
#[derive(Clone, Debug)]
struct Bill {
    order: OrderId,
    epoch: i64,
    units: Vec<u32>,
    /// This attempt's number.
    attempt: u32,
    intent: Option<String>,
    amount_minor: i64,
    currency: String,
}

/// Pays a HELD order.
pub(super) async fn pay(
    keeper: Arc<Keeper>,
    of: Of,
    payment_method: String,
    seat: Seat,
    tell: watch::Sender<Option<AttemptEnd>>,
) {
    let end = try_to_pay(&keeper, of, &payment_method, &seat).await;
    finish(&keeper, of, end, &tell);
}

/// Finds out what became of an order that is PAYING.
pub(super) async fn resume(keeper: Arc<Keeper>, of: Of, tell: watch::Sender<Option<AttemptEnd>>) {
    let end = try_to_resume(&keeper, of).await;
    finish(&keeper, of, end, &tell);
}

/// Ends a hold whose time is over, as far as is known.
pub(super) async fn expire(keeper: Arc<Keeper>, of: Of, tell: watch::Sender<Option<AttemptEnd>>) {
    let end = match bill(&keeper, of, 0) {
        Some(bill) => try_to_expire(&keeper, &bill).await,
        None => None,
    };
    finish(&keeper, of, end, &tell);
}

/// Looks an order in REVIEW up until it is decided.
pub(super) async fn review(keeper: Arc<Keeper>, of: Of) {
    while let Some(bill) = bill(&keeper, of, 0) {
        let still_there =
            keeper.book().order(bill.order).is_some_and(|live| live.state == State::Review);
        let Some(intent) = bill.intent.clone().filter(|_| still_there) else { return };
        let (payments, org) = (keeper.ports.payments(&keeper), keeper.place.bucket.org);
        let Some(seat) = payments.wait_for_seat(org).await else { return };
        let outcome = look_up(&keeper, &seat, (bill.order, bill.attempt), &intent).await;
        drop(seat);
        let kind = match outcome {
            Outcome::Captured => Kind::Paid,
            Outcome::Declined | Outcome::Cancelled => Kind::Expired,
            Outcome::Unknown => Kind::Unspecified,
        };
        if kind != Kind::Unspecified
            && commit(&keeper, &bill, kind, Some(&intent)).await.is_some_and(|m| m.is_ok())
        {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(REVIEW_EVERY) => {}
            () = keeper.ports.end.cancelled() => return,
        }
    }
}

/// None: the epoch is over, or about to be; the next one takes the order up, and the same call finds out.
type End = Option<AttemptEnd>;

async fn try_to_resume(keeper: &Arc<Keeper>, of: Of) -> End {
    let seat = keeper.ports.payments(keeper).wait_for_seat(keeper.place.bucket.org).await?;
    let bill = bill(keeper, of, 0)?;
    let intent = bill.intent.clone()?;
    settle_unknown(keeper, bill, &intent, &seat).await
}

async fn try_to_pay(keeper: &Arc<Keeper>, of: Of, method: &str, seat: &Seat) -> End {
    let turn = seat.turn().await?;
    let bill = bill(keeper, of, 1)?;
    let order = bill.order;
    failpoint::reach(Failpoint::PaymentOpen).await;
    let intent = match failpoint::reply(Failpoint::PaymentOpened, open(keeper, &bill)).await {
        Ok(intent) => intent,
        Err(error) => {
            tracing::warn!(%order, %error, "cannot open a payment");
            return Some(Err(Fault::later(Reason::PaymentBusy, CLOSED_MS)));
        }
    };
    match commit(keeper, &bill, Kind::Paying, Some(&intent)).await? {
        Ok(()) => {}
        // Its time ran out while the payment was opened; or something else is true, which is not to be guessed.
        Err(_) => return try_to_expire(keeper, &bill).await,
    }
    failpoint::reach(Failpoint::PaymentPaying).await;
    let (provider, key) = (keeper.ports.provider(keeper), format!("{order}:{}", bill.attempt));
    let confirmed = provider.confirm(&key, &intent, method);
    let confirmed = failpoint::reply(Failpoint::PaymentConfirmed, confirmed).await;
    drop(turn);
    match confirmed {
        Ok(intent) if intent.status == Status::Succeeded => {
            settle(keeper, &bill, &intent.id, Outcome::Captured).await
        }
        Err(ProviderError::Declined) if seeded::planted!(DeclinedIsPaid) => {
            settle(keeper, &bill, &intent, Outcome::Captured).await
        }
        Err(ProviderError::Declined) => settle(keeper, &bill, &intent, Outcome::Declined).await,
        // No word on the money, so that is looked for. Where nothing was charged, it is the card that will not do.
        Err(ProviderError::Refused(why)) => {
            tracing::info!(%order, why, "the provider refuses a card");
            match settle_unknown(keeper, bill, &intent, seat).await {
                Some(Err(busy)) if busy.reason == Reason::PaymentBusy => {
                    Some(Err(Reason::CardDeclined.into()))
                }
                end => end,
            }
        }
        Ok(_) | Err(ProviderError::Unknown(_)) => {
            keeper.ports.metrics.unknown_outcome();
            tokio::time::sleep(Duration::from_millis(UNKNOWN_ASK_AFTER_MS)).await;
            settle_unknown(keeper, bill, &intent, seat).await
        }
    }
}

/// Opens the payment at the provider, or finds the one that was opened before.
async fn open(keeper: &Keeper, bill: &Bill) -> Result<String, ProviderError> {
    let order = bill.order;
    let provider = keeper.ports.provider(keeper);
    let metadata = [
        ("order", order.to_string()),
        ("org", keeper.place.org.to_string()),
        ("sale", keeper.place.sale.to_string()),
        ("bucket", keeper.place.number.to_string()),
    ];
    let charge =
        Charge { amount_minor: bill.amount_minor, currency: &bill.currency, metadata: &metadata };
    let made = match &bill.intent {
        Some(intent) => provider.retrieve(intent).await?,
        None => provider.create(&format!("{order}:create"), &charge).await?,
    };
    let now_s = keeper.now_us().unwrap_or(i64::MAX) / 1_000_000;
    if made.may_be_charged(now_s) {
        return Ok(made.id);
    }
    // The one before is of no use any more, nor is its key: that would find it again.
    let key = format!("{order}:create:{}:{now_s}", bill.attempt);
    Ok(provider.create(&key, &charge).await?.id)
}

/// Looks for the outcome of a payment for as long as the limit says, then leaves it to people.
async fn settle_unknown(keeper: &Arc<Keeper>, bill: Bill, intent: &str, seat: &Seat) -> End {
    let until = tokio::time::Instant::now() + Duration::from_millis(UNKNOWN_ASK_FOR_MS);
    while tokio::time::Instant::now() < until {
        // To look is to cancel what was not charged yet: that is for the epoch that is.
        if !keeper.is_under(bill.epoch) {
            return None;
        }
        match look_up(keeper, seat, (bill.order, bill.attempt), intent).await {
            Outcome::Unknown => tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(UNKNOWN_ASK_AFTER_MS)) => {}
                () = keeper.ports.end.cancelled() => return None,
            },
            outcome => {
                failpoint::reach(Failpoint::PaymentLooked).await;
                return settle(keeper, &bill, intent, outcome).await;
            }
        }
    }
    tracing::error!(order = %bill.order, intent, "a payment's outcome stays unknown; somebody must look");
    commit(keeper, &bill, Kind::Review, Some(intent)).await?.ok();
    keeper.spawn_call("review", review(keeper.clone(), (bill.order, bill.epoch)));
    Some(Ok(shown(&bill, State::Review)))
}

/// Commits what the provider decided.
async fn settle(keeper: &Keeper, bill: &Bill, intent: &str, outcome: Outcome) -> End {
    if outcome == Outcome::Captured {
        let paid = commit(keeper, bill, Kind::Paid, Some(intent)).await?;
        failpoint::reach(Failpoint::PaymentPaid).await;
        return match paid {
            Ok(()) => Some(Ok(shown(bill, State::Paid))),
            Err(_) => contradicted(keeper, bill).await,
        };
    }
    // Time left: HELD again. None left: EXPIRED. On the brink Postgres' clock may deny both for a moment.
    for _ in 0..BRINK_TRIES_MAX {
        if commit(keeper, bill, Kind::Declined, Some(intent)).await?.is_ok() {
            return Some(Err(match outcome {
                Outcome::Declined => Reason::CardDeclined.into(),
                // Nothing is wrong with the card: we cancelled what the provider had not charged.
                _ => Fault::later(Reason::PaymentBusy, CLOSED_MS),
            }));
        }
        if commit(keeper, bill, Kind::Expired, Some(intent)).await?.is_ok() {
            return Some(Err(Reason::OrderExpired.into()));
        }
        tokio::time::sleep(BRINK).await;
    }
    contradicted(keeper, bill).await
}

/// Ends a hold by its time, as the sweep would. Its buyer is told that it is over only when the ledger agrees.
async fn try_to_expire(keeper: &Keeper, bill: &Bill) -> End {
    // A clock in doubt takes no hold away; whoever wants to pay asks again.
    if keeper.look_at_clock().await.is_err() || !keeper.ports.time.is_sure() {
        return Some(Err(Fault::later(Reason::PaymentBusy, CLOSED_MS)));
    }
    for _ in 0..BRINK_TRIES_MAX {
        let step = Move::plain(bill.order, Kind::Expired, bill.units.clone());
        if keeper.ask_move(step, bill.epoch).await?.is_ok() {
            return Some(Err(Reason::OrderExpired.into()));
        }
        if keeper.book().order(bill.order).is_none() {
            break;
        }
        // Our estimate of Postgres' clock was a little ahead.
        tokio::time::sleep(BRINK).await;
    }
    contradicted(keeper, bill).await
}

/// Postgres denies what follows from the book. Either the order has ended in another way, which the ledger knows, or the
/// book is wrong and must be read anew.
async fn contradicted(keeper: &Keeper, bill: &Bill) -> End {
    if keeper.book().order(bill.order).is_none() {
        return keeper.ended(bill.order).await;
    }
    tracing::error!(order = %bill.order, "the ledger contradicts the book, which is read anew");
    keeper.doubt();
    None
}

async fn commit(
    keeper: &Keeper,
    bill: &Bill,
    kind: Kind,
    intent: Option<&str>,
) -> Option<Result<(), Fault>> {
    let frees = matches!(kind, Kind::Expired | Kind::Cancelled);
    let is_paid = kind == Kind::Paid;
    let step = Move {
        order: bill.order,
        kind,
        units: if frees { bill.units.clone() } else { Vec::new() },
        attempt: bill.attempt,
        intent: intent.map(Into::into),
        amount_minor: if is_paid { bill.amount_minor } else { 0 },
        currency: if is_paid { bill.currency.clone() } else { String::new() },
    };
    keeper.ask_move(step, bill.epoch).await
}

/// What there is to pay; `ahead` is 1 for a new attempt. None: the epoch is over, or the order is not live.
fn bill(keeper: &Keeper, (order, epoch): Of, ahead: u32) -> Option<Bill> {
    let book = keeper.book();
    let live = book.order(order).filter(|_| book.open && book.epoch == epoch)?;
    Some(Bill {
        order,
        epoch,
        units: live.units.clone(),
        attempt: live.attempts + ahead,
        intent: live.intent.clone(),
        amount_minor: live.amount_minor,
        currency: book.terms.record.currency.clone(),
    })
}

fn shown(bill: &Bill, state: State) -> Order {
    Order {
        order: bill.order.0.to_vec().into(),
        state: state.into(),
        units: bill.units.clone(),
        amount_minor: bill.amount_minor,
        currency: bill.currency.clone(),
        time_left_ms: 0,
    }
}

/// The attempt is over: others may begin, and whoever waits is told.
fn finish(keeper: &Keeper, (order, epoch): Of, end: End, tell: &watch::Sender<Option<AttemptEnd>>) {
    {
        let mut book = keeper.book();
        if book.epoch == epoch {
            book.end_attempt(order);
        }
    }
    if let Some(end) = end {
        tell.send_replace(Some(end));
    }
}
