//! How often something may be done: rates of one subject, or of many that come and go.
//!
//! A rate is kept as one instant a subject: the time up to which it is used up ([`Allowance`]). Instants are nanoseconds
//! since some beginning, and come from outside.

mod allowance;
mod many;

pub use allowance::Allowance;
pub use many::{Memory, Rates};
