//! What happens first to a call: it is checked against what is known, answered if that is enough, and else queued for
//! its stage. Nothing waits here; a full queue refuses at once.

use super::hold::{answer_with, same_request};
use super::{HoldAsked, JoinAsked, Keeper, LookupAsked, Need, Why};
use crate::checkout;
use crate::keeper::{Live, MoveAsked};
use crate::ledger::Move;
use crate::link::{Asked, Reply};
use crate::refund;
use proto::fault::{Fault, Reason};
use proto::id::{BuyerKey, OrderId};
use proto::ticket::{self, Ticket};
use proto::wire::cell::answer::Kind;
use proto::wire::events::ledger_entry::Kind as Event;
use proto::wire::storefront::order::State;
use std::sync::Arc;
use tokio::sync::mpsc;

/// When a caller who found a queue full may try again.
const FULL_MS: u32 = 250;

impl Keeper {
    /// Takes one call in.
    pub(crate) fn take(self: &Arc<Keeper>, buyer: BuyerKey, asked: Asked, reply: Reply) {
        self.ports.metrics.call(&asked);
        if reply.is_late() {
            return reply.refuse(&Reason::DeadlinePassed.into());
        }
        let need = match asked {
            Asked::Join => Some(Need::Rank),
            Asked::Reserve { .. } => Some(Need::Commit),
            Asked::Checkout { .. } | Asked::Cancel { .. } | Asked::Refund { .. } => {
                Some(Need::Bucket)
            }
            Asked::Show { .. } => None,
        };
        let fault = need.and_then(|need| self.waits.refusal(need));
        match (asked, fault) {
            (Asked::Reserve { ticket, quantity, request_id }, Some(fault)) => {
                let asked = (&*ticket, quantity, request_id);
                self.reserve_early(buyer, asked, reply, &fault);
            }
            (_, Some(fault)) => self.refuse_early(reply, &fault),
            (asked, None) => self.take_up(buyer, asked, reply),
        }
    }

    /// Refuses a call that would only wait.
    pub(crate) fn refuse_early(&self, reply: Reply, fault: &Fault) {
        self.ports.metrics.delays.refused(fault);
        reply.refuse(fault);
    }

    /// Answers a request that was repeated while its order is live: that needs no commit. Others are refused.
    fn reserve_early(
        &self,
        buyer: BuyerKey,
        (ticket, quantity, request_id): (&str, u32, [u8; 16]),
        reply: Reply,
        fault: &Fault,
    ) {
        if let Err(reason) = self.rank_of(buyer, ticket) {
            return reply.refuse(&reason.into());
        }
        let order = OrderId::derive(&self.place.sale, buyer, request_id);
        let now_us = self.now_us().unwrap_or(0);
        let book = self.book();
        let answer = match book.order(order).filter(|_| book.open) {
            Some(live) => same_request(live, quantity).map(|()| book.show(order, live, now_us)),
            None => {
                drop(book);
                return self.refuse_early(reply, fault);
            }
        };
        drop(book);
        answer_with(reply, answer);
    }

    fn take_up(self: &Arc<Keeper>, buyer: BuyerKey, asked: Asked, reply: Reply) {
        match asked {
            Asked::Join => self.join(buyer, reply),
            Asked::Reserve { ticket, quantity, request_id } => {
                self.reserve(buyer, &ticket, quantity, request_id, reply);
            }
            Asked::Checkout { order, payment_method } => match self.live(buyer, order) {
                Ok(_) => checkout::begin(self, order, payment_method, reply),
                Err(Missing::NotLive) => self.look(buyer, order, Why::Checkout, reply),
                Err(Missing::NotTheirs) => reply.refuse(&Reason::NotFound.into()),
            },
            Asked::Cancel { order } => match self.live(buyer, order) {
                Ok(live) => self.cancel(order, live, reply),
                Err(Missing::NotLive) => self.look(buyer, order, Why::Cancel, reply),
                Err(Missing::NotTheirs) => reply.refuse(&Reason::NotFound.into()),
            },
            Asked::Refund { order } => refund::begin(self, buyer, order, reply),
            Asked::Show { order } => match self.live(buyer, order) {
                Ok(live) => reply.send(Kind::Order(self.book().show(
                    order,
                    &live,
                    self.now_us().unwrap_or(0),
                ))),
                Err(Missing::NotLive) => self.look(buyer, order, Why::Show, reply),
                Err(Missing::NotTheirs) => reply.refuse(&Reason::NotFound.into()),
            },
        }
    }

