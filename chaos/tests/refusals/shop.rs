//! One caller at one door: a buyer's storefront, a merchant's office, the platform's own desk.

use std::time::Duration;

use anyhow::{Context, bail};
use floodgate_chaos::identity::bearer;
use proto::wire::admin::sale_service_client::SaleServiceClient;
use proto::wire::admin::{GetSaleRequest, Sale};
use proto::wire::fleet::{Org, ProbeResponse};
use proto::wire::storefront::storefront_service_client::StorefrontServiceClient;
use proto::wire::storefront::{
    CancelOrderRequest, CheckoutRequest, GetOrderRequest, GetSaleStateRequest, GetTicketRequest,
    JoinRequest, Order, RefundOrderRequest, ReserveRequest, SaleState, Ticket, WatchSaleRequest,
    ticket,
};
use tokio::time::{Instant, sleep};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// How long something may take that happens by itself.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// Pause before looking again.
pub(crate) const POLL: Duration = Duration::from_millis(50);
/// A card that is good.
pub(crate) const CARD: &str = "pm_card_visa";

/// Sends a token with every call.
#[derive(Clone, Debug)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A channel whose calls carry a token.
pub(crate) type Line = InterceptedService<Channel, Bearer>;

/// A line of the holder of `token`.
pub(crate) fn line(channel: &Channel, token: &str) -> anyhow::Result<Line> {
    Ok(InterceptedService::new(channel.clone(), Bearer(Some(bearer(token)?))))
}

/// A line with this `authorization`, or with none.
pub(crate) fn line_saying(channel: &Channel, authorization: Option<&str>) -> anyhow::Result<Line> {
    let value = authorization.map(str::parse).transpose()?;
    Ok(InterceptedService::new(channel.clone(), Bearer(value)))
}

/// An answer in a word.
pub(crate) trait InAWord {
    fn word(&self) -> String;
}

macro_rules! by_state {
    ($($message:ty: $part:ident;)*) => {
        $(impl InAWord for $message {
            fn word(&self) -> String {
                let name = self.$part().as_str_name();
                name.trim_start_matches("STATE_").trim_start_matches("PHASE_").to_owned()
            }
        })*
    };
}
by_state! { Ticket: state; Order: state; SaleState: phase; Sale: state; }

impl InAWord for Org {
    fn word(&self) -> String {
        self.name.clone()
    }
}

impl InAWord for ProbeResponse {
    fn word(&self) -> String {
        "ECHO".to_owned()
    }
}

/// What a call came to, as rows compare it.
pub(crate) fn word<T: InAWord>(
    answer: Result<Response<T>, Status>,
) -> anyhow::Result<Result<String, Status>> {
    Ok(answer.map(|answer| answer.get_ref().word()))
}

/// A request's id that nobody has used.
pub(crate) fn fresh_id() -> String {
    Uuid::new_v4().to_string()
}

type Answer<T> = Result<Response<T>, Status>;

/// A buyer at a storefront.
#[derive(Clone, Debug)]
pub(crate) struct Shop {
    client: StorefrontServiceClient<Line>,
}

impl Shop {
    pub(crate) fn new(line: Line) -> Shop {
        Shop { client: StorefrontServiceClient::new(line) }
    }

    pub(crate) async fn join(&self, sale: &str) -> Answer<Ticket> {
        self.client.clone().join(JoinRequest { sale: sale.to_owned() }).await
    }

    pub(crate) async fn ticket(&self, sale: &str, ticket: &str) -> Answer<Ticket> {
        let (sale, ticket) = (sale.to_owned(), ticket.to_owned());
        self.client.clone().get_ticket(GetTicketRequest { sale, ticket }).await
    }

    pub(crate) async fn state(&self, sale: &str) -> Answer<SaleState> {
        self.client.clone().get_sale_state(GetSaleStateRequest { sale: sale.to_owned() }).await
    }

    /// The first state of a watched sale.
    pub(crate) async fn watch(&self, sale: &str) -> Answer<SaleState> {
        let request = WatchSaleRequest { sale: sale.to_owned() };
        let mut states = self.client.clone().watch_sale(request).await?.into_inner();
        let first = states.message().await?;
        first.map(Response::new).ok_or_else(|| Status::unknown("the watch ended at once"))
    }

