//! A process's memory, looked at while it is attacked.

use std::io;
use std::time::Duration;

use tokio::time::sleep;

/// How much a router may grow.
pub(super) const GROWTH_KIB_MAX: u64 = 64 * 1_024;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Resident memory in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    pub(super) before: u64,
    pub(super) peak: u64,
    pub(super) after: u64,
}

impl Memory {
    /// How far it grew.
    pub(super) fn grown_kib(&self) -> u64 {
        self.peak.saturating_sub(self.before)
    }
}

/// Looks at a process until `work` is done, and once after that.
pub(super) async fn during<T>(pid: u32, work: impl Future<Output = T>) -> io::Result<(T, Memory)> {
    let before = resident_kib(pid)?;
    let mut memory = Memory { before, peak: before, after: before };
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                memory.after = resident_kib(pid)?;
                memory.peak = memory.peak.max(memory.after);
                return Ok((done, memory));
            }
            () = sleep(PAUSE) => memory.peak = memory.peak.max(resident_kib(pid)?),
        }
    }
}

fn resident_kib(pid: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
