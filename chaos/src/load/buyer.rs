//! A buyer: joins, waits for their turn, holds units, and does with them what the plan says.
//!
//! Whatever a buyer is refused for the moment, or does not know the outcome of, they ask again with the same request
//! id. A turn or a hold that has passed makes them join again, a few times.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::fault::{Fault, Reason};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep_until;

use super::caller::{Answer, Caller, Expired, later};
use super::{End, Shop};
use crate::id::{OrderId, RequestId};
use crate::plan::{BuyerPlan, Intention};
use crate::told::{Ask, OrderState, OrderTold};

/// A card that works, and one that does not, by the provider's names.
const GOOD_CARD: &str = "pm_card_visa";
const BAD_CARD: &str = "pm_card_chargeDeclined";

/// Times that a buyer joins.
const VISITS_MAX: u32 = 4;

/// Calls that one buyer makes at all.
const CALLS_MAX: u32 = 500;

/// Times that a buyer is told that so many units are not free before they settle for one.
const NO_UNIT_MAX: u32 = 3;

/// How long after an unknown outcome a buyer asks again.
const UNKNOWN_AGAIN_MS: std::ops::Range<u64> = 100..400;

/// How soon somebody hangs up who does.
const HANG_UP_MS: std::ops::Range<u64> = 20..120;

/// How long after PAYING a buyer asks what became of it.
const PAYING_AGAIN_MS: std::ops::Range<u64> = 300..700;

/// How long after paying a buyer looks at the order once more.
const LOOK_AGAIN_MS: std::ops::Range<u64> = 200..2_000;

/// Waits are stretched or shortened by at most this share, so that nobody asks in step.
const JITTER: f64 = 0.2;

/// One buyer.
#[derive(Debug)]
pub(super) struct Buyer {
    shop: Arc<Shop>,
    plan: BuyerPlan,
    caller: Caller,
    draws: StdRng,
    calls: u32,
    joined: bool,
    admitted: bool,
    held: bool,
}

/// How the next thing to do is found.
enum Next {
    /// The visit is over.
    End(End),
    /// The turn or the hold has passed.
    JoinAgain,
}

/// Who a wait is broken off for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// Until the page says that nothing is left.
    Shop,
    /// Until the run is over: something of theirs is under way.
    Run,
}

impl Buyer {
    /// The buyer in this place of the shop's plan; none when there is no such.
    pub(super) fn new(shop: Arc<Shop>, place: usize) -> Option<Buyer> {
        let plan = *shop.crowd.buyers.get(place)?;
        let card = if plan.bad_card { BAD_CARD } else { GOOD_CARD };
        let caller = Caller::new(&shop, place, card)?;
        let draws = StdRng::seed_from_u64(plan.draws);
        let (joined, admitted, held) = (false, false, false);
        Some(Buyer { shop, plan, caller, draws, calls: 0, joined, admitted, held })
    }

    /// From their planned arrival to their end.
    pub(super) async fn visit(mut self, due: Instant) {
        let shop = Arc::clone(&self.shop);
        let Some(live) = shop.shared.live.sale(shop.number) else { return };
        shop.shared.live.add_lateness(super::micros(due.elapsed()));
        live.count_arrived();
        let mut end = End::GaveUp;
        let mut intended = due;
        for _ in 0..VISITS_MAX {
            match self.try_to_buy(intended).await {
                Next::End(reached) => {
                    end = reached;
                    break;
                }
                Next::JoinAgain => intended = Instant::now(),
            }
        }
        live.count_end(end);
    }

    async fn try_to_buy(&mut self, intended: Instant) -> Next {
        let turn = self.wait_for_turn(intended).await;
        if let Err(next) = turn {
            return next;
        }
        let order = match self.reserve().await {
            Ok(order) => order,
            Err(next) => return next,
        };
        match self.plan.intention {
            // Whoever finds an order of theirs that is paid already is done, whatever they meant to do.
            _ if order.state == OrderState::Paid => Next::End(End::Paid),
            Intention::Abandon => Next::End(End::Abandoned),
            Intention::Cancel => self.cancel(order.order).await,
            Intention::Pay => self.pay(order.order).await,
        }
    }

