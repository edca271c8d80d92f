//! A caller: one buyer's way to the platform. Whatever is asked and told is written down and measured here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::fault::{Fault, Reason, Retry};
use proto::wire::storefront::storefront_service_client::StorefrontServiceClient;
use proto::wire::storefront::{
    self as wire, CancelOrderRequest, CheckoutRequest, GetOrderRequest, GetTicketRequest,
    JoinRequest, ReserveRequest, ticket,
};
use serde::Deserialize;
use tokio::time::timeout;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::balancer::is_not_taken;
use super::{CallKind, Outcome, Sample, Shop, micros};
use crate::id::{BuyerKey, OrderId};
use crate::told::{Ask, OrderState, OrderTold, Said, TicketTold, Told};

/// How long a client waits for an answer.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// For a payment it waits longer: the provider may be slow, and the platform answers in time.
const CHECKOUT_LIMIT: Duration = Duration::from_secs(12);

/// An answer, as far as a buyer cares.
#[derive(Debug)]
pub(super) enum Answer {
    /// A place in line; ask again after this time.
    Ticket(TicketTold, Expired, Duration),
    /// An order in its present state.
    Order(OrderTold),
    /// No.
    Refused(Fault),
    /// Nobody knows.
    Unknown,
}

/// Whether a ticket's turn has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expired(pub(super) bool);

enum Reply {
    Ticket(Box<wire::Ticket>),
    Order(Box<wire::Order>),
}

/// One buyer on the line.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    shop: Arc<Shop>,
    buyer: u32,
    /// Which connection is theirs.
    place: usize,
    token: MetadataValue<Ascii>,
    /// The ticket as it was given last.
    pub(super) ticket: String,
    pub(super) bucket: Option<u32>,
    pub(super) card: &'static str,
}

/// Numbers all calls of a process.
static CALLS: AtomicU64 = AtomicU64::new(1);

impl Caller {
    /// The buyer in this place of the shop's plan; none when there is no such.
    pub(super) fn new(shop: &Arc<Shop>, place: usize, card: &'static str) -> Option<Caller> {
        let buyer = shop.crowd.buyers.get(place)?.number;
        let token = shop.crowd.tokens.get(place)?.clone();
        let (shop, ticket) = (Arc::clone(shop), String::new());
        Some(Caller { shop, buyer, place, token, ticket, bucket: None, card })
    }

    /// Asks once. `hang_up_after`: the buyer does not wait for the answer any longer.
    pub(super) async fn ask(
        &mut self,
        ask: &Ask,
        intended: Instant,
        repeat: bool,
        hang_up_after: Option<Duration>,
    ) -> Answer {
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        self.note(call, Said::Asked(ask.clone()));
        let shop = Arc::clone(&self.shop);
        let live = shop.shared.live.sale(shop.number);
        let reserves_in = matches!(ask, Ask::Reserve { .. }).then_some(self.bucket).flatten();
        let flying = live.map(|live| live.fly(reserves_in));
        let limit = if matches!(ask, Ask::Checkout { .. }) { CHECKOUT_LIMIT } else { CALL_LIMIT };
        let sent = self.send(ask, limit);
        let reply = match hang_up_after {
            None => sent.await,
            Some(patience) => {
                timeout(patience, sent).await.unwrap_or_else(|_| Err(Status::cancelled("hung up")))
            }
        };
        drop(flying);
        let (answer, said) = self.understand(reply);
        let outcome = match &answer {
            Answer::Ticket(..) | Answer::Order(_) => Outcome::Done,
            Answer::Refused(fault) => Outcome::Refused(fault.reason),
            Answer::Unknown => Outcome::Unknown,
        };
        match (outcome, live) {
            (Outcome::Refused(_), Some(live)) => live.count_refusal(),
            (Outcome::Unknown, Some(live)) => live.count_unknown(),
            _ => {}
        }
        let latency_us = u32::try_from(micros(intended.elapsed())).unwrap_or(u32::MAX);
        let (sale, intended_us) = (shop.number, shop.shared.at_us(intended));
        let call_kind = kind(ask);
        let sample = Sample { sale, call: call_kind, intended_us, latency_us, outcome, repeat };
        shop.shared.samples.add(sample);
        self.note(call, said);
        answer
    }

    /// Sends it to a router, and to another one if that did not take it.
    async fn send(&self, ask: &Ask, limit: Duration) -> Result<Reply, Status> {
        let nowhere = || Status::unavailable("there is no router");
        let line = self.shop.balancer.line(self.place).ok_or_else(nowhere)?;
        let sent = self.send_on(line.channel.clone(), ask, limit).await;
        let other = match &sent {
            Err(status) if is_not_taken(status) => self.shop.balancer.other(self.place, &line),
            _ => None,
        };
        let Some(other) = other else { return sent };
        if let Some(live) = self.shop.shared.live.sale(self.shop.number) {
            live.count_moved();
        }
        self.send_on(other.channel, ask, limit).await
    }

