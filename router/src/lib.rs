//! The edge router: who asks, may they, which bucket, who keeps it; and the answer back.
//!
//! ```text
//! storefront ─▶ api ─▶ auth ─▶ directory ─▶ quota ─▶ ticket, gate ─▶ answered here: tickets, states
//!                                                          └───────▶ link ══ frames ══▶ the bucket's keeper
//! ```
//!
//! - [`api`] are the services, thin: decode, ask, encode.
//! - [`auth`] verifies tokens once and remembers them; [`quota`] bounds buyers and sales.
//! - [`directory`] is what the control plane has decided, in the form that calls need; it is read from the last
//!   snapshot, so no call waits for etcd (INV-10).
//! - [`states`] is what keepers say of their buckets, from which tickets and pages are answered.
//! - [`link`] carries calls to keepers, many in a frame.
//! - [`web`] says how the services look over HTTP.
//! - [`stack`] puts everything together.

mod api;
mod auth;
pub mod config;
mod directory;
mod link;
mod metrics;
mod quota;
pub mod stack;
mod states;
mod web;
