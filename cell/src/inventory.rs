//! The inventory: which units a bucket may try to sell next, in the cell's Redis, one function call a batch.
//!
//! Redis grants the right to try; the ledger decides. Promises: a granted unit is granted to nobody else, a batch whose
//! answer was lost is answered again the same way, and a Redis that has forgotten or remembers something older is
//! noticed before it grants anything. It keeps nothing on disk: what it should know is loaded from Postgres.

mod connection;
mod functions;
mod keys;
mod load;
mod look;
mod moves;
mod settings;

#[cfg(feature = "drills")]
pub(crate) use connection::LIBRARY;
pub use connection::{Inventory, InventoryError};
pub use functions::{Grant, HoldTry, JoinTry, Joined, Settled, What};
pub use keys::BucketKeys;
pub use load::{Before, LineHint, LoadPlan, close, fill, forget, load, open, remove};
pub use look::Looked;
pub use settings::ServerInfo;
