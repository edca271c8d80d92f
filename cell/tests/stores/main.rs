//! The ledger and the inventory on a real Postgres and a real Redis: every transition, every refusal, every repetition.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "tests; their seeds are printed"
)]

#[path = "../support/chain.rs"]
mod chain;
mod grants;
mod holds;
mod inventory;
mod isolation;
mod leaving;
mod loads;
mod model;
mod moves;
mod redis_user;
mod refunds;
#[path = "../support/sale.rs"]
mod sale;
mod settings;
mod settles;
mod shares;
mod stale;
#[path = "../support/stores.rs"]
mod stores;
