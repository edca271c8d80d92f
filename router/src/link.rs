//! The link: how calls reach the processes that keep buckets, many in a frame, over long-lived streams.
//!
//! ```text
//! call ─▶ concurrency: room for its worth? ─▶ shares: its org's queue ─▶ wire: a frame, in fair shares ══▶ process
//! ```
//!
//! Promises: nobody waits to fill a frame, nor behind another org's queue; a call is answered or refused by its deadline,
//! and not sent once that is over; what is too much for a process is refused here, the least worth first; when a stream
//! breaks each of its calls is told so, and sent at most once more, within a budget; a process that fails its calls is
//! asked no more until it answers a probe; a process is dialled again for as long as it is known.
//!
//! - [`nature`] is what is known of each kind of call: its worth, whether it may be sent twice.
//! - [`wire`] is one stream; [`shares`] are its orgs' queues, [`callers`] who waits for what.
//! - [`concurrency`] is how much may be under way at a process, [`pace`] how that follows from round trips.
//! - [`health`] takes a process out and brings it back; [`repeat`] is the budget of repeats.
//! - [`process`] puts these together for one process, [`channel`] reaches it, and [`dial`] keeps them all connected.

mod callers;
mod channel;
mod concurrency;
mod dial;
mod health;
mod metrics;
mod nature;
mod pace;
mod process;
mod repeat;
mod shares;
mod wire;

pub(crate) use dial::Links;
pub(crate) use metrics::{LinkMetrics, Repeat};
pub(crate) use process::{Kind, Process};
pub(crate) use repeat::again_ms;
pub(crate) use wire::{Asking, Miss};
