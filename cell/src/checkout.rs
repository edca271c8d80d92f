//! Checkout: an order's way from HELD to PAID, and every way off it.
//!
//! An attempt is opened at the provider, unconfirmed; its id is committed with PAYING before anything can be charged;
//! then it is charged; and PAID is committed before anybody is told. It ends only by the provider's final answer or a
//! confirmed cancel there. An outcome that is unknown is looked up for a minute, then left to people (REVIEW). An order
//! has one attempt at a time, and whoever asks meanwhile waits for its end. An attempt is carried on under the epoch in
//! which it began; what a new epoch finds PAYING or in REVIEW it looks up itself.
//!
//! A refusal that is final is a commit like any other answer: nobody is told ORDER_EXPIRED before EXPIRED is in the
//! ledger. The book alone may be that of a keeper who was deposed and does not know it, and its clock is an estimate.

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
            keeper.spawn_call("attempt", paying);
            attempt
        }
        Ok(Begun::Late { epoch, tell, attempt }) => {
            let expiring = attempt::expire(keeper.clone(), (order, epoch), tell);
            keeper.spawn_call("late", expiring);
            attempt
        }
        Ok(Begun::Shown(shown)) => return reply.send(Kind::Order(shown)),
        Err(fault) => return reply.refuse(&fault),
    };
    let keeper = keeper.clone();
    let answer = answer(keeper.clone(), order, attempt, reply);
    keeper.spawn_call("checkout", answer);
}

/// Takes up what an earlier keeper left in PAYING or REVIEW: what became of it is looked up at the provider.
pub(crate) fn resume(keeper: &Arc<Keeper>) {
    let (paying, review, epoch) = {
        let book = keeper.book();
        (book.in_state(State::Paying), book.in_state(State::Review), book.epoch)
    };
    for order in paying {
        let (tell, attempt) = watch::channel(None);
        keeper.book().begin_attempt(order, attempt);
        let resumed = attempt::resume(keeper.clone(), (order, epoch), tell);
        keeper.spawn_call("resume", resumed);
    }
    for order in review {
        keeper.spawn_call("review", attempt::review(keeper.clone(), (order, epoch)));
    }
}

type Tell = watch::Sender<Option<AttemptEnd>>;

enum Begun {
    Opened { epoch: i64, seat: Seat, tell: Tell, attempt: Attempt },
    Late { epoch: i64, tell: Tell, attempt: Attempt },
    Joined(Attempt),
    Shown(proto::wire::cell::Order),
}

/// What a Checkout of a live order leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Somebody is at it: wait for what comes of it.
    Join,
    /// Try to pay.
    Pay,
    /// Its time is over, as far as is known: end it, and tell what comes of that.
    Expire,
    /// It has been paid for as often as may be tried.
    Refuse,
    /// Its outcome is being looked for.
    Show,
}

fn next(live: &Live, now_us: i64) -> Next {
    match live.state {
        _ if live.attempt.is_some() => Next::Join,
        // Overdue is overdue, swept or not.
        State::Held if live.deadline_us <= now_us => Next::Expire,
        State::Held if live.attempts >= ATTEMPTS_MAX => Next::Refuse,
        State::Held => Next::Pay,
        _ => Next::Show,
    }
}

fn join_or_open(keeper: &Keeper, order: OrderId) -> Result<Begun, Fault> {
    let moving = || Fault::later(Reason::BucketMoving, BUSY_MS);
    let now_us = keeper.now_us().ok_or_else(moving)?;
    let mut book = keeper.book();
    let epoch = book.epoch;
    // A closed book is in doubt: it is about to be read anew.
    let is_open = book.open;
    let live = book.order(order).filter(|_| is_open).ok_or_else(moving)?;
    match next(live, now_us) {
        Next::Join => live.attempt.clone().map(Begun::Joined).ok_or_else(moving),
        Next::Refuse => Err(Reason::TooManyAttempts.into()),
        Next::Pay => {
            let seat = keeper.ports.payments(keeper).seat(keeper.place.bucket.org);
            let seat = seat.ok_or_else(|| Fault::later(Reason::PaymentBusy, BUSY_MS))?;
            let (tell, attempt) = watch::channel(None);
            book.begin_attempt(order, attempt.clone());
            Ok(Begun::Opened { epoch, seat, tell, attempt })
        }
        Next::Expire => {
            let (tell, attempt) = watch::channel(None);
            book.begin_attempt(order, attempt.clone());
            Ok(Begun::Late { epoch, tell, attempt })
        }
        Next::Show => Ok(Begun::Shown(book.show(order, live, now_us))),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proto::id::BuyerKey;

    fn live(state: State, attempts: u32, at_it: bool) -> Live {
        let attempt = at_it.then(|| watch::channel(None).1);
        Live {
            buyer: BuyerKey([1; 16]),
            units: vec![1],
            state,
            ticket: 0,
            deadline_us: 1_000,
            amount_minor: 1,
            attempts,
            intent: None,
            attempt,
        }
    }

    #[test]
    fn one_attempt_at_a_time_and_no_refusal_that_the_ledger_does_not_know_of() {
        let (in_time, late) = (999, 1_000);
        let rows = [
            // Somebody who is at it is waited for, in time or late, however often it was tried.
            (live(State::Held, 0, true), in_time, Next::Join),
            (live(State::Held, 0, true), late, Next::Join),
            (live(State::Held, ATTEMPTS_MAX, true), late, Next::Join),
            (live(State::Paying, 1, true), late, Next::Join),
            (live(State::Held, 0, false), in_time, Next::Pay),
            (live(State::Held, ATTEMPTS_MAX - 1, false), in_time, Next::Pay),
            (live(State::Held, ATTEMPTS_MAX, false), in_time, Next::Refuse),
            // The book may be wrong about a hold being over: the ledger is asked to end it.
            (live(State::Held, 0, false), late, Next::Expire),
            (live(State::Held, ATTEMPTS_MAX, false), late, Next::Expire),
            // Between a take-over and its look-ups, and with people.
            (live(State::Paying, 1, false), in_time, Next::Show),
            (live(State::Paying, 1, false), late, Next::Show),
            (live(State::Review, 1, false), late, Next::Show),
        ];
        for (live, now_us, wanted) in rows {
            assert_eq!(next(&live, now_us), wanted, "at {now_us}: {live:?}");
        }
    }
}
