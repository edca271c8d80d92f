//! A small file system for a Postgres' log, so that there can be no room left on it. Only root may mount one.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::user;
use crate::{LocalError, Stack};

/// What takes the room away.
const BALLAST: &str = "ballast";

/// Bytes of ballast that are written at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// A mounted file system. Dropping it takes it away, with what is on it.
#[derive(Debug)]
pub(crate) struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

/// Moves the log of a Postgres that is down to a file system of its own, of so many bytes.
pub(crate) fn move_wal(folder: &Path, bytes_max: u64) -> Result<Mount, LocalError> {
    let place = folder.join("wal");
    let doing = || LocalError::io(format!("move the log to {}", place.display()));
    fs::create_dir_all(&place).map_err(doing())?;
    let owner = user().unwrap_or("root");
    let id = |what| {
        let output = Command::new("id").args([what, owner]).output().map_err(doing())?;
        Ok::<_, LocalError>(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let options = format!("size={bytes_max},mode=0700,uid={},gid={}", id("-u")?, id("-g")?);
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &options, "floodgate-wal"]).arg(&place);
    let output = mount.output().map_err(doing())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(LocalError::NotHere(format!("no file system can be mounted ({said})")));
    }
    let mount = Mount(place.clone());
    let log = folder.join("data/pg_wal");
    let mut copy = Command::new("cp");
    copy.args(["-a", "-T"]).arg(&log).arg(place.join("pg_wal"));
    let output = copy.output().map_err(doing())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(doing()(io::Error::other(said.trim().to_owned())));
    }
    fs::remove_dir_all(&log).map_err(doing())?;
    std::os::unix::fs::symlink(place.join("pg_wal"), &log).map_err(doing())?;
    Ok(mount)
}

/// Takes away whatever a killed owner left mounted in its folder.
pub(crate) fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
    places.filter(|place| place.starts_with(folder)).for_each(unmount);
}

/// At once, whoever still has files open there.
fn unmount(place: &Path) {
    // What cannot be unmounted stays until the machine is started anew; there is nobody to tell.
    Command::new("umount").arg("-l").arg(place).output().ok();
}

impl Stack {
    /// Leaves no room on the file system of a cell's log.
    ///
    /// # Errors
    /// When the cell's log has no file system of its own.
    pub async fn fill_wal(&self, cell: &str) -> Result<(), LocalError> {
        let ballast = self.ballast(cell)?;
        let doing = LocalError::io(format!("fill {}", ballast.display()));
        let filled = tokio::task::spawn_blocking(move || fill(&ballast)).await;
        filled.map_err(io::Error::from).and_then(|filled| filled).map_err(doing)
    }

    /// Makes room again.
    ///
    /// # Errors
    /// When there was none taken.
    pub async fn empty_wal(&self, cell: &str) -> Result<(), LocalError> {
        let ballast = self.ballast(cell)?;
        let doing = LocalError::io(format!("remove {}", ballast.display()));
        tokio::fs::remove_file(&ballast).await.map_err(doing)
    }

    fn ballast(&self, cell: &str) -> Result<PathBuf, LocalError> {
        let place = self.folder().join(cell).join("postgres/wal");
        let own = || LocalError::Input(format!("the log of {cell} has no file system of its own"));
        if place.is_dir() { Ok(place.join(BALLAST)) } else { Err(own()) }
    }
}

fn fill(ballast: &Path) -> io::Result<()> {
    let mut file = fs::File::create(ballast)?;
    for chunk in [CHUNK_BYTES, 1] {
        let chunk = vec![0; chunk];
        loop {
            match file.write_all(&chunk) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
