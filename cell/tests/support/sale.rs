//! A sale as the control plane would decide it.

use proto::wire::admin::sale::Class;
use proto::wire::cell::{BucketPlan, SaleRecord, sale_record};

/// The first unit number of every bucket here.
pub(crate) const FIRST_UNIT: u32 = 100;

/// A sale that has opened long ago and goes on for long, with one bucket in `cell-1`.
pub(crate) fn record(sale: &str, units: u32, cap: u32) -> SaleRecord {
    SaleRecord {
        org: "acme".into(),
        sale: sale.into(),
        class: Class::Flash.into(),
        stock: units,
        cap,
        price_minor: 1_999,
        currency: "EUR".into(),
        start_ms: 1_000,
        end_ms: 32_503_680_000_000,
        hold_ttl_ms: 600_000,
        admission_rate: 100_000,
        keeping_ms: 60_000,
        state: sale_record::State::Warm.into(),
        revision: 1,
        buyer_key: vec![7; 32],
        buckets: vec![BucketPlan { cell: "cell-1".into(), first_unit: FIRST_UNIT, units }],
        update_ms: 1,
        ..SaleRecord::default()
    }
}
