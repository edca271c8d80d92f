//! The control plane: decides where orgs live and when sales are ready, and writes it down in etcd.
//!
//! ```text
//!  merchants, SREs ──gRPC──▶ api ── auth ── store ──▶ etcd ──▶ routers, cells (they watch)
//!                             │      pure: sale, lifecycle, placement, plan, moves
//!                          executor (on the leader): cells seen, buckets planned, sales warm, units moved, settled
//! ```
//!
//! - [`sale`]: what merchants may ask for, and the record it becomes. [`lifecycle`]: which state a sale shows and what
//!   may be done in it. [`placement`]: an org's cells. [`plan`]: a sale's buckets. [`moves`]: units
//!   that buckets should hand to one another. All pure.
//! - [`store`]: what lies in etcd; every write is a compare-and-swap. `executor`: moves sales along, on one instance at
//!   a time. `quota`, `api`, `auth`, `page`: the gRPC edge. [`config`]: how it is started, [`mod@serve`]: how it is put together.
//!
//! Any instance answers any call. No request of a buyer ever comes here, and nothing that was decided needs this
//! process to happen: it may be gone for hours.

mod api;
mod auth;
pub mod config;
mod executor;
pub mod lifecycle;
mod metrics;
pub mod moves;
mod page;
pub mod placement;
pub mod plan;
mod quota;
pub mod sale;
mod serve;
pub mod store;
mod web;

pub use serve::{ServeError, serve};
