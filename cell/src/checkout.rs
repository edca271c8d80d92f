//! Checkout: an order's way from HELD to PAID, and every way off it.
//!
//! An attempt is opened at the provider, unconfirmed; its id is committed with PAYING before anything can be charged;
//! then it is charged; and PAID is committed before anybody is told. It ends only by the provider's final answer or a
//! confirmed cancel there. An outcome that is unknown is looked up for a minute, then left to people (REVIEW). An order
//! has one attempt at a time, and whoever asks meanwhile waits for its end. An attempt is carried on under the epoch in
//! which it began; what a new epoch finds PAYING or in REVIEW it looks up itself.

mod attempt;
mod outcome;

use crate::keeper::{Attempt, AttemptEnd, Keeper, Live};
use crate::link::Reply;
use crate::payment::Seat;
use proto::fault::{Fault, Reason};
use proto::id::OrderId;
use proto::limits::{ATTEMPTS_MAX, CHECKOUT_ANSWER_MS};
use proto::wire::cell::answer::Kind;
use proto::wire::storefront::order::State;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// When a buyer who found the pool full may ask again.
const BUSY_MS: u32 = 1_000;

/// Begins to pay a live order, or waits for the attempt that is under way.
pub(crate) fn begin(keeper: &Arc<Keeper>, order: OrderId, payment_method: String, reply: Reply) {
    let attempt = match join_or_open(keeper, order) {
        Ok(Begun::Joined(attempt)) => attempt,
        Ok(Begun::Opened { epoch, seat, tell, attempt }) => {
            let paying = attempt::pay(keeper.clone(), (order, epoch), payment_method, seat, tell);
            keeper.ports.drain.spawn_call("attempt", paying);
            attempt
        }
        Ok(Begun::Shown(shown)) => return reply.send(Kind::Order(shown)),
        Err(fault) => return reply.refuse(&fault),
    };
    let keeper = keeper.clone();
    let answer = answer(keeper.clone(), order, attempt, reply);
    keeper.ports.drain.spawn_call("checkout", answer);
}

/// Takes up what an earlier keeper left in PAYING or REVIEW: what became of it is looked up at the provider.
pub(crate) fn resume(keeper: &Arc<Keeper>) {
    let (paying, review, epoch) = {
        let book = keeper.book();
        (book.in_state(State::Paying), book.in_state(State::Review), book.epoch)
    };
    for order in paying {
        let (tell, attempt) = watch::channel(None);
        if let Some(live) = keeper.book().order_mut(order) {
            live.attempt = Some(attempt);
        }
        let resumed = attempt::resume(keeper.clone(), (order, epoch), tell);
        keeper.ports.drain.spawn_call("resume", resumed);
    }
    for order in review {
        keeper.ports.drain.spawn_call("review", attempt::review(keeper.clone(), (order, epoch)));
    }
}

enum Begun {
    Opened { epoch: i64, seat: Seat, tell: watch::Sender<Option<AttemptEnd>>, attempt: Attempt },
    Joined(Attempt),
    Shown(proto::wire::cell::Order),
}

fn join_or_open(keeper: &Keeper, order: OrderId) -> Result<Begun, Fault> {
    let now_us = keeper.now_us().unwrap_or(i64::MAX);
    let mut book = keeper.book();
    let epoch = book.epoch;
    let Some(live) = book.order_mut(order) else {
        return Err(Fault::later(Reason::BucketMoving, BUSY_MS));
    };
    if let Some(attempt) = &live.attempt {
        return Ok(Begun::Joined(attempt.clone()));
    }
    if live.state == State::Held {
        let (seat, tell, attempt) = open(keeper, live, now_us)?;
        live.attempt = Some(attempt.clone());
        return Ok(Begun::Opened { epoch, seat, tell, attempt });
    }
    let live = live.clone();
    Ok(Begun::Shown(book.show(order, &live, now_us)))
}

type Opened = (Seat, watch::Sender<Option<AttemptEnd>>, Attempt);

fn open(keeper: &Keeper, live: &Live, now_us: i64) -> Result<Opened, Fault> {
    // Overdue is overdue, swept or not.
    if live.deadline_us <= now_us {
        return Err(Reason::OrderExpired.into());
    }
    if live.attempts >= ATTEMPTS_MAX {
        return Err(Reason::TooManyAttempts.into());
    }
    let seat = keeper.ports.payments(keeper).seat();
    let seat = seat.ok_or_else(|| Fault::later(Reason::PaymentBusy, BUSY_MS))?;
    let (tell, attempt) = watch::channel(None);
    Ok((seat, tell, attempt))
}

/// Answers with the attempt's end, or with PAYING when that takes longer than a call may.
async fn answer(keeper: Arc<Keeper>, order: OrderId, mut attempt: Attempt, reply: Reply) {
    let left = reply.deadline().saturating_duration_since(Instant::now());
    let patience = left.mul_f64(0.9).min(Duration::from_millis(CHECKOUT_ANSWER_MS));
    let ended = tokio::time::timeout(patience, attempt.wait_for(Option::is_some)).await;
    let end = match ended {
        Ok(Ok(end)) => end.clone(),
        // The keeper went away in the middle: the reply says that the bucket is moving.
        Ok(Err(_)) => return,
        Err(_) => None,
    };
    match end {
        Some(Ok(order)) => reply.send(Kind::Order(order)),
        Some(Err(fault)) => reply.refuse(&fault),
        None => {
            let now_us = keeper.now_us().unwrap_or(0);
            let shown = {
                let book = keeper.book();
                book.order(order).map(|live| book.show(order, live, now_us))
            };
            match shown {
                // To its buyer an order that is being charged is PAYING, committed or about to be.
                Some(shown) => {
                    let state = State::Paying.into();
                    reply.send(Kind::Order(proto::wire::cell::Order { state, ..shown }));
                }
                None => reply.refuse(&Fault::later(Reason::BucketMoving, BUSY_MS)),
            }
        }
    }
}
