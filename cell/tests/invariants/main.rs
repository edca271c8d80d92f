//! The invariants, one test each, on a cell of real processes and real stores that are killed, paused and started again
//! while buyers storm it. `FLOODGATE_SEED` replays a storm's decisions.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "tests; their seeds are printed"
)]

#[path = "../support/audit.rs"]
mod audit;
mod audited;
#[path = "../support/cell.rs"]
mod cell;
#[path = "../support/chain.rs"]
mod chain;
mod deaths;
mod expiry;
mod fitness;
#[path = "../support/found.rs"]
mod found;
#[path = "../support/line.rs"]
mod line;
mod money;
mod moves;
#[path = "../support/planner.rs"]
mod planner;
mod refunds;
mod refusals;
#[path = "../support/sale.rs"]
mod sale;
mod spread;
mod steps;
mod stock;
#[path = "../support/storm.rs"]
mod storm;

use proto::wire::cell::SaleRecord;

/// A sale in which holds run out soon.
fn short_sale(name: &str, units: u32, cap: u32) -> SaleRecord {
    SaleRecord { hold_ttl_ms: 3_000, keeping_ms: 1_000, ..sale::record(name, units, cap) }
}
