//! What every call goes through: the caller, the sale, the quotas, the bucket, the deadline.

use crate::auth::Auth;
use crate::directory::{Directory, SaleEntry};
use crate::link::{Kind, LinkMetrics, Links, again_ms};
use crate::metrics::{CallName, RouterMetrics};
use crate::quota::Quota;
use crate::states::{BucketNow, States, decided_phase};
use arc_swap::ArcSwap;
use http::HeaderMap;
use proto::fault::{Fault, Reason};
use proto::id::{BuyerKey, OrgId, SaleId};
use proto::limits::{CALL_MS_DEFAULT, CALL_MS_MAX};
use proto::token::{Caller, Role};
use proto::wire::cell::{Call, answer, call};
use proto::wire::storefront::sale_state::Phase;
use rand::RngExt;
use runtime::clock::Clock;
use runtime::telemetry::{root, trace};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// What the services work with.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) clock: Clock,
    pub(crate) directory: ArcSwap<Directory>,
    pub(crate) states: Arc<States>,
    pub(crate) links: Links,
    pub(crate) auth: Auth,
    pub(crate) buyers: Quota,
    pub(crate) sales: Quota,
    pub(crate) metrics: RouterMetrics,
    pub(crate) link_metrics: LinkMetrics,
}

/// A buyer's call for one sale, once it was let through.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) sale: Arc<SaleEntry>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) buyer: BuyerKey,
    pub(crate) deadline: Instant,
}

impl Edge {
    /// Runs a call, counts it, and turns a refusal into a status.
    pub(crate) async fn run<T, Answered>(
        &self,
        name: CallName,
        answered: Answered,
    ) -> Result<Response<T>, Status>
    where
        Answered: Future<Output = Result<T, Fault>>,
    {
        let began = Instant::now();
        let answer = answered.await;
        let refused = answer.as_ref().err().map(|fault| fault.reason);
        self.metrics.answered(name, began.elapsed(), refused);
        match answer {
            Ok(answer) => Ok(Response::new(answer)),
            // Everybody in a line is told another time already.
            Err(fault) if fault.reason == Reason::NotAdmitted => Err(fault.into()),
            Err(fault) => Err(spread(fault, rand::rng().random_range(0..=1_000)).into()),
        }
    }

    /// Lets a buyer's call for `orgs/{org}/sales/{sale}` through.
    pub(crate) fn buyer(
        &self,
        headers: &HeaderMap,
        org: &OrgId,
        sale: &SaleId,
    ) -> Result<Asked, Fault> {
        let (directory, caller) = self.caller(headers, &[Role::Buyer])?;
        let sale = self.sale(&directory, &caller, org, sale)?;
        self.buyers.take((&caller.org, &caller.subject))?;
        let buyer = sale.buyer(&caller.subject);
        Ok(Asked { sale, directory, buyer, deadline: deadline(headers) })
    }

    /// Lets a merchant's call about an order of `buyer` through.
    pub(crate) fn for_buyer(
        &self,
        headers: &HeaderMap,
        org: &OrgId,
        sale: &SaleId,
        buyer: &str,
    ) -> Result<Asked, Fault> {
        let (directory, caller) = self.caller(headers, &[Role::Merchant])?;
        let sale = self.sale(&directory, &caller, org, sale)?;
        self.buyers.take((&caller.org, &caller.subject))?;
        let buyer = sale.buyer(buyer);
        Ok(Asked { sale, directory, buyer, deadline: deadline(headers) })
    }

    /// A caller in one of `roles`, and the directory that says so.
    pub(crate) fn caller(
        &self,
        headers: &HeaderMap,
        roles: &[Role],
    ) -> Result<(Arc<Directory>, Arc<Caller>), Fault> {
        let directory = self.directory.load_full();
        let caller = self.auth.caller(headers, roles, &directory, self.clock.now_ms())?;
        Ok((directory, caller))
    }

