//! The link: how calls reach the processes that keep buckets, many in a frame, over long-lived streams.
//!
//! Promises: nobody waits to fill a frame; a call is answered or refused by its deadline; when a stream breaks its calls
//! are refused and none is sent twice; a process is dialled again for as long as it is known.

mod channel;
mod dial;
mod process;
mod wire;

pub(crate) use dial::Links;
pub(crate) use process::{Kind, Process};
