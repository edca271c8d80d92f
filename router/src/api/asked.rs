//! A buyer's call for one sale, once it was let in: the bucket, its keeper, the deadline.

use crate::auth::Auth;
use crate::column::{self, Entered, Incoming};
use crate::directory::{Directory, SaleEntry};
use crate::link::{Kind, Links, Process};
use crate::metrics::RouterMetrics;
use crate::quota::Quotas;
use crate::states::{BucketNow, States, decided_phase};
use arc_swap::ArcSwap;
use proto::fault::{Fault, Reason};
use proto::id::{BuyerKey, OrgId, SaleId};
use proto::limits::{CALL_MS_DEFAULT, CALL_MS_MAX};
use proto::token::Role;
use proto::wire::cell::{Call, answer};
use proto::wire::storefront::sale_state::Phase;
use runtime::clock::Clock;
use runtime::server::Proxies;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// When a caller may try again whose bucket nobody keeps at the moment.
const MOVING_MS: u32 = 250;

/// What the services work with.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) clock: Clock,
    pub(crate) directory: ArcSwap<Directory>,
    pub(crate) states: Arc<States>,
    pub(crate) links: Links,
    pub(crate) auth: Auth,
    pub(crate) quotas: Quotas,
    pub(crate) proxies: Proxies,
    pub(crate) metrics: RouterMetrics,
}

/// A buyer's call for one sale, once it was let through.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) sale: Arc<SaleEntry>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) buyer: BuyerKey,
    pub(crate) at: Instant,
    pub(crate) deadline: Instant,
}

impl Edge {
    /// Lets a buyer's call for `orgs/{org}/sales/{sale}` in.
    pub(crate) fn buyer(
        &self,
        call: &Incoming,
        org: &OrgId,
        sale: &SaleId,
    ) -> Result<Asked, Fault> {
        let entered = self.for_sale(call, &[Role::Buyer], (org, sale))?;
        let buyer = entered.theirs.buyer(&entered.caller.subject);
        Ok(asked(call, entered, buyer))
    }

    /// Lets a merchant's call about an order of `buyer` in.
    pub(crate) fn for_buyer(
        &self,
        call: &Incoming,
        org: &OrgId,
        sale: &SaleId,
        buyer: &str,
    ) -> Result<Asked, Fault> {
        let entered = self.for_sale(call, &[Role::Merchant], (org, sale))?;
        let buyer = entered.theirs.buyer(buyer);
        Ok(asked(call, entered, buyer))
    }

    /// Lets a call for a sale of the caller's own org in.
    pub(crate) fn for_sale(
        &self,
        call: &Incoming,
        roles: &[Role],
        name: (&OrgId, &SaleId),
    ) -> Result<Entered<Arc<SaleEntry>>, Fault> {
        self.let_in(call, roles, |directory, caller, _| column::sale(directory, caller, name))
    }

    /// What is known of the buyer's bucket, or why nobody keeps it.
    pub(crate) fn bucket(&self, asked: &Asked) -> Result<(u32, BucketNow), Fault> {
        let number = asked.sale.bucket(asked.buyer);
        let now = number
            .and_then(|number| Some((number, self.states.bucket(asked.sale.id.as_str(), number)?)));
        now.ok_or_else(|| match decided_phase(&asked.sale, self.clock.now_ms()) {
            Phase::Ended => Reason::SaleEnded.into(),
            Phase::Cancelled => Reason::SaleCancelled.into(),
            _ => self
                .not_begun(&asked.sale)
                .unwrap_or_else(|| Fault::later(Reason::BucketMoving, MOVING_MS)),
        })
    }

    /// The process that keeps the buyer's bucket; when that is not known, or it is away, any process of the cell: it answers
    /// for buckets that are at rest, and knows who keeps the others.
    pub(crate) fn keeper(&self, asked: &Asked) -> Result<(u32, Arc<Process>), Fault> {
        let known = self.bucket(asked);
        if let Ok((bucket, now)) = &known
            && now.keeper.is_up()
        {
            return Ok((*bucket, now.keeper.clone()));
        }
        let begun = decided_phase(&asked.sale, self.clock.now_ms()) != Phase::Upcoming;
        let any = asked
            .sale
            .bucket(asked.buyer)
            .filter(|_| begun || known.is_ok())
            .and_then(|bucket| Some((bucket, self.links.any(asked.sale.cell(bucket))?)));
        match any {
            Some(any) => Ok(any),
            None => known.map(|(bucket, now)| (bucket, now.keeper)),
        }
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

    /// Asks a process, and once more whoever it says keeps the bucket.
    pub(crate) async fn ask_where_it_is(
        &self,
        asked: &Asked,
        (kind, process): (Kind, Arc<Process>),
        call: Call,
    ) -> Result<answer::Kind, Fault> {
        let again = call.clone();
        let there = match process.call(kind, in_time(call, asked.deadline), asked.deadline).await? {
            answer::Kind::Elsewhere(there) => there,
            answer => return Ok(answer),
        };
        let bucket = again.bucket;
        let found = self.links.process(asked.sale.cell(bucket), &there.process);
        let other = found.filter(|other| !Arc::ptr_eq(other, &process));
        self.metrics.elsewhere(other.is_some());
        let moving = || Fault::later(Reason::BucketMoving, MOVING_MS);
        let other = other.ok_or_else(moving)?;
        self.states.moved(asked.sale.id.as_str(), bucket, there.epoch, &other);
        match other.call(kind, in_time(again, asked.deadline), asked.deadline).await? {
            // Two who send a call to each other would do so for ever.
            answer::Kind::Elsewhere(_) => Err(moving()),
            answer => Ok(answer),
        }
    }

    /// A process to probe.
    pub(crate) fn process(&self, cell: &str) -> Result<Arc<Process>, Fault> {
        self.links.any(cell).ok_or_else(|| Fault::later(Reason::BucketMoving, MOVING_MS))
    }
}

/// The call with the time that is left of it.
fn in_time(call: Call, deadline: Instant) -> Call {
    let left = deadline.saturating_duration_since(Instant::now());
    Call { time_left_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX), ..call }
}

fn asked(call: &Incoming, entered: Entered<Arc<SaleEntry>>, buyer: BuyerKey) -> Asked {
    let Entered { directory, theirs: sale, .. } = entered;
    Asked { sale, directory, buyer, at: call.at, deadline: deadline(call) }
}

/// When the caller stops waiting.
pub(crate) fn deadline(call: &Incoming) -> Instant {
    let most = Duration::from_millis(CALL_MS_MAX.into());
    let given = runtime::server::deadline(&call.headers);
    call.at + given.unwrap_or(Duration::from_millis(CALL_MS_DEFAULT.into())).min(most)
}

fn wait_ms(ms: u64) -> u32 {
    u32::try_from(ms).unwrap_or(u32::MAX)
}
