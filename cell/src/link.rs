//! The link: how routers reach the keepers of this process, many calls in a frame.
//!
//! Promises: a stream is always read, and what there is no room for is refused at once; every call is answered exactly
//! once, in any order; a call that comes too late changes nothing; what one call brings can refuse that call only.

mod call;
mod outbox;
mod server;
mod states;

pub(crate) use call::Asked;
pub(crate) use outbox::{Outbox, Reply};
pub(crate) use server::Link;
pub(crate) use states::States;