    /// Joins and asks for the ticket's state until it is admitted.
    async fn wait_for_turn(&mut self, mut intended: Instant) -> Result<(), Next> {
        let mut ask = Ask::Join;
        loop {
            match self.settle(&ask, intended, Patience::Shop, false).await? {
                Answer::Ticket(_, Expired(true), _) => return Err(Next::JoinAgain),
                Answer::Ticket(ticket, _, again) => {
                    if !self.joined {
                        self.count(super::SaleLive::count_joined);
                    }
                    self.joined = true;
                    if ticket.admitted {
                        if !self.admitted {
                            self.count(super::SaleLive::count_admitted);
                        }
                        self.admitted = true;
                        return Ok(());
                    }
                    ask = Ask::GetTicket;
                    intended = self.wait(again, Patience::Shop).await?;
                }
                Answer::Refused(fault) => return Err(refused(&fault)),
                Answer::Order(_) | Answer::Unknown => return Err(Next::End(End::Refused)),
            }
        }
    }

    /// Holds units; some send it twice at the same moment. Whoever cannot have all that they want settles for one.
    async fn reserve(&mut self) -> Result<OrderTold, Next> {
        let mut quantity = self.plan.quantity;
        let mut twice = self.plan.twice;
        loop {
            let ask = Ask::Reserve { request: RequestId(self.draws.random()), quantity };
            let intended = Instant::now();
            if twice {
                self.shadow(&ask, intended);
            }
            match self.settle(&ask, intended, Patience::Shop, false).await? {
                Answer::Order(order) => {
                    self.note_held(&order);
                    return Ok(order);
                }
                Answer::Refused(fault) if fault.reason == Reason::NoUnitNow => {
                    (quantity, twice) = (1, false);
                    let pause = Duration::from_millis(fault.retry_after_ms.into());
                    self.wait(pause, Patience::Shop).await?;
                }
                Answer::Refused(fault) => return Err(refused(&fault)),
                Answer::Ticket(..) | Answer::Unknown => return Err(Next::End(End::Refused)),
            }
        }
    }

    fn note_held(&mut self, order: &OrderTold) {
        if !self.held {
            self.count(super::SaleLive::count_held);
        }
        self.held = true;
        let units = u64::try_from(order.units.len()).unwrap_or(0);
        let bucket = self.caller.bucket.unwrap_or(0);
        self.count(|live| live.count_units(bucket, units));
    }

    async fn cancel(&mut self, order: OrderId) -> Next {
        let ask = Ask::CancelOrder { order };
        match self.settle(&ask, Instant::now(), Patience::Run, false).await {
            Err(next) => next,
            Ok(Answer::Order(order)) if order.state == OrderState::Cancelled => {
                Next::End(End::Cancelled)
            }
            // It ran out in the meantime, or something else became of it.
            Ok(_) => Next::End(End::Abandoned),
        }
    }

    /// Pays, and asks until it is known what became of it.
    async fn pay(&mut self, order: OrderId) -> Next {
        let checkout = Ask::Checkout { order };
        let mut ask = checkout.clone();
        let mut intended = Instant::now();
        let mut hang_up = self.plan.hang_up;
        if self.plan.twice {
            self.shadow(&checkout, intended);
        }
        loop {
            let answer = match self.settle(&ask, intended, Patience::Run, hang_up).await {
                Ok(answer) => answer,
                Err(next) => return next,
            };
            hang_up = false;
            match answer {
                Answer::Order(told) => match told.state {
                    OrderState::Paid => return self.look_again(order).await,
                    OrderState::Expired => return Next::JoinAgain,
                    OrderState::Cancelled | OrderState::Refunded => return Next::End(End::Refused),
                    OrderState::Held => ask = checkout.clone(),
                    // Half of them ask for the order, half for the payment: both must lead to the end.
                    OrderState::Paying if self.draws.random() => ask = checkout.clone(),
                    OrderState::Paying | OrderState::Review => ask = Ask::GetOrder { order },
                },
                Answer::Refused(fault) => match fault.reason {
                    Reason::CardDeclined
                        if self.plan.second_card && self.caller.card != GOOD_CARD =>
                    {
                        self.caller.card = GOOD_CARD;
                        ask = checkout.clone();
                    }
                    Reason::CardDeclined | Reason::TooManyAttempts => {
                        return Next::End(End::Declined);
                    }
                    Reason::OrderExpired => return Next::JoinAgain,
                    Reason::OrderStateConflict if ask == checkout => ask = Ask::GetOrder { order },
                    _ => return refused(&fault),
                },
                Answer::Ticket(..) | Answer::Unknown => return Next::End(End::Refused),
            }
            let pause = Duration::from_millis(self.draws.random_range(PAYING_AGAIN_MS));
            intended = match self.wait(pause, Patience::Run).await {
                Ok(intended) => intended,
                Err(next) => return next,
            };
        }
    }

