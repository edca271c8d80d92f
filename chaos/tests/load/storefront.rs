//! A storefront that pretends: it admits everybody, slowly; it says nothing to the first of some Reserves; it needs to
//! be asked twice about payments.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::fault::{Fault, Reason};
use proto::wire::Money;
use proto::wire::storefront::storefront_service_server::{
    StorefrontService, StorefrontServiceServer,
};
use proto::wire::storefront::{
    CancelOrderRequest, CheckoutRequest, GetOrderRequest, GetSaleStateRequest, GetTicketRequest,
    JoinRequest, Order, RefundOrderRequest, ReserveRequest, SaleState, Ticket, WatchSaleRequest,
    order, sale_state, ticket,
};
use runtime::drain::Drain;
use runtime::metric::Metrics;
use runtime::server::{ServerOptions, serve};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// How long everybody waits for their place in line.
pub const JOIN_TAKES: Duration = Duration::from_millis(300);

/// One in so many requests is answered only when it comes again.
const SILENT_EVERY: u8 = 8;

pub struct Storefront {
    pub url: String,
    book: Arc<Book>,
    drain: Drain,
}

#[derive(Default)]
struct Book {
    in_line: AtomicUsize,
    in_line_most: AtomicUsize,
    heard: Mutex<HashSet<String>>,
    orders: Mutex<HashMap<String, order::State>>,
}

impl Storefront {
    pub async fn start() -> Storefront {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (book, drain) = (Arc::new(Book::default()), Drain::new());
        let service = StorefrontServiceServer::new(Desk(Arc::clone(&book)));
        let metrics = Metrics::new("storefront", "0").unwrap();
        let served =
            serve(listener, Routes::new(service), ServerOptions::default(), metrics, drain.clone());
        drain.spawn("server", served);
        Storefront { url, book, drain }
    }

    /// The most buyers that waited for their place at the same time.
    pub fn in_line_most(&self) -> usize {
        self.book.in_line_most.load(Ordering::Relaxed)
    }
}

impl Drop for Storefront {
    fn drop(&mut self) {
        self.drain.begin();
    }
}

struct Desk(Arc<Book>);

impl Desk {
    fn order(&self, name: String, next: impl FnOnce(order::State) -> order::State) -> Order {
        let mut orders = self.0.orders.lock().unwrap();
        let state = orders.entry(name.clone()).or_insert(order::State::Held);
        *state = next(*state);
        let total = Money { currency_code: "EUR".into(), units: 49, nanos: 500_000_000 };
        Order { name, state: (*state).into(), units: vec![1], total: Some(total), time_left: None }
    }
}

#[tonic::async_trait]
impl StorefrontService for Desk {
    type WatchSaleStream = tokio_stream::Iter<std::vec::IntoIter<Result<SaleState, Status>>>;

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<Ticket>, Status> {
        let now = self.0.in_line.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.in_line_most.fetch_max(now, Ordering::Relaxed);
        tokio::time::sleep(JOIN_TAKES).await;
        self.0.in_line.fetch_sub(1, Ordering::Relaxed);
        let claims =
            format!(r#"{{"sale":"s01","bkt":0,"sub":"{:032x}","win":0,"idx":{now}}}"#, now);
        let text = format!("head.{}.mac", URL_SAFE_NO_PAD.encode(claims));
        let (sale, state) = (request.into_inner().sale, ticket::State::Admitted.into());
        Ok(Response::new(Ticket { sale, ticket: text, state, ..Ticket::default() }))
    }

    async fn reserve(&self, request: Request<ReserveRequest>) -> Result<Response<Order>, Status> {
        let request = request.into_inner();
        let id = request.request_id.replace('-', "");
        let byte = u8::from_str_radix(&id[..2], 16).unwrap();
        if self.0.heard.lock().unwrap().insert(id.clone()) && byte.is_multiple_of(SILENT_EVERY) {
            return Err(Status::unavailable("connection lost"));
        }
        let name = format!("{}/orders/{id}", request.sale);
        Ok(Response::new(self.order(name, |state| state)))
    }

    async fn checkout(&self, request: Request<CheckoutRequest>) -> Result<Response<Order>, Status> {
        let request = request.into_inner();
        tokio::time::sleep(Duration::from_millis(150)).await;
        if request.payment_method.contains("Declined") {
            return Err(Fault::new(Reason::CardDeclined).into());
        }
        let paying = |state| match state {
            order::State::Held => order::State::Paying,
            _ => order::State::Paid,
        };
        Ok(Response::new(self.order(request.name, paying)))
    }

    async fn cancel_order(
        &self,
        request: Request<CancelOrderRequest>,
    ) -> Result<Response<Order>, Status> {
        let name = request.into_inner().name;
        Ok(Response::new(self.order(name, |_| order::State::Cancelled)))
    }

    async fn get_order(
        &self,
        request: Request<GetOrderRequest>,
    ) -> Result<Response<Order>, Status> {
        let paid = |state| if state == order::State::Paying { order::State::Paid } else { state };
        Ok(Response::new(self.order(request.into_inner().name, paid)))
    }

    async fn refund_order(
        &self,
        _: Request<RefundOrderRequest>,
    ) -> Result<Response<Order>, Status> {
        Err(Status::unimplemented("no merchant asks"))
    }

    async fn get_ticket(&self, _: Request<GetTicketRequest>) -> Result<Response<Ticket>, Status> {
        Err(Status::unimplemented("everybody is admitted at once"))
    }

    async fn get_sale_state(
        &self,
        _: Request<GetSaleStateRequest>,
    ) -> Result<Response<SaleState>, Status> {
        Err(Status::unimplemented("watch it instead"))
    }

    async fn watch_sale(
        &self,
        request: Request<WatchSaleRequest>,
    ) -> Result<Response<Self::WatchSaleStream>, Status> {
        let (sale, phase) = (request.into_inner().sale, sale_state::Phase::Open.into());
        let state = SaleState { sale, phase, stock: 1_000, free: 1_000, ..SaleState::default() };
        Ok(Response::new(tokio_stream::iter(vec![Ok(state)])))
    }
}
