//! The edge router: who asks, may they, which bucket, who keeps it; and the answer back.
//!
//! ```text
//! storefront ─▶ api ─▶ column: address ─▶ auth ─▶ quota ─▶ directory ─▶ ticket, gate ─▶ answered here: tickets, states
//!                                                                           └───────▶ link ══ frames ══▶ the keeper
//! ```
//!
//! - [`mod@column`] is what every call goes through, from top to bottom: begin there.
//! - [`api`] are the services, thin: decode, ask, encode.
//! - [`auth`] verifies tokens once and remembers them; [`quota`] bounds addresses, buyers, sales, orgs and everybody;
//!   [`shed`] says what is given up first.
//! - [`directory`] is what the control plane has decided, in the form that calls need; it is read from the last
//!   snapshot, so no call waits for etcd (INV-10).
//! - [`states`] is what keepers say of their buckets, from which tickets and pages are answered.
//! - [`overflow`] is the line before a bucket's line, where buyers stand whose own cell refuses to let them join.
//! - [`watch`] tells all who watch a sale of its changes, encoded once and in slices.
//! - [`link`] carries calls to keepers, many in a frame.
//! - [`web`] says how the services look over HTTP.
//! - [`stack`] puts everything together.

mod api;
mod auth;
mod column;
pub mod config;
mod directory;
mod link;
mod metrics;
mod overflow;
mod quota;
mod shed;
pub mod stack;
mod states;
mod watch;
mod web;
