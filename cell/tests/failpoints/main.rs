//! Every failpoint, hit while buyers storm a cell of real processes and real stores: the process dies there, or is held
//! there while another takes its bucket over, or loses the reply. Afterwards every invariant must hold. A failpoint of
//! the list that is never hit fails its test. `FLOODGATE_SEED` replays a storm's decisions.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "tests; their seeds are printed"
)]

#[path = "../support/audit.rs"]
mod audit;
#[allow(dead_code, reason = "other tests need the rest of it")]
#[path = "../support/cell.rs"]
mod cell;
#[path = "../support/chain.rs"]
mod chain;
mod desk;
mod fates;
#[path = "../support/found.rs"]
mod found;
mod keeper_paused;
#[allow(dead_code, reason = "other tests need the rest of it")]
#[path = "../support/line.rs"]
mod line;
#[allow(dead_code, reason = "other tests need the rest of it")]
#[path = "../support/planner.rs"]
mod planner;
mod play;
#[path = "../support/sale.rs"]
mod sale;
mod scene;
#[path = "../support/storm.rs"]
mod storm;
