//! The protocol by which a bucket is kept, as pure transitions on plain values: what to do next after what a store said.
//!
//! The stages and the take-over do as they are told here, and the model (`protocol/model.rs`) lets two processes do the
//! same against small stores that lose replies, forget, and grow older, in every order of events.

mod batch;
#[cfg(test)]
mod model;
mod takeover;

pub(crate) use batch::{
    AfterRefusal, Next, Refusal, after, hold_refused, move_refused, said_by_ledger, said_by_redis,
};
pub(crate) use takeover::{Heard, LineNow, Memory, Step, TakeOver, line};
