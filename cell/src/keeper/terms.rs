//! A sale as a keeper needs it: from its record in etcd, read once.

use crate::admission::Pace;
use proto::fault::{Fault, Reason};
use proto::limits::ADMISSION_BURST_MS;
use proto::wire::admin::sale::Class;
use proto::wire::cell::{SaleRecord, sale_record};
use proto::wire::storefront::sale_state::Phase;

/// The decided part of a sale.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SaleTerms {
    pub(crate) record: SaleRecord,
    /// This bucket's share of the sale's admission rate, in tickets per 1000 s.
    per_1000_s: u64,
}

impl SaleTerms {
    /// The terms for bucket `number`. None: the record does not plan such a bucket.
    pub(crate) fn new(record: SaleRecord, number: u32) -> Option<SaleTerms> {
        let plan = record.buckets.get(usize::try_from(number).ok()?)?;
        let rate = u64::from(record.admission_rate) * 1_000;
        let per_1000_s = rate * u64::from(plan.units) / u64::from(record.stock.max(1));
        Some(SaleTerms { per_1000_s: per_1000_s.max(1), record })
    }

    /// Whether it is everyday commerce.
    pub(crate) fn is_standard(&self) -> bool {
        self.record.class == i32::from(Class::Standard)
    }

    /// What it is at `now_us` by Postgres' clock.
    pub(crate) fn phase(&self, now_us: i64) -> Phase {
        let now_ms = u64::try_from(now_us / 1_000).unwrap_or(0);
        match self.record.state() {
            sale_record::State::Cancelled => Phase::Cancelled,
            sale_record::State::Settled => Phase::Ended,
            _ if now_ms >= self.record.end_ms => Phase::Ended,
            sale_record::State::Warm if self.record.paused => Phase::Paused,
            sale_record::State::Warm if now_ms >= self.record.start_ms => Phase::Open,
            _ => Phase::Upcoming,
        }
    }

    /// Why nothing can be held at `now_us`, if so.
    pub(crate) fn closed(&self, now_us: i64) -> Option<Fault> {
        let now_ms = u64::try_from(now_us / 1_000).unwrap_or(0);
        match self.phase(now_us) {
            Phase::Open => None,
            Phase::Paused => Some(Reason::SalePaused.into()),
            Phase::Ended => Some(Reason::SaleEnded.into()),
            Phase::Cancelled => Some(Reason::SaleCancelled.into()),
            Phase::Upcoming | Phase::Unspecified if now_ms >= self.record.start_ms => {
                Some(Reason::SaleNotWarm.into())
            }
            Phase::Upcoming | Phase::Unspecified => {
                let wait_ms = u32::try_from(self.record.start_ms - now_ms).unwrap_or(u32::MAX);
                Some(Fault::later(Reason::SaleNotOpen, wait_ms))
            }
        }
    }

    /// How fast the gate may move.
    pub(crate) fn pace(&self) -> Pace {
        // A line that is slower than a ticket in that time must be able to save up for a whole one.
        let ticket_us = 1_000_000_000_u64.div_ceil(self.per_1000_s);
        Pace {
            per_1000_s: self.per_1000_s,
            burst_us: ticket_us.max(ADMISSION_BURST_MS * 1_000).cast_signed(),
            keeping_us: i64::from(self.record.keeping_ms) * 1_000,
        }
    }

    /// Price times `quantity`, in the currency's minor unit.
    pub(crate) fn amount_minor(&self, quantity: u32) -> i64 {
        self.record.price_minor.saturating_mul(quantity.into())
    }
}