    fn join(&self, buyer: BuyerKey, reply: Reply) {
        let Some(now_us) = self.now_us() else { return };
        let closed = self.book().terms.closed(now_us);
        // A line may form before the sale opens and while it is paused, not once it is over.
        match closed {
            Some(fault) if matches!(fault.reason, Reason::SaleEnded | Reason::SaleCancelled) => {
                reply.refuse(&fault);
            }
            _ => queue(&self.joins, JoinAsked { buyer, reply }, |asked| asked.reply),
        }
    }

    fn reserve(
        &self,
        buyer: BuyerKey,
        text: &str,
        quantity: u32,
        request_id: [u8; 16],
        reply: Reply,
    ) {
        let rank = match self.rank_of(buyer, text) {
            Ok(rank) => rank,
            Err(reason) => return reply.refuse(&reason.into()),
        };
        let order = OrderId::derive(&self.place.sale, buyer, request_id);
        queue(&self.holds, HoldAsked { buyer, order, rank, quantity, reply }, |asked| asked.reply);
    }

    /// The rank of a ticket that was given to this buyer here (INV-7).
    fn rank_of(&self, buyer: BuyerKey, text: &str) -> Result<u64, Reason> {
        let ticket: Ticket = ticket::verify(&self.ports.tickets.load(), text)?;
        let ours = *ticket.sale == *self.place.sale && ticket.bucket == self.place.number;
        if !ours || ticket.buyer != buyer {
            return Err(Reason::TicketNotYours);
        }
        Ok(ticket.rank(proto::rank::Rule::Fifo, 0))
    }

    fn cancel(self: &Arc<Keeper>, order: OrderId, live: Live, reply: Reply) {
        if live.state != State::Held || live.attempt.is_some() {
            return reply.refuse(&Reason::OrderStateConflict.into());
        }
        let now_us = self.now_us().unwrap_or(0);
        let (shown, epoch) = {
            let book = self.book();
            (book.show(order, &live, now_us), book.epoch)
        };
        let step = Move::plain(order, Event::Cancelled, live.units);
        let (asked, moved) = MoveAsked::new(step, epoch);
        if self.moves.try_send(asked).is_err() {
            return reply.refuse(&Fault::later(Reason::Overloaded, FULL_MS));
        }
        self.spawn_call("cancel", async move {
            match moved.await {
                Ok(Ok(_)) => {
                    let state = State::Cancelled.into();
                    let answer =
                        proto::wire::cell::Order { state, units: vec![], time_left_ms: 0, ..shown };
                    reply.send(Kind::Order(answer));
                }
                Ok(Err(fault)) => reply.refuse(&fault),
                // The keeper was deposed: the reply says that the bucket is moving.
                Err(_) => {}
            }
        });
    }

    /// Queues a look at the ledger.
    pub(super) fn look(&self, buyer: BuyerKey, order: OrderId, why: Why, reply: Reply) {
        if let Some(fault) = self.waits.refusal(Need::Look) {
            return self.refuse_early(reply, &fault);
        }
        queue(&self.lookups, LookupAsked { buyer, order, why, reply }, |asked| asked.reply);
    }

    /// Asks for a move under `epoch`, waiting for room. None: that epoch is over.
    pub(crate) async fn ask_move(&self, step: Move, epoch: i64) -> Option<Result<(), Fault>> {
        let (asked, moved) = MoveAsked::new(step, epoch);
        self.moves.send(asked).await.ok()?;
        moved.await.ok()
    }

    /// Hands over to the settle stage what must follow a commit, or the lack of one. False: the queue is full.
    pub(crate) fn undo(&self, asked: MoveAsked) -> bool {
        self.moves.try_send(asked).is_ok()
    }

    fn live(&self, buyer: BuyerKey, order: OrderId) -> Result<Live, Missing> {
        match self.book().order(order) {
            Some(live) if live.buyer == buyer => Ok(live.clone()),
            Some(_) => Err(Missing::NotTheirs),
            None => Err(Missing::NotLive),
        }
    }
}

enum Missing {
    NotLive,
    NotTheirs,
}

fn queue<T>(stage: &mpsc::Sender<T>, asked: T, reply: impl FnOnce(T) -> Reply) {
    match stage.try_send(asked) {
        Ok(()) => {}
        Err(mpsc::error::TrySendError::Full(asked)) => {
            reply(asked).refuse(&Fault::later(Reason::Overloaded, FULL_MS));
        }
        // Nobody works the queue off any more: the reply says that the bucket is moving.
        Err(mpsc::error::TrySendError::Closed(_)) => {}
    }
}
