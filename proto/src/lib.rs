//! The language of Floodgate: what its planes say to and promise one another.
//!
//! - [`wire`]: the messages and services generated from `floodgate/*/v1/*.proto`.
//! - [`id`]: names of orgs, sales, buyers, orders, cells and processes.
//! - [`token`]: who a caller is (EdDSA, signed by registered keys).
//! - [`ticket`]: a place in a sale's line (HS256, signed by the cell), or in the line before that, and [`rank`], the order of places.
//! - [`fault`]: the closed list of reasons for which a call is refused, and its one mapping to gRPC.
//! - [`limits`]: every bound of the system. [`invariant`]: what must always hold, by ID.
//! - [`keys`]: where decisions lie in etcd.
//! - [`merkle`]: how the ledger's rows are hashed; [`chain`]: how they are checked, signed for, and shown to somebody else.
//! - [`replay`]: what a bucket's ledger says of its orders and units.
//! - [`codec`]: protobuf with clear errors. [`frame`]: a frame of the link whose calls are read one by one.
//!
//! Nothing here does IO or reads a clock.

pub mod chain;
pub mod codec;
pub mod fault;
pub mod frame;
pub mod id;
pub mod invariant;
mod jws;
pub mod keys;
pub mod limits;
pub mod merkle;
pub mod rank;
pub mod replay;
pub mod ticket;
pub mod token;
pub mod wire;
