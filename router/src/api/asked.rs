//! A buyer's call for one sale, once it was let in: the bucket, the deadline.

use crate::auth::Auth;
use crate::column::{self, Entered, Incoming};
use crate::directory::{Directory, SaleEntry};
use crate::link::{LinkMetrics, Links, again_ms};
use crate::metrics::RouterMetrics;
use crate::quota::Quotas;
use crate::states::{BucketNow, States, decided_phase};
use arc_swap::ArcSwap;
use proto::fault::{Fault, Reason};
use proto::id::{BuyerKey, OrgId, SaleId};
use proto::limits::{CALL_MS_DEFAULT, CALL_MS_MAX};
use proto::token::Role;
use proto::wire::storefront::sale_state::Phase;
use runtime::clock::Clock;
use runtime::server::Proxies;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

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
    pub(crate) link_metrics: LinkMetrics,
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
}

/// How a call is refused whose bucket cannot be reached, and could not for so long.
pub(super) fn moving(away: Duration) -> Fault {
    Fault::later(Reason::BucketMoving, again_ms(away))
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
