//! Starts and hurts real servers on one machine: etcd, Redis, Postgres, a payment provider, planes.
//!
//! A [`Stack`] is one run folder and the servers started in it, by name, on free ports. Servers die with
//! it, and with its process, even when that is SIGKILLed. Tests, the demo and every drill use it.
//!
//! What it does not do: it restarts nothing by itself, and it runs on Linux only (process trees are read
//! from /proc, children are tied to their parent by `setpriv`).

mod authority;
mod binaries;
pub mod control;
mod endpoint;
mod error;
mod etcd;
mod failpoints;
mod faults;
mod folder;
mod http;
mod key;
mod options;
mod packages;
mod plane;
mod platform;
mod ports;
mod postgres;
mod probe;
mod process;
mod provider;
mod redis;
mod relay;
mod server;
mod stack;
mod tree;

pub use authority::{Authority, CertificateFiles};
pub use binaries::PlaneBinaries;
pub use endpoint::Endpoint;
pub use error::LocalError;
pub use failpoints::{Failpoint, FailpointAction, FailpointKind, Failpoints};
pub use faults::Faults;
pub use key::KeyFiles;
pub use options::StackOptions;
pub use packages::{Package, ensure as ensure_packages};
pub use plane::PlaneSpec;
pub use platform::{PlaneExtras, Platform, PlatformPlan};
pub use relay::Relay;
pub use server::{ServerState, UnexpectedExit};
pub use stack::Stack;
