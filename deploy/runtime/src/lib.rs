//! How a Floodgate process is born, observed and stopped.
//!
//! A router, a cell process and the control plane differ in what they do, not in how they live:
//!
//! - [`config`]: the flags and variables that all planes share; mistakes exit with 64.
//! - [`process`]: runtime threads, telemetry, ports, then the plane, then the drain. A plane's `main`
//!   is a call of [`process::run`].
//! - [`drain`]: everything that runs is spawned on a [`drain::Drain`], told to end, and waited for.
//! - [`readiness`] and [`admin`]: `/metrics`, `/livez`, `/readyz`.
//! - [`server`]: how calls arrive, with every limit of HTTP/2 set. [`tls`]: under which names, and from whom.
//!   [`web`]: what else is spoken there than gRPC.
//! - [`telemetry`] and [`metric`]: JSON logs, sampled traces, and metrics that cost an addition.
//! - [`decisions`]: what the control plane last wrote to etcd, known even when etcd is gone;
//!   [`lease`]: a key there that says that this process lives.
//! - [`rate`]: how often somebody may do something.
//! - [`clock`]: the only reader of the wall clock.
//!
//! Nothing here knows what a sale is.

pub mod admin;
mod backoff;
pub mod clock;
pub mod config;
pub mod decisions;
pub mod drain;
pub mod etcd;
pub mod lease;
pub mod metric;
pub mod process;
pub mod rate;
pub mod readiness;
pub mod server;
pub mod telemetry;
pub mod tls;
pub mod web;
