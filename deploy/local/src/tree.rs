//! Process trees, read from /proc.
//!
//! Postgres' backends lead sessions of their own, so a signal to a process group does not reach them;
//! whoever pauses or kills a whole server must walk its tree. A process is told from a later one with
//! the same number by the time it started.

use std::fs;
use std::path::{Path, PathBuf};

/// A process that was seen in /proc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) pid: i32,
    parent: i32,
    /// Clock ticks since boot.
    started_ticks: u64,
    zombie: bool,
    /// Whether it belongs to somebody's terminal.
    on_terminal: bool,
}

impl Seen {
    /// Looks one process up; `None` when there is none with this number.
    pub(crate) fn look_up(pid: i32) -> Option<Self> {
        parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Whether this very process still runs; a zombie does not.
    pub(crate) fn is_alive(&self) -> bool {
        Self::look_up(self.pid)
            .is_some_and(|now| now.started_ticks == self.started_ticks && !now.zombie)
    }
}

/// Everything that descends from `root`, without `root` itself. Zombies are left out.
pub(crate) fn descendants(root: i32) -> Vec<Seen> {
    let all: Vec<Seen> = pids().filter_map(Seen::look_up).filter(|seen| !seen.zombie).collect();
    let mut found: Vec<Seen> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for child in all.iter().filter(|seen| seen.parent == parent) {
            if !found.contains(child) {
                found.push(*child);
                parents.push(child.pid);
            }
        }
    }
    found
}

/// Every process that works inside `folder`, whoever its parent is: what a server whose main process
/// died alone left behind. Shells of people who look around there are none of that.
pub(crate) fn working_in(folder: &Path) -> Vec<Seen> {
    pids()
        .filter(|pid| {
            fs::read_link(PathBuf::from(format!("/proc/{pid}/cwd")))
                .is_ok_and(|cwd| cwd.starts_with(folder))
        })
        .filter_map(Seen::look_up)
        .filter(|seen| !seen.zombie && !seen.on_terminal)
        .collect()
}

fn pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Reads a line of /proc/PID/stat. The second field is a name in brackets that may hold anything, so
/// counting starts behind the last bracket.
fn parse(pid: i32, stat: &str) -> Option<Seen> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Seen {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        started_ticks: fields.get(19)?.parse().ok()?,
        zombie: matches!(*fields.first()?, "Z" | "X"),
        on_terminal: *fields.get(4)? != "0",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 9000 1 1";
        let expected =
            Seen { pid: 42, parent: 7, started_ticks: 9000, zombie: false, on_terminal: false };
        assert_eq!(parse(42, stat), Some(expected));
    }

    #[test]
    fn this_process_is_alive_and_number_zero_is_nobody() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(Seen::look_up(me).unwrap().is_alive());
        assert_eq!(Seen::look_up(0), None);
    }
}
