//! A sale and its buyers, who have joined and reserve one after the other.

use super::scene;
use crate::calls::{Line, Refused, bearer, ended};
use crate::open::End;
use crate::platform::request_id;
use anyhow::{Result, bail};
use futures_util::future::try_join_all;
use http::HeaderValue;
use proto::wire::storefront::{JoinRequest, Order, ReserveRequest, Ticket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tonic::Code;

const JOIN: &str = "/floodgate.storefront.v1.StorefrontService/Join";
const RESERVE: &str = "/floodgate.storefront.v1.StorefrontService/Reserve";
/// Joins under way at a time, before anything is measured.
const JOINING: usize = 256;
/// How long whoever is refused then waits.
const AGAIN: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(crate) struct Lane {
    sale: String,
    /// Tokens and tickets.
    buyers: Vec<(HeaderValue, String)>,
    next: AtomicUsize,
}

/// Tokens of so many buyers of an org.
pub(crate) fn tokens(org: &str, count: usize) -> Result<Vec<HeaderValue>> {
    let key = scene::key()?;
    (0..count).map(|number| bearer(&scene::buyer(&key, org, &format!("b{number}")))).collect()
}

impl Lane {
    /// Lets everybody join.
    pub(crate) async fn join(lines: &[Line], sale: String, tokens: &[HeaderValue]) -> Result<Lane> {
        let next = AtomicUsize::new(0);
        let request = JoinRequest { sale: sale.clone() };
        let joined = try_join_all((0..JOINING).map(|_| async {
            let mut joined = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(token) = tokens.get(number) else { return Ok(joined) };
                let line = &lines[number % lines.len()];
                let ticket = loop {
                    match line.call::<Ticket>(JOIN, token, &request).await {
                        Ok(ticket) => break ticket.ticket,
                        Err(error) => match error.downcast_ref::<Refused>() {
                            Some(Refused(Code::Unavailable | Code::ResourceExhausted, _)) => {
                                tokio::time::sleep(AGAIN).await;
                            }
                            _ => bail!("a buyer of {sale} cannot join: {error}"),
                        },
                    }
                };
                joined.push((token.clone(), ticket));
            }
        }))
        .await?;
        let buyers = joined.into_iter().flatten().collect();
        Ok(Lane { sale, buyers, next: AtomicUsize::new(0) })
    }

    /// The next buyer's reserve, on one of these connections.
    pub(crate) fn reserve(
        self: &Arc<Lane>,
        lines: &[Line],
    ) -> impl Future<Output = End> + Send + use<> {
        let (lane, line, number) = self.next(lines);
        async move {
            let (token, ticket) = &lane.buyers[number];
            let request = ReserveRequest {
                sale: lane.sale.clone(),
                ticket: ticket.clone(),
                quantity: 1,
                request_id: request_id(),
            };
            ended(&line.call::<Order>(RESERVE, token, &request).await)
        }
    }

    /// A buyer joins once more.
    pub(crate) fn join_again(
        self: &Arc<Lane>,
        lines: &[Line],
    ) -> impl Future<Output = End> + Send + use<> {
        let (lane, line, number) = self.next(lines);
        async move {
            let request = JoinRequest { sale: lane.sale.clone() };
            ended(&line.call::<Ticket>(JOIN, &lane.buyers[number].0, &request).await)
        }
    }

    fn next(self: &Arc<Lane>, lines: &[Line]) -> (Arc<Lane>, Line, usize) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (self.clone(), lines[number % lines.len()].clone(), number % self.buyers.len())
    }
}
