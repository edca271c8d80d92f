//! Buyers with admitted tickets for several sales, of whom each reserves once in each sale. Whoever is refused comes again
//! later; whoever was answered, or does not know, does not.

use crate::calls::{Line, Refused, bearer, ended};
use crate::open::End;
use crate::platform::request_id;
use crate::roads::Road;
use crate::sale::{Cell, ORG};
use anyhow::{Result, bail};
use futures_util::future::try_join_all;
use http::HeaderValue;
use proto::id::BuyerKey;
use proto::ticket::{Ticket, TicketKey};
use proto::wire::storefront::{GetSaleStateRequest, Order, ReserveRequest, SaleState};
use ring::hmac;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tonic::Code;

const SEE: &str = "/floodgate.storefront.v1.StorefrontService/GetSaleState";
const RESERVE: &str = "/floodgate.storefront.v1.StorefrontService/Reserve";
/// Calls under way while the router gets to know tokens.
const SEEING: usize = 256;
/// How long whoever is refused then waits.
const AGAIN: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(crate) struct Crowd {
    buyers: Vec<(HeaderValue, BuyerKey)>,
    sales: Vec<String>,
    tickets: TicketKey,
    /// A buyer and a sale, by their numbers.
    coming: Mutex<VecDeque<(usize, usize)>>,
    calls: AtomicUsize,
}

impl Crowd {
    /// `count` buyers of these sales, each of which has one bucket with an open gate.
    pub(crate) fn new(cell: &Cell, count: usize, sales: &[String]) -> Result<Crowd> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &Cell::BUYER_KEY);
        let mut buyers = Vec::with_capacity(count);
        for number in 0..count {
            let name = format!("b{number}");
            buyers.push((bearer(&cell.token(&name))?, BuyerKey::of(&key, &name)));
        }
        let pairs = (0..count).flat_map(|buyer| (0..sales.len()).map(move |sale| (buyer, sale)));
        Ok(Crowd {
            buyers,
            sales: sales.to_vec(),
            tickets: Cell::ticket_key(),
            coming: Mutex::new(pairs.collect()),
            calls: AtomicUsize::new(0),
        })
    }

    /// Lets every buyer look at a sale's page, as buyers do before it opens: from then on the router knows their tokens.
    pub(crate) async fn look(&self, lines: &[Line]) -> Result<()> {
        let request = GetSaleStateRequest { sale: self.name(0) };
        let next = AtomicUsize::new(0);
        try_join_all((0..SEEING).map(|_| async {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some((token, _)) = self.buyers.get(number) else { return Ok(()) };
                let line = &lines[number % lines.len()];
                while let Err(error) = line.call::<SaleState>(SEE, token, &request).await {
                    match error.downcast_ref::<Refused>() {
                        Some(Refused(Code::Unavailable, _)) => tokio::time::sleep(AGAIN).await,
                        _ => bail!("a buyer cannot see a sale: {error}"),
                    }
                }
            }
        }))
        .await?;
        Ok(())
    }

    /// The next reserve, on one of these connections; none when all have bought.
    pub(crate) fn reserve(
        self: &Arc<Crowd>,
        roads: &[Road],
    ) -> Option<impl Future<Output = End> + Send + 'static> {
        let pair = self.coming().pop_front()?;
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let (crowd, road) = (self.clone(), roads[call % roads.len()].clone());
        Some(async move {
            let (buyer, sale) = pair;
            let (token, key) = &crowd.buyers[buyer];
            let ticket = Ticket {
                sale: crowd.sales[sale].as_str().into(),
                bucket: 0,
                buyer: *key,
                window: 0,
                index: buyer as u64,
                weight: 1,
            };
            let request = ReserveRequest {
                sale: crowd.name(sale),
                ticket: crowd.tickets.sign(&ticket),
                quantity: 1,
                request_id: request_id(),
            };
            let end = ended(&road.call::<Order>(RESERVE, token, &request).await);
            if end == End::Refused {
                crowd.coming().push_back(pair);
            }
            end
        })
    }

    fn name(&self, sale: usize) -> String {
        format!("orgs/{ORG}/sales/{}", self.sales[sale])
    }

    fn coming(&self) -> std::sync::MutexGuard<'_, VecDeque<(usize, usize)>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
