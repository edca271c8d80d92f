//! Quotas: how many calls a second one address, buyer, sale and org may make at this router, and all of them together.
//!
//! A rate is kept as one instant a subject: the time up to which it is used up ([`runtime::rate`]). What many share (an org's
//! rate, everybody's) is not used up by what matters least: under pressure calls are given up in their order of worth
//! ([`crate::shed`]). Memory is bounded: by the orgs that are registered, and by a named number of addresses, buyers and
//! sales.
//!
//! Each router counts by itself. Behind a balancer a subject has its rate once at each.

mod one;

use crate::directory::OrgEntry;
use crate::shed::{self, Permille, Worth};
use proto::fault::{Fault, Reason};
use proto::limits::{
    ADDRESS_BAD_TOKEN_CALLS, CALLS_UNDER_WAY_MAX, QUOTA_BURST_MS, QUOTA_SHARED_RETRY_MS,
    SUBJECTS_REMEMBERED_MAX, SUBJECTS_SWEEP_MS,
};
use proto::token::Caller;
use runtime::rate::{Allowance, Memory, Rates};
use runtime::server::Source;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

pub(crate) use one::Rate;

/// Calls a second; 0 means as many as come, except for buyers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) address: u32,
    pub(crate) buyer: u32,
    pub(crate) buyer_burst: u32,
    pub(crate) sale: u32,
    /// Of an org whose record says nothing else.
    pub(crate) org: u32,
    pub(crate) all: u32,
}

/// What is used up of every rate.
#[derive(Debug)]
pub(crate) struct Quotas {
    begin: Instant,
    addresses: Option<Rates>,
    buyers: Rates,
    sales: Option<Rates>,
    org: u32,
    all: (Option<Allowance>, Rate),
    under_way: AtomicUsize,
}

/// A call that is under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Quotas {
    /// Nothing is used up yet.
    pub(crate) fn new(limits: Limits) -> Quotas {
        let Limits { address, buyer, buyer_burst, sale, org, all } = limits;
        Quotas {
            begin: Instant::now(),
            addresses: shared(address).map(remembered),
            buyers: remembered(Allowance::new(buyer, buyer_burst)),
            sales: shared(sale).map(remembered),
            org,
            all: (shared(all), Rate::default()),
            under_way: AtomicUsize::new(0),
        }
    }

    /// Counts a call as under way.
    pub(crate) fn enter(&self) -> UnderWay<'_> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(&self.under_way)
    }

    /// An instant as rates are kept.
    pub(crate) fn now_ns(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.begin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether anybody needs to know where calls come from.
    pub(crate) fn counts_addresses(&self) -> bool {
        self.addresses.is_some()
    }

    /// A call from an address.
    pub(crate) fn address(&self, address: Option<IpAddr>, now_ns: u64) -> Result<(), Fault> {
        let (Some(rates), Some(address)) = (&self.addresses, address) else { return Ok(()) };
        let taken = rates.take(Source::from(address), now_ns);
        taken.map_err(|wait_ns| crowded(Reason::AddressRate, wait_ns))
    }

    /// That call came with a token that nobody's key had signed: to find that out cost as much as many calls do.
    pub(crate) fn bad_token(&self, address: Option<IpAddr>, now_ns: u64) {
        if let (Some(rates), Some(address)) = (&self.addresses, address) {
            rates.charge(Source::from(address), ADDRESS_BAD_TOKEN_CALLS, now_ns);
        }
    }

    /// A call of a buyer, or of a merchant.
    pub(crate) fn buyer(&self, caller: &Caller, now_ns: u64) -> Result<(), Fault> {
        let taken = self.buyers.take((&caller.org, &caller.subject), now_ns);
        taken.map_err(|wait_ns| Fault::later(Reason::BuyerRate, wait_ms(wait_ns)))
    }

    /// A call that is passed on to a sale's cells.
    pub(crate) fn sale(&self, sale: &str, now_ns: u64) -> Result<(), Fault> {
        let Some(rates) = &self.sales else { return Ok(()) };
        rates.take(sale, now_ns).map_err(|wait_ns| crowded(Reason::SaleRate, wait_ns))
    }

    /// A call of an org.
    pub(crate) fn org(&self, org: &OrgEntry, worth: Worth, now_ns: u64) -> Result<(), Fault> {
        let per_s = if org.calls_per_s > 0 { org.calls_per_s } else { self.org };
        let Some(allowance) = shared(per_s) else { return Ok(()) };
        let taken = org.rate.take(allowance, now_ns, worth);
        taken.map_err(|wait_ns| crowded(Reason::OrgRate, wait_ns))
    }

    /// A call of anybody.
    pub(crate) fn all(&self, worth: Worth, now_ns: u64) -> Result<(), Fault> {
        if !shed::passes(self.occupied(), worth) {
            return Err(Fault::later(Reason::Overloaded, QUOTA_SHARED_RETRY_MS));
        }
        let (Some(allowance), rate) = &self.all else { return Ok(()) };
        let taken = rate.take(*allowance, now_ns, worth);
        taken.map_err(|wait_ns| crowded(Reason::Overloaded, wait_ns))
    }

    /// How many of the calls that may be under way are.
    fn occupied(&self) -> Permille {
        let calls = self.under_way.load(Ordering::Relaxed).min(CALLS_UNDER_WAY_MAX);
        u32::try_from(calls * 1_000 / CALLS_UNDER_WAY_MAX).unwrap_or(1_000)
    }
}

/// A rate that many use at the same time, with a burst of [`QUOTA_BURST_MS`]; none: as many as come.
fn shared(per_s: u32) -> Option<Allowance> {
    let burst = u64::from(per_s) * QUOTA_BURST_MS / 1_000;
    (per_s > 0).then(|| Allowance::new(per_s, u32::try_from(burst).unwrap_or(u32::MAX)))
}

/// One rate for each of as many subjects as are remembered.
fn remembered(allowance: Allowance) -> Rates {
    let sweep_every = Duration::from_millis(SUBJECTS_SWEEP_MS);
    Rates::new(allowance, Memory { subjects_max: SUBJECTS_REMEMBERED_MAX, sweep_every })
}

/// A refusal of one of many: the next place is free at once and not for all of them.
fn crowded(reason: Reason, wait_ns: u64) -> Fault {
    Fault::later(reason, wait_ms(wait_ns).max(QUOTA_SHARED_RETRY_MS))
}

fn wait_ms(wait_ns: u64) -> u32 {
    u32::try_from(wait_ns.div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests;
