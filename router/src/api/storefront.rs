//! The storefront's calls: decode, let through, ask, encode.

use super::asked::{Asked, Edge};
use super::order::order;
use crate::column::Incoming;
use crate::link::Kind;
use crate::metrics::CallName;
use crate::states::decided_phase;
use crate::watch::{Watches, Who};
use proto::fault::{Fault, Reason};
use proto::id::{OrderId, parse_order, parse_request_id, parse_sale};
use proto::limits::{CAP_MAX, PAYMENT_METHOD_BYTES_MAX, STATE_STALE_MS, TOKEN_BYTES_MAX};
use proto::rank::{Standing, standing};
use proto::token::Role;
use proto::wire::cell::{Cancel, Checkout, Refund, Reserve, Show, call};
use proto::wire::storefront::sale_state::Phase;
use proto::wire::storefront::storefront_service_server::StorefrontService;
use proto::wire::storefront::{
    CancelOrderRequest, CheckoutRequest, GetOrderRequest, GetSaleStateRequest, GetTicketRequest,
    JoinRequest, Order, RefundOrderRequest, ReserveRequest, SaleState, Ticket, WatchSaleRequest,
};
use std::sync::Arc;
use tokio_stream::Empty;
use tonic::{Request, Response, Status};

/// The storefront service.
#[derive(Clone, Debug)]
pub(crate) struct StorefrontApi {
    edge: Arc<Edge>,
    watches: Arc<Watches>,
}

impl StorefrontApi {
    /// The service at this edge.
    pub(crate) fn new(edge: Arc<Edge>, watches: Arc<Watches>) -> StorefrontApi {
        StorefrontApi { edge, watches }
    }
}

#[tonic::async_trait]
impl StorefrontService for StorefrontApi {
    /// What is told goes beside it, encoded once for all.
    type WatchSaleStream = Empty<Result<SaleState, Status>>;

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<Ticket>, Status> {
        let (call, request) = Incoming::of(CallName::Join, request);
        self.edge.run(&call, self.join_answer(&call, &request)).await
    }

    async fn get_ticket(
        &self,
        request: Request<GetTicketRequest>,
    ) -> Result<Response<Ticket>, Status> {
        let (call, request) = Incoming::of(CallName::GetTicket, request);
        self.edge.run(&call, self.ticket_answer(&call, request)).await
    }

    async fn get_sale_state(
        &self,
        request: Request<GetSaleStateRequest>,
    ) -> Result<Response<SaleState>, Status> {
        let (call, request) = Incoming::of(CallName::GetSaleState, request);
        let answer = async {
            let sale = self.shown(&call, &request.sale)?;
            Ok(self.edge.states.page(&sale, self.edge.clock.now_ms()))
        };
        self.edge.run(&call, answer).await
    }

    async fn watch_sale(
        &self,
        request: Request<WatchSaleRequest>,
    ) -> Result<Response<Self::WatchSaleStream>, Status> {
        let (who, leaving) = (Who::of(request.extensions()), request.extensions().get().cloned());
        let (call, request) = Incoming::of(CallName::WatchSale, request);
        let answer = async {
            let sale = self.shown(&call, &request.sale)?;
            let who = who.through(&self.edge.proxies, &call.headers);
            self.watches.watch(&self.edge, sale, who, leaving)
        };
        let frames = self.edge.run(&call, answer).await?.into_inner();
        let mut told = Response::new(tokio_stream::empty());
        told.extensions_mut().insert(frames);
        Ok(told)
    }

    async fn reserve(&self, request: Request<ReserveRequest>) -> Result<Response<Order>, Status> {
        let (call, request) = Incoming::of(CallName::Reserve, request);
        self.edge.run(&call, self.reserve_answer(&call, request)).await
    }

    async fn checkout(&self, request: Request<CheckoutRequest>) -> Result<Response<Order>, Status> {
        let (call, CheckoutRequest { name, payment_method, sale }) =
            Incoming::of(CallName::Checkout, request);
        let answer = async {
            if !sale.is_empty() && !is_of(&name, &sale) {
                return Err(Fault::field("sale", "must be that of the order"));
            }
            if payment_method.is_empty() || payment_method.len() > PAYMENT_METHOD_BYTES_MAX {
                return Err(Fault::field("payment_method", "must have 1 to 128 bytes"));
            }
            let (asked, order) = self.of_order(&call, &name)?;
            let what = Checkout { order: order.0.to_vec(), payment_method };
            self.order_answer(&asked, call::Kind::Checkout(what)).await
        };
        self.edge.run(&call, answer).await
    }

    async fn cancel_order(
        &self,
        request: Request<CancelOrderRequest>,
    ) -> Result<Response<Order>, Status> {
        let (call, request) = Incoming::of(CallName::CancelOrder, request);
        let answer = async {
            let (asked, order) = self.of_order(&call, &request.name)?;
            self.order_answer(&asked, call::Kind::Cancel(Cancel { order: order.0.to_vec() })).await
        };
        self.edge.run(&call, answer).await
    }

    async fn get_order(
        &self,
        request: Request<GetOrderRequest>,
    ) -> Result<Response<Order>, Status> {
        let (call, request) = Incoming::of(CallName::GetOrder, request);
        let answer = async {
            let (asked, order) = self.of_order(&call, &request.name)?;
            self.order_answer(&asked, call::Kind::Show(Show { order: order.0.to_vec() })).await
        };
        self.edge.run(&call, answer).await
    }

