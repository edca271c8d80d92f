//! Payment: the provider behind a bulkhead, one for each class of sales.
//!
//! Promises: no more requests are under way or waiting than the limits say, so that a slow provider fills its own pool
//! and nothing else; every request that changes something carries its idempotency key, so that it can be sent again;
//! and an answer that did not come is said to be unknown, never guessed. What follows for an order is [`crate::checkout`]'s.

mod pool;
mod provider;
mod reconcile;

pub(crate) use pool::{Pool, Seat};
pub(crate) use provider::{Charge, Intent, Provider, ProviderError, Status};
pub(crate) use reconcile::reconcile;
