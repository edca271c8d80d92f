//! The services, thin: who asks, what for, and the answer in the words of the API.

mod ask_again;
mod asked;
mod line;
mod money;
mod order;
mod probe;
mod reach;
mod storefront;
mod ticket;

pub(crate) use asked::{Asked, Edge};
pub(crate) use probe::ProbeApi;
pub(crate) use storefront::StorefrontApi;

/// A span of time as the API writes it.
pub(crate) fn duration_ms(ms: u64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(ms / 1_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(ms % 1_000).unwrap_or(0) * 1_000_000,
    }
}