    async fn refund_order(
        &self,
        request: Request<RefundOrderRequest>,
    ) -> Result<Response<Order>, Status> {
        let (call, RefundOrderRequest { name, buyer }) =
            Incoming::of(CallName::RefundOrder, request);
        let answer = async {
            let (org, sale, order) = parse_order(&name)?;
            if buyer.is_empty() || buyer.len() > TOKEN_BYTES_MAX {
                return Err(Fault::field("buyer", "must be the sub of the buyer's tokens"));
            }
            let asked = self.edge.for_buyer(&call, &org, &sale, &buyer)?;
            self.order_answer(&asked, call::Kind::Refund(Refund { order: order.0.to_vec() })).await
        };
        self.edge.run(&call, answer).await
    }
}

impl StorefrontApi {
    async fn join_answer(&self, call: &Incoming, request: &JoinRequest) -> Result<Ticket, Fault> {
        let (org, sale) = parse_sale(&request.sale)?;
        let asked = self.edge.buyer(call, &org, &sale)?;
        if self.edge.states.is_sold_out(&asked.sale) {
            return Err(Reason::SoldOut.into());
        }
        self.has_line(&asked)?;
        self.edge.join(&asked).await
    }

    async fn ticket_answer(
        &self,
        call: &Incoming,
        request: GetTicketRequest,
    ) -> Result<Ticket, Fault> {
        let (org, sale) = parse_sale(&request.sale)?;
        let asked = self.edge.buyer(call, &org, &sale)?;
        if let Some(given) = self.edge.line_ticket(&asked, &request.ticket)? {
            self.has_line(&asked)?;
            return self.edge.line_answer(&asked, &given, request.ticket).await;
        }
        let (bucket, now) = self.edge.bucket(&asked)?;
        let rank = self.edge.rank(&asked, &request.ticket, bucket)?;
        self.over(&asked).map_err(|fault| self.edge.in_line(fault, &asked, &now, rank))?;
        self.edge.ticket(&asked, request.ticket, rank, &now)
    }

    async fn reserve_answer(
        &self,
        call: &Incoming,
        request: ReserveRequest,
    ) -> Result<Order, Fault> {
        let (org, sale) = parse_sale(&request.sale)?;
        let request_id = parse_request_id(&request.request_id)
            .ok_or_else(|| Fault::field("request_id", "must be a UUID"))?;
        if request.quantity == 0 || request.quantity > CAP_MAX {
            return Err(Fault::field(
                "quantity",
                format!("must be 1 to {CAP_MAX}, and at most the sale's cap"),
            ));
        }
        let asked = self.edge.buyer(call, &org, &sale)?;
        let (bucket, now) = self.edge.bucket(&asked)?;
        let rank = self.edge.rank(&asked, &request.ticket, bucket);
        let rank = rank.map_err(|fault| match self.edge.not_joined(&asked, &request.ticket) {
            Some(early) => early,
            None => fault,
        })?;
        // A ticket that waits cannot have made an order; for all others the keeper looks whether it has.
        if let Standing::Waiting(_) = standing(rank, now.state.tail, now.state.cursor)
            && !asked.sale.standard
        {
            self.over(&asked).map_err(|fault| self.edge.in_line(fault, &asked, &now, rank))?;
            if let Some(fault) = self.edge.not_begun(&asked.sale) {
                return Err(fault);
            }
            if self.edge.states.is_sold_out(&asked.sale) {
                return Err(Reason::SoldOut.into());
            }
            return Err(self.edge.in_line(Reason::NotAdmitted.into(), &asked, &now, rank));
        }
        let what = Reserve {
            ticket: request.ticket,
            quantity: request.quantity,
            request_id: request_id.to_vec(),
        };
        self.order_answer(&asked, call::Kind::Reserve(what)).await
    }

    async fn order_answer(&self, asked: &Asked, what: call::Kind) -> Result<Order, Fault> {
        order(&asked.sale, self.edge.pass_on(asked, Kind::Flash, what).await?)
    }

    fn of_order(&self, call: &Incoming, name: &str) -> Result<(Asked, OrderId), Fault> {
        let (org, sale, order) = parse_order(name)?;
        Ok((self.edge.buyer(call, &org, &sale)?, order))
    }

    /// A sale that a buyer or its merchant may see.
    fn shown(
        &self,
        call: &Incoming,
        name: &str,
    ) -> Result<Arc<crate::directory::SaleEntry>, Fault> {
        let (org, sale) = parse_sale(name)?;
        let roles = [Role::Buyer, Role::Merchant];
        Ok(self.edge.for_sale(call, &roles, (&org, &sale))?.theirs)
    }

    /// Refused when there is no line any more: one may form while a sale is paused. One that is over has perhaps no keeper
    /// any more to say so.
    fn has_line(&self, asked: &Asked) -> Result<(), Fault> {
        self.over(asked).or_else(|fault| match fault.reason {
            Reason::SalePaused => Ok(()),
            _ => Err(fault),
        })
    }

    /// Refused when the sale takes no new hold any more.
    fn over(&self, asked: &Asked) -> Result<(), Fault> {
        // A moment's grace: Postgres' clock decides the end, not ours.
        match decided_phase(&asked.sale, self.edge.clock.now_ms().saturating_sub(STATE_STALE_MS)) {
            Phase::Ended => Err(Reason::SaleEnded.into()),
            Phase::Cancelled => Err(Reason::SaleCancelled.into()),
            Phase::Paused => Err(Reason::SalePaused.into()),
            _ => Ok(()),
        }
    }
}

/// Whether the order's name is one of the sale's.
fn is_of(order: &str, sale: &str) -> bool {
    order.strip_prefix(sale).is_some_and(|rest| rest.starts_with("/orders/"))
}
