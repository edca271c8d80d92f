//! Chaos: tries to prove Floodgate wrong.
//!
//! - [`plan`]: who comes when and how they behave, drawn from one number. [`identity`]: who they are.
//! - [`told`]: what clients asked and what they were told.
//! - [`judge`]: compares the told log, the provider's file, every Postgres and every Redis, and names each broken
//!   invariant. It knows the planes' stores and messages, and none of their code.
//!
//! - [`load`]: buyers who arrive when the plan says, and measure.
//!
//! - [`report`]: what a run proved, drawn.
//!
//! It sees the planes only through their APIs and stores.

pub mod id;
pub mod identity;
pub mod judge;
pub mod load;
pub mod plan;
pub mod report;
pub mod told;
