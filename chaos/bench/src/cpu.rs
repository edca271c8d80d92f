//! Processor time of processes, from /proc.

use anyhow::{Context, Result};

/// Clock ticks a second in /proc, the same on every Linux that we know.
const TICKS_PER_S: f64 = 100.0;

/// Seconds of user and system time that the processes have used.
pub(crate) fn used_s(pids: &[u32]) -> Result<f64> {
    pids.iter().map(|&pid| one(pid)).sum()
}

fn one(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything; fields are counted behind it.
    let (_, fields) = text.rsplit_once(") ").context("an odd /proc/pid/stat")?;
    let mut times = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
    let (user, system) = (times.next().context("no utime")??, times.next().context("no stime")??);
    Ok((user + system) / TICKS_PER_S)
}
