//! A process of a cell, as a router knows it: its streams, and when it was last heard of.

use super::wire::Wire;
use crate::directory::ProcessEntry;
use proto::fault::{Fault, Reason};
use proto::wire::cell::{Call, answer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// What a stream is for. Each has its own, so that joins cannot hold back buying, nor a flash sale everyday commerce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Joining lines of FLASH sales.
    Join,
    /// Buying in FLASH sales.
    Flash,
    /// All calls to STANDARD sales.
    Standard,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Kind; 3] = [Kind::Join, Kind::Flash, Kind::Standard];
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) entry: ProcessEntry,
    wires: [Arc<Wire>; 3],
    begin: Instant,
    /// Milliseconds since `begin` at which it was last heard of, plus one; 0 for never.
    heard_ms: AtomicU64,
}

impl Process {
    /// A process that was not reached yet.
    pub(crate) fn new(entry: ProcessEntry) -> Process {
        let wires = Kind::ALL.map(|_| Arc::default());
        Process { entry, wires, begin: Instant::now(), heard_ms: AtomicU64::new(0) }
    }

    /// Sends a call and waits for its answer. A refusal by the process is an answer like any other: `Err`.
    pub(crate) async fn call(
        &self,
        kind: Kind,
        call: Call,
        deadline: Instant,
    ) -> Result<answer::Kind, Fault> {
        match self.wire(kind).call(call, deadline).await? {
            answer::Kind::Refusal(refusal) => {
                let reason = Reason::from_number(refusal.reason).unwrap_or(Reason::Internal);
                Err(Fault { reason, retry_after_ms: refusal.retry_after_ms, field: None })
            }
            answer => Ok(answer),
        }
    }

    /// The stream of a kind.
    pub(super) fn wire(&self, kind: Kind) -> &Arc<Wire> {
        let [join, flash, standard] = &self.wires;
        match kind {
            Kind::Join => join,
            Kind::Flash => flash,
            Kind::Standard => standard,
        }
    }

    /// Whether any stream is up.
    pub(crate) fn is_up(&self) -> bool {
        self.wires.iter().any(|wire| wire.is_up())
    }

    /// It gave a sign of life.
    pub(super) fn heard(&self) {
        self.heard_ms.store(self.now_ms() + 1, Ordering::Relaxed);
    }

    /// For how long it has been silent.
    pub(crate) fn silence(&self) -> Duration {
        match self.heard_ms.load(Ordering::Relaxed) {
            0 => Duration::MAX,
            heard_ms => Duration::from_millis(self.now_ms().saturating_sub(heard_ms - 1)),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
