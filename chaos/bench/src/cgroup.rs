//! A CPU cgroup: so much of a processor for some processes and all that they start, whatever the machine has left.
//! cgroups of version 1 and 2 are known.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The time over which a share is measured out: short, so that whoever used it up waits for milliseconds only.
const PERIOD_US: u32 = 10_000;
const PROCESSES: &str = "cgroup.procs";

/// A group, until it is dropped: then its processes are free again.
#[derive(Debug)]
pub(crate) struct CpuGroup {
    folder: PathBuf,
    /// Where processes go when it ends.
    parent: PathBuf,
}

impl CpuGroup {
    /// Makes one that may use `permille` thousandths of one processor.
    pub(crate) fn new(permille: u32) -> Result<CpuGroup> {
        let mounts = std::fs::read_to_string("/proc/mounts")?;
        let Some(Mount { folder: parent, version }) = mount(&mounts) else {
            anyhow::bail!("no cgroup of processors is mounted")
        };
        let folder = parent.join(format!("floodgate-bench-{}", std::process::id()));
        std::fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        let group = CpuGroup { folder, parent };
        let quota_us = PERIOD_US / 1_000 * permille;
        match version {
            Version::One => {
                group.write("cpu.cfs_period_us", &PERIOD_US.to_string())?;
                group.write("cpu.cfs_quota_us", &quota_us.to_string())?;
            }
            Version::Two => {
                // Where it is delegated already this changes nothing, and where it cannot be, the next line says so.
                std::fs::write(group.parent.join("cgroup.subtree_control"), "+cpu").ok();
                group.write("cpu.max", &format!("{quota_us} {PERIOD_US}"))?;
            }
        }
        Ok(group)
    }

    /// Puts a process and all that descend from it into the group.
    pub(crate) fn add(&self, pid: u32) -> Result<()> {
        let mut inside = vec![pid];
        self.write(PROCESSES, &pid.to_string())?;
        loop {
            // What is started by a process that is in is in; so there is less to find each time.
            let found = parents()?
                .into_iter()
                .find(|(child, parent)| inside.contains(parent) && !inside.contains(child));
            let Some((child, _)) = found else { return Ok(()) };
            // One that has ended meanwhile needs nothing.
            self.write(PROCESSES, &child.to_string()).ok();
            inside.push(child);
        }
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        let path = self.folder.join(file);
        std::fs::write(&path, value).with_context(|| format!("write {value} to {}", path.display()))
    }
}

impl Drop for CpuGroup {
    fn drop(&mut self) {
        let inside = std::fs::read_to_string(self.folder.join(PROCESSES)).unwrap_or_default();
        for pid in inside.lines() {
            // One that has ended meanwhile needs nothing.
            std::fs::write(self.parent.join(PROCESSES), pid).ok();
        }
        // A group that stays is empty and does nothing.
        std::fs::remove_dir(&self.folder).ok();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    folder: PathBuf,
    version: Version,
}

/// Where processors are shared out: the first version's own tree if there is one, because then the second has nothing
/// to say about them.
fn mount(mounts: &str) -> Option<Mount> {
    let fields = |line: &str| -> Option<(PathBuf, String, String)> {
        let mut fields = line.split(' ').skip(1).map(str::to_owned);
        Some((Path::new(&fields.next()?).to_owned(), fields.next()?, fields.next()?))
    };
    let all: Vec<_> = mounts.lines().filter_map(fields).collect();
    let one = all.iter().find(|(_, kind, options)| {
        kind == "cgroup" && options.split(',').any(|option| option == "cpu")
    });
    let two = all.iter().find(|(_, kind, _)| kind == "cgroup2");
    one.map(|(folder, ..)| Mount { folder: folder.clone(), version: Version::One })
        .or_else(|| two.map(|(folder, ..)| Mount { folder: folder.clone(), version: Version::Two }))
}

/// Every process with the one that started it.
fn parents() -> Result<Vec<(u32, u32)>> {
    let parent = |pid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything; state and parent follow it.
        text.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let pids = std::fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(|pid| Some((pid, parent(pid)?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str =
        "sysfs /sys sysfs rw,nosuid 0 0\ntmpfs /sys/fs/cgroup tmpfs rw,mode=755 0 0\n";
    const ONE: &str = "cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\n\
                       cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0\n";
    const TWO: &str = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";

    #[test]
    fn processors_are_shared_out_in_one_tree() {
        let found = |mounts: &[&str]| {
            mount(&mounts.concat()).map(|mount| (mount.folder.display().to_string(), mount.version))
        };
        let one = Some(("/sys/fs/cgroup/cpu,cpuacct".to_owned(), Version::One));
        let two = Some(("/sys/fs/cgroup/unified".to_owned(), Version::Two));
        assert_eq!(found(&[BASE]), None);
        assert_eq!(found(&[BASE, ONE]), one);
        assert_eq!(found(&[BASE, TWO]), two);
        assert_eq!(found(&[BASE, TWO, ONE]), one);
        let elsewhere = "cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\n";
        assert_eq!(found(&[BASE, elsewhere, TWO]), two);
        assert_eq!(found(&["odd\n", ""]), None);
    }
}
