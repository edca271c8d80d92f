//! The rate of one subject that is always there: an org, or everybody. One word, no lock.

use crate::shed::Worth;
use runtime::rate::Allowance;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    used_ns: AtomicU64,
}

impl Rate {
    /// Counts a call, or says how long it must wait.
    pub(super) fn take(&self, allowance: Allowance, now_ns: u64, worth: Worth) -> Result<(), u64> {
        let mut used_ns = self.used_ns.load(Ordering::Relaxed);
        loop {
            let next_ns = allowance.step(used_ns, now_ns, worth.bears())?;
            let swapped = self.used_ns.compare_exchange_weak(
                used_ns,
                next_ns,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match swapped {
                Ok(_) => return Ok(()),
                Err(newer_ns) => used_ns = newer_ns,
            }
        }
    }
}