    /// A sale of the caller's own org.
    pub(crate) fn sale(
        &self,
        directory: &Directory,
        caller: &Caller,
        org: &OrgId,
        sale: &SaleId,
    ) -> Result<Arc<SaleEntry>, Fault> {
        if caller.org.as_ref() != Some(org) {
            return Err(Reason::NotFound.into());
        }
        Ok(directory.sale(org, sale)?.clone())
    }

    /// What is known of the buyer's bucket, or why nobody keeps it.
    pub(crate) fn bucket(&self, asked: &Asked) -> Result<(u32, BucketNow), Fault> {
        let number = asked.sale.bucket(asked.buyer);
        let now = number
            .and_then(|number| Some((number, self.states.bucket(asked.sale.id.as_str(), number)?)));
        now.ok_or_else(|| match decided_phase(&asked.sale, self.clock.now_ms()) {
            Phase::Ended => Reason::SaleEnded.into(),
            Phase::Cancelled => Reason::SaleCancelled.into(),
            _ => self.not_begun(&asked.sale).unwrap_or_else(|| moving(Duration::ZERO)),
        })
    }

    /// Why a sale has not begun to sell, if so: it is not its time, or not all of its cells are ready.
    pub(crate) fn not_begun(&self, sale: &SaleEntry) -> Option<Fault> {
        let (now_ms, start_ms) = (self.clock.now_ms(), sale.record.start_ms);
        (decided_phase(sale, now_ms) == Phase::Upcoming).then(|| {
            match start_ms.checked_sub(now_ms) {
                Some(left_ms) if left_ms > 0 => Fault::later(Reason::SaleNotOpen, wait_ms(left_ms)),
                _ => Reason::SaleNotWarm.into(),
            }
        })
    }

    /// Sends a buyer's call to the keeper of their bucket.
    pub(crate) async fn ask(
        &self,
        asked: &Asked,
        kind: Kind,
        what: call::Kind,
    ) -> Result<answer::Kind, Fault> {
        self.sales.take(asked.sale.id.as_str())?;
        let kind = if asked.sale.standard { Kind::Standard } else { kind };
        let (bucket, process) = self.keeper(asked, kind)?;
        let span = root(|| tracing::info_span!("ask", sale = asked.sale.id.as_str(), bucket));
        let call = Call {
            id: 0,
            time_left_ms: 0,
            traceparent: trace::traceparent_of(&span).unwrap_or_default(),
            sale: asked.sale.id.to_string(),
            bucket,
            buyer: asked.buyer.0.to_vec().into(),
            kind: Some(what),
        };
        let answer = self.reach(asked, (kind, process), &call).await;
        // One bucket has nothing; whether all of the sale has nothing is known here alone.
        match answer {
            Err(fault)
                if fault.reason == Reason::NoUnitNow && self.states.is_sold_out(&asked.sale) =>
            {
                Err(Reason::SoldOut.into())
            }
            answer => answer,
        }
    }
}

/// How a call is refused whose bucket cannot be reached, and could not for so long.
pub(super) fn moving(away: Duration) -> Fault {
    Fault::later(Reason::BucketMoving, again_ms(away))
}

/// A refusal whose time is spread by up to half, lest all who are refused at one moment come back at one.
fn spread(fault: Fault, jitter: u32) -> Fault {
    let more_ms = (fault.retry_after_ms / 2).min(1_000) * jitter / 1_000;
    Fault { retry_after_ms: fault.retry_after_ms.saturating_add(more_ms), ..fault }
}

/// Request headers and message of a call.
pub(crate) fn split<T>(request: Request<T>) -> (HeaderMap, T) {
    let (metadata, _, message) = request.into_parts();
    (metadata.into_headers(), message)
}

/// When the caller stops waiting.
pub(crate) fn deadline(headers: &HeaderMap) -> Instant {
    let most = Duration::from_millis(CALL_MS_MAX.into());
    let given =
        runtime::server::deadline(headers).unwrap_or(Duration::from_millis(CALL_MS_DEFAULT.into()));
    Instant::now() + given.min(most)
}

fn wait_ms(ms: u64) -> u32 {
    u32::try_from(ms).unwrap_or(u32::MAX)
}