    async fn send_on(&self, channel: Channel, ask: &Ask, limit: Duration) -> Result<Reply, Status> {
        let mut client = StorefrontServiceClient::new(channel);
        let sale = || self.shop.crowd.sale.clone();
        let name = |order: &OrderId| format!("{}/orders/{order}", self.shop.crowd.sale);
        match ask {
            Ask::Join => {
                let request = self.request(JoinRequest { sale: sale() }, limit);
                client.join(request).await.map(|reply| ticket_of(reply.into_inner()))
            }
            Ask::GetTicket => {
                let message = GetTicketRequest { sale: sale(), ticket: self.ticket.clone() };
                let request = self.request(message, limit);
                client.get_ticket(request).await.map(|reply| ticket_of(reply.into_inner()))
            }
            Ask::Reserve { request, quantity } => {
                let message = ReserveRequest {
                    sale: sale(),
                    ticket: self.ticket.clone(),
                    quantity: *quantity,
                    request_id: request.uuid(),
                };
                let request = self.request(message, limit);
                client.reserve(request).await.map(|reply| order_of(reply.into_inner()))
            }
            Ask::Checkout { order } => {
                let payment_method = self.card.to_owned();
                let message = CheckoutRequest {
                    name: name(order),
                    payment_method,
                    ..CheckoutRequest::default()
                };
                let request = self.request(message, limit);
                client.checkout(request).await.map(|reply| order_of(reply.into_inner()))
            }
            Ask::CancelOrder { order } => {
                let request = self.request(CancelOrderRequest { name: name(order) }, limit);
                client.cancel_order(request).await.map(|reply| order_of(reply.into_inner()))
            }
            Ask::GetOrder { order } => {
                let request = self.request(GetOrderRequest { name: name(order) }, limit);
                client.get_order(request).await.map(|reply| order_of(reply.into_inner()))
            }
        }
    }

    fn request<M>(&self, message: M, limit: Duration) -> Request<M> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request.set_timeout(limit);
        request
    }

    /// What the reply means, and how it is written down.
    fn understand(&mut self, reply: Result<Reply, Status>) -> (Answer, Said) {
        let unknown = |code: String| (Answer::Unknown, Said::Unknown { code: code.into() });
        match reply {
            Ok(Reply::Ticket(ticket)) => match place_of(&ticket) {
                Some(told) => {
                    let expired = Expired(ticket.state() == ticket::State::Expired);
                    let again = ticket.ask_again.and_then(|again| again.try_into().ok());
                    self.bucket = Some(told.bucket);
                    if !ticket.ticket.is_empty() {
                        self.ticket = ticket.ticket;
                    }
                    let again = again.unwrap_or(Duration::from_secs(1));
                    (Answer::Ticket(told, expired, again), Said::Ticket(told))
                }
                None => unknown("a ticket that says nothing".to_owned()),
            },
            Ok(Reply::Order(order)) => match order_told(&order) {
                Some(told) => (Answer::Order(told.clone()), Said::Order(told)),
                None => unknown("an order that says nothing".to_owned()),
            },
            Err(status) => match Fault::of_status(&status) {
                Some(fault) => {
                    let reason = fault.reason.label().into();
                    (Answer::Refused(fault), Said::Refused { reason })
                }
                None => unknown(format!("{:?}: {}", status.code(), status.message())),
            },
        }
    }

    fn note(&self, call: u64, said: Said) {
        let shared = &self.shop.shared;
        let (at_us, sale) = (shared.at_us(Instant::now()), self.shop.number);
        shared.told.add(Told { at_us, sale, buyer: Some(self.buyer), call, said });
    }
}

/// Whether the same call may succeed later, and when.
pub(super) fn later(fault: &Fault) -> Option<Duration> {
    // A call that came too late changed nothing: it is simply sent again.
    let again = fault.reason.retry() == Retry::Later || fault.reason == Reason::DeadlinePassed;
    again.then(|| Duration::from_millis(fault.retry_after_ms.into()))
}

fn kind(ask: &Ask) -> CallKind {
    match ask {
        Ask::Join => CallKind::Join,
        Ask::GetTicket => CallKind::GetTicket,
        Ask::Reserve { .. } => CallKind::Reserve,
        Ask::Checkout { .. } => CallKind::Checkout,
        Ask::CancelOrder { .. } => CallKind::CancelOrder,
        Ask::GetOrder { .. } => CallKind::GetOrder,
    }
}

fn ticket_of(ticket: wire::Ticket) -> Reply {
    Reply::Ticket(Box::new(ticket))
}

fn order_of(order: wire::Order) -> Reply {
    Reply::Order(Box::new(order))
}

#[derive(Deserialize)]
struct Claims {
    bkt: u32,
    sub: BuyerKey,
    idx: u64,
}

/// What a ticket says of its place: the second part of a compact JWS. Nobody but the platform can check it.
fn place_of(ticket: &wire::Ticket) -> Option<TicketTold> {
    let payload = ticket.ticket.split('.').nth(1)?;
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    Some(TicketTold {
        bucket: claims.bkt,
        rank: claims.idx,
        pseudonym: claims.sub,
        admitted: ticket.state() == ticket::State::Admitted,
    })
}

fn order_told(order: &wire::Order) -> Option<OrderTold> {
    const NANOS_PER_CENT: i32 = 10_000_000;
    let total = order.total.as_ref()?;
    Some(OrderTold {
        order: order.name.rsplit('/').next()?.parse().ok()?,
        state: OrderState::from_number(order.state)?,
        units: order.units.clone(),
        amount_minor: total.units * 100 + i64::from(total.nanos / NANOS_PER_CENT),
    })
}