    pub(crate) async fn reserve(
        &self,
        sale: &str,
        ticket: &str,
        quantity: u32,
        request_id: &str,
    ) -> Answer<Order> {
        let request = ReserveRequest {
            sale: sale.to_owned(),
            ticket: ticket.to_owned(),
            quantity,
            request_id: request_id.to_owned(),
        };
        self.client.clone().reserve(request).await
    }

    pub(crate) async fn checkout(&self, name: &str, card: &str) -> Answer<Order> {
        let (name, payment_method) = (name.to_owned(), card.to_owned());
        self.client
            .clone()
            .checkout(CheckoutRequest { name, payment_method, ..CheckoutRequest::default() })
            .await
    }

    /// As [`Self::checkout`], by a buyer who waits no longer than `patience`.
    pub(crate) async fn checkout_within(
        &self,
        name: &str,
        card: &str,
        patience: Duration,
    ) -> Answer<Order> {
        let (name, payment_method) = (name.to_owned(), card.to_owned());
        let mut request =
            Request::new(CheckoutRequest { name, payment_method, ..CheckoutRequest::default() });
        request.set_timeout(patience);
        self.client.clone().checkout(request).await
    }

    pub(crate) async fn cancel(&self, name: &str) -> Answer<Order> {
        self.client.clone().cancel_order(CancelOrderRequest { name: name.to_owned() }).await
    }

    pub(crate) async fn order(&self, name: &str) -> Answer<Order> {
        self.client.clone().get_order(GetOrderRequest { name: name.to_owned() }).await
    }

    /// Asks for a refund of `buyer`'s order; a merchant's storefront may.
    pub(crate) async fn refund(&self, name: &str, buyer: &str) -> Answer<Order> {
        let (name, buyer) = (name.to_owned(), buyer.to_owned());
        self.client.clone().refund_order(RefundOrderRequest { name, buyer }).await
    }

    /// Joins and waits until its turn: the ticket.
    pub(crate) async fn admitted(&self, sale: &str) -> anyhow::Result<String> {
        let mut ticket = self.join(sale).await.context("Join")?.into_inner();
        let deadline = Instant::now() + SOON;
        while ticket.state() != ticket::State::Admitted {
            if Instant::now() > deadline {
                bail!("never admitted: {ticket:?}");
            }
            sleep(POLL).await;
            ticket = self.ticket(sale, &ticket.ticket).await.context("GetTicket")?.into_inner();
        }
        Ok(ticket.ticket)
    }

    /// Waits for its turn and holds units: the order's name.
    pub(crate) async fn holds(&self, sale: &str, quantity: u32) -> anyhow::Result<String> {
        let ticket = self.admitted(sale).await?;
        let held = self.reserve(sale, &ticket, quantity, &fresh_id()).await.context("Reserve")?;
        Ok(held.into_inner().name)
    }

    /// Buys units: the order's name.
    pub(crate) async fn buys(&self, sale: &str, quantity: u32) -> anyhow::Result<String> {
        let order = self.holds(sale, quantity).await?;
        let paid = self.checkout(&order, CARD).await.context("Checkout")?;
        anyhow::ensure!(paid.get_ref().word() == "PAID", "not paid: {paid:?}");
        Ok(order)
    }

    /// Waits until an order is in this state.
    pub(crate) async fn until(&self, order: &str, state: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + SOON;
        loop {
            let now = self.order(order).await.map(|order| order.get_ref().word());
            if now.as_ref().is_ok_and(|now| now == state) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{order} is {now:?}, not {state}");
            }
            sleep(POLL).await;
        }
    }
}

/// Waits until `seen` says that a sale is as wanted.
pub(crate) async fn sale_until(
    sales: &mut SaleServiceClient<Line>,
    name: &str,
    mut seen: impl FnMut(&Sale) -> bool,
) -> anyhow::Result<Sale> {
    let deadline = Instant::now() + SOON;
    loop {
        let sale = sales.get_sale(GetSaleRequest { name: name.to_owned() }).await?.into_inner();
        if seen(&sale) {
            return Ok(sale);
        }
        if Instant::now() > deadline {
            bail!("never as wanted: {sale:?}");
        }
        sleep(POLL).await;
    }
}
