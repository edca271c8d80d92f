//! A router that knows one sale, for what the command line shows of a sale's page.

use std::pin::Pin;

use proto::wire::storefront::storefront_service_server::StorefrontService;
use proto::wire::storefront::*;
use tonic::codegen::tokio_stream::{self, Stream};
use tonic::{Request, Response, Status, async_trait};

/// A router that knows one sale.
pub(crate) struct Router;

#[async_trait]
impl StorefrontService for Router {
    type WatchSaleStream = Pin<Box<dyn Stream<Item = Result<SaleState, Status>> + Send>>;

    async fn get_sale_state(
        &self,
        request: Request<GetSaleStateRequest>,
    ) -> Result<Response<SaleState>, Status> {
        Ok(Response::new(state(&request.get_ref().sale, 7)))
    }

    async fn watch_sale(
        &self,
        request: Request<WatchSaleRequest>,
    ) -> Result<Response<Self::WatchSaleStream>, Status> {
        let sale = request.into_inner().sale;
        let states = [5, 0].map(|free| Ok(state(&sale, free)));
        Ok(Response::new(Box::pin(tokio_stream::iter(states))))
    }

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<Ticket>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn get_ticket(&self, _: Request<GetTicketRequest>) -> Result<Response<Ticket>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn reserve(&self, _: Request<ReserveRequest>) -> Result<Response<Order>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn checkout(&self, _: Request<CheckoutRequest>) -> Result<Response<Order>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn cancel_order(
        &self,
        _: Request<CancelOrderRequest>,
    ) -> Result<Response<Order>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn refund_order(
        &self,
        request: Request<RefundOrderRequest>,
    ) -> Result<Response<Order>, Status> {
        let RefundOrderRequest { name, buyer } = request.into_inner();
        let state = if buyer == "ada" { order::State::Refunded } else { order::State::Paid };
        Ok(Response::new(Order { name, state: state.into(), ..Order::default() }))
    }
    async fn get_order(&self, _: Request<GetOrderRequest>) -> Result<Response<Order>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

fn state(sale: &str, free: u64) -> SaleState {
    let phase = sale_state::Phase::Open.into();
    SaleState {
        sale: sale.to_owned(),
        phase,
        stock: 10,
        free,
        sold_out: free == 0,
        ..SaleState::default()
    }
}
