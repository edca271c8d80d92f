//! Chaos: tries to prove Floodgate wrong.
//!
//! - [`plan`]: who comes when and how they behave, drawn from one number. [`identity`]: who they are.
//! - [`load`]: buyers who arrive when the plan says, and measure. [`told`]: what they asked and were told.
//! - [`judge`]: compares the told log, the provider's file, every Postgres and every Redis, and names each broken
//!   invariant. It knows the planes' stores and messages, and none of their code.
//! - [`demo`]: a whole platform with a mega-sale. [`drill`]: a fault in the middle of it. [`report`]: what it proved.
//! - [`attack`]: peers that do not buy, and what becomes of them and of the router.
//! - [`arena`]: one platform and many trials of one drill, each on a sale of its own.
//!
//! It sees the planes only through their APIs and stores.

pub mod arena;
pub mod attack;
pub mod demo;
pub mod drill;
pub mod id;
pub mod identity;
pub mod judge;
pub mod load;
pub mod plan;
pub mod report;
mod scene;
pub mod told;
