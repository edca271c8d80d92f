//! Fuzzing: whatever reads bytes of strangers, and what must be so whatever they send.
//!
//! A target is one function of bytes, which panics when a promise is broken: what is read can be written and is read the
//! same, nobody is believed who was not signed for, and memory and work grow with the bytes and no faster. The very same
//! function is driven by libFuzzer (`make fuzz`, see `engine/`) and by the replay of its corpus (`make test`).
//!
//! - [`token`], [`ticket`]: who calls, and a place in line.
//! - [`json`]: requests over HTTP, also as gRPC-Web, up to the message of the call.
//! - [`link`]: frames of calls between routers and cells, and what comes back.
//! - [`meter`]: what an HTTP/2 peer sends, frame by frame.
//! - [`ledger`], [`receipt`], [`proof`]: what is shown to somebody who has nothing but a public key.
//! - [`corpus`]: the inputs that are kept, made by the product's own encoders or found by fuzzing.
//!
//! What a plane keeps to itself is taken in by the path of its file, so that nothing becomes public for the sake of this.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a target is a test: it panics when a promise is broken"
)]
#![allow(
    clippy::duplicate_mod,
    reason = "tests of files that are taken in have modules of their own"
)]

mod bounded;
pub mod corpus;
mod edits;
pub mod json;
pub mod ledger;
pub mod link;
pub mod meter;
pub mod proof;
pub mod receipt;
pub mod ticket;
pub mod token;

/// An input by its name.
pub type Seed = (&'static str, Vec<u8>);

/// A function that promises something of all bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Tries one input.
    ///
    /// # Panics
    /// When a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs to begin with: good ones by the product's own encoders, and bad ones by hand.
    pub seeds: fn() -> Vec<Seed>,
    /// Bytes of the longest input that makes sense; somewhat beyond the product's own limit.
    pub bytes_max: usize,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "token", run: token::token, seeds: token::seeds, bytes_max: 2_304 },
    Target { name: "ticket", run: ticket::ticket, seeds: ticket::seeds, bytes_max: 640 },
    Target { name: "json", run: json::json, seeds: json::seeds, bytes_max: 40_960 },
    Target { name: "link", run: link::link, seeds: link::seeds, bytes_max: 8_192 },
    Target { name: "meter", run: meter::meter, seeds: meter::seeds, bytes_max: 4_096 },
    Target { name: "ledger", run: ledger::ledger, seeds: ledger::seeds, bytes_max: 16_384 },
    Target { name: "receipt", run: receipt::receipt, seeds: receipt::seeds, bytes_max: 16_384 },
    Target { name: "proof", run: proof::proof, seeds: proof::seeds, bytes_max: 256 },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