    /// Looks at a paid order once more, a little later: it must still be paid, whatever has died meanwhile.
    async fn look_again(&mut self, order: OrderId) -> Next {
        let pause = Duration::from_millis(self.draws.random_range(LOOK_AGAIN_MS));
        if let Ok(intended) = self.wait(pause, Patience::Run).await {
            // The told log keeps the answer; the judge compares it with the one before.
            self.settle(&Ask::GetOrder { order }, intended, Patience::Run, false).await.ok();
        }
        Next::End(End::Paid)
    }

    /// Asks until there is an answer or a refusal that stands. An answer is never [`Answer::Unknown`] then.
    async fn settle(
        &mut self,
        ask: &Ask,
        mut intended: Instant,
        patience: Patience,
        hang_up: bool,
    ) -> Result<Answer, Next> {
        let mut hang_up_after =
            hang_up.then(|| Duration::from_millis(self.draws.random_range(HANG_UP_MS)));
        let mut patience = patience;
        let (mut repeat, mut no_unit) = (false, 0);
        loop {
            self.calls += 1;
            if self.calls > CALLS_MAX {
                return Err(Next::End(End::GaveUp));
            }
            let answer = self.caller.ask(ask, intended, repeat, hang_up_after.take()).await;
            let pause = match &answer {
                Answer::Refused(fault) => match later(fault) {
                    Some(pause) => {
                        no_unit += u32::from(fault.reason == Reason::NoUnitNow);
                        let asks_for_more = matches!(ask, Ask::Reserve { quantity: 2.., .. });
                        if no_unit >= NO_UNIT_MAX && asks_for_more {
                            return Ok(answer);
                        }
                        pause
                    }
                    None => return Ok(answer),
                },
                Answer::Unknown => {
                    // It may have been done: whoever walks away now would leave units behind.
                    if matches!(ask, Ask::Reserve { .. }) {
                        patience = Patience::Run;
                    }
                    Duration::from_millis(self.draws.random_range(UNKNOWN_AGAIN_MS))
                }
                Answer::Ticket(..) | Answer::Order(_) => return Ok(answer),
            };
            intended = self.wait(pause, patience).await?;
            repeat = true;
        }
    }

    /// Sends the same call on the side and does not care for its answer.
    fn shadow(&mut self, ask: &Ask, intended: Instant) {
        let (mut caller, ask) = (self.caller.clone(), ask.clone());
        self.calls += 1;
        // It ends by its own deadline, and its answer is written down like any other.
        drop(tokio::spawn(async move { caller.ask(&ask, intended, true, None).await }));
    }

    /// Waits, give or take some; says when the wait was meant to end.
    async fn wait(&mut self, pause: Duration, patience: Patience) -> Result<Instant, Next> {
        let until =
            Instant::now() + pause.mul_f64(self.draws.random_range(1.0 - JITTER..1.0 + JITTER));
        let (left, end) = match patience {
            Patience::Shop => (&self.shop.closed, End::TooLate),
            Patience::Run => (&self.shop.shared.stop, End::GaveUp),
        };
        tokio::select! {
            () = sleep_until(until.into()) => Ok(until),
            () = left.cancelled() => {
                let stopped = self.shop.shared.stop.is_cancelled();
                Err(Next::End(if stopped { End::GaveUp } else { end }))
            }
        }
    }

    fn count(&self, count: impl FnOnce(&super::SaleLive)) {
        if let Some(live) = self.shop.shared.live.sale(self.shop.number) {
            count(live);
        }
    }
}

/// What a refusal that stands means for the visit.
fn refused(fault: &Fault) -> Next {
    match fault.reason {
        Reason::SoldOut | Reason::SaleEnded | Reason::SaleCancelled => Next::End(End::TooLate),
        Reason::TicketExpired | Reason::TicketSpent | Reason::OrderExpired => Next::JoinAgain,
        _ => Next::End(End::Refused),
    }
}
