//! The control plane against a real etcd, called as merchants and operators call it. Cells are played by the tests.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod executor;
mod faults;
mod fleet;
mod life;
mod moves;
mod plane;
mod quota;
mod sales;
mod stock;
