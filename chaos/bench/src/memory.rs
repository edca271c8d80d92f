//! Memory and limits of processes, from /proc.

use anyhow::{Context, Result};

/// Bytes of memory that a process has in use.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib = line.trim().trim_end_matches("kB").trim().parse::<u64>()?;
    Ok(kib * 1024)
}

/// How many files a process may have open.
pub(crate) fn open_files_max(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()).context("no limit of files")?;
    Ok(soft.parse().unwrap_or(u64::MAX))
}
