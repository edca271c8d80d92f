//! The run folder: everything one stack writes, in one place that vanishes with it.
//!
//! An owner marks its folder with a locked file. When the owner was killed before it could clean up, the
//! next stack finds the lock free, kills what still works in the folder (only backends of a paused
//! Postgres can outlive the kernel's parent-death signal) and removes it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::LocalError;
use crate::postgres::wal::unmount_below;
use crate::process::Dying;
use crate::tree::working_in;

/// Run folders that stacks choose themselves begin with this.
pub(crate) const RUN_FOLDER_PREFIX: &str = "floodgate-run-";

/// Others may pass through (Postgres has a user of its own) but not list.
const RUN_FOLDER_MODE: u32 = 0o711;

const OWNER_FILE: &str = "owner.lock";

/// A stack's folder. Dropping it removes it unless it is kept.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    keep: AtomicBool,
    _owner: Option<File>,
}

impl RunFolder {
    /// Makes a folder of its own in the temporary folder, or takes the given one, which must be empty.
    /// One that is to be kept bears no mark, so nobody removes it later.
    pub(crate) fn create(chosen: Option<&Path>, keep: bool) -> Result<Self, LocalError> {
        remove_abandoned(&std::env::temp_dir());
        let path = match chosen {
            Some(path) => take_empty(path)?,
            None => tempfile::Builder::new()
                .prefix(RUN_FOLDER_PREFIX)
                .tempdir()
                .map_err(LocalError::io("make a run folder"))?
                .keep(),
        };
        open_to_all(&path)?;
        let own = || own(&path).map_err(LocalError::io(format!("own {}", path.display())));
        let owner = if keep { None } else { Some(own()?) };
        fs::create_dir(path.join("logs")).map_err(LocalError::io("make the folder of logs"))?;
        Ok(Self { path, keep: AtomicBool::new(keep), _owner: owner })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.keep.load(Ordering::Relaxed)
    }

    /// From now on it is to be kept: nobody removes it later.
    pub(crate) fn keep(&self) {
        self.keep.store(true, Ordering::Relaxed);
        // One that is kept from the beginning has no such file.
        fs::remove_file(self.path.join(OWNER_FILE)).ok();
    }

    /// The folder of one server, made when it is not there: `cell-1/redis` is a path.
    pub(crate) fn server(&self, name: &str) -> Result<PathBuf, LocalError> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).map_err(LocalError::io(format!("make {}", path.display())))?;
        for folder in path.ancestors().take_while(|folder| *folder != self.path) {
            open_to_all(folder)?;
        }
        Ok(path)
    }

    /// The log of one server: `logs/cell-1.redis.log`.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.path.join("logs").join(format!("{}.log", name.replace('/', ".")))
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if !self.is_kept() {
            fs::remove_dir_all(&self.path).ok();
        }
    }
}

fn take_empty(path: &Path) -> Result<PathBuf, LocalError> {
    let doing = || LocalError::io(format!("use {} as run folder", path.display()));
    fs::create_dir_all(path).map_err(doing())?;
    let path = path.canonicalize().map_err(doing())?;
    if path.read_dir().map_err(doing())?.next().is_some() {
        let what = format!("{} is not empty; choose another folder", path.display());
        return Err(LocalError::Input(what));
    }
    Ok(path)
}

/// Sets the mode whatever the umask is.
fn open_to_all(folder: &Path) -> Result<(), LocalError> {
    fs::set_permissions(folder, Permissions::from_mode(RUN_FOLDER_MODE))
        .map_err(LocalError::io(format!("open {}", folder.display())))
}

/// The mark appears under its name only when it is locked, so nobody sees it unlocked while we live.
fn own(folder: &Path) -> io::Result<File> {
    let unlocked = folder.join("owner.new");
    let file = File::create_new(&unlocked)?;
    file.try_lock().map_err(io::Error::from)?;
    fs::rename(unlocked, folder.join(OWNER_FILE))?;
    Ok(file)
}

/// Clears what killed owners of this user left behind. It is a courtesy: errors are left to the next.
fn remove_abandoned(parent: &Path) {
    let me = nix::unistd::geteuid().as_raw();
    for folder in fs::read_dir(parent).into_iter().flatten().flatten() {
        let ours = folder.file_name().to_string_lossy().starts_with(RUN_FOLDER_PREFIX)
            && folder.metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == me);
        if !ours {
            continue;
        }
        let Ok(owner) = File::open(folder.path().join(OWNER_FILE)) else { continue };
        if owner.try_lock().is_ok() {
            let dying = Dying::strike(working_in(&folder.path()));
            if dying.gone_blocking() {
                unmount_below(&folder.path());
                fs::remove_dir_all(folder.path()).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owned_folder_stays_and_an_abandoned_one_goes() {
        let parent = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = parent.path().join(format!("{RUN_FOLDER_PREFIX}{name}"));
            fs::create_dir(&path).unwrap();
            path
        };
        let (owned, abandoned, unmarked) = (make("owned"), make("abandoned"), make("unmarked"));
        let _owner = own(&owned).unwrap();
        drop(own(&abandoned).unwrap());

        remove_abandoned(parent.path());

        assert!(owned.exists() && unmarked.exists());
        assert!(!abandoned.exists());
    }

    #[test]
    fn a_chosen_folder_must_be_empty() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("x"), "").unwrap();
        let error = RunFolder::create(Some(parent.path()), false).unwrap_err();
        assert!(error.to_string().contains("not empty"), "{error}");
    }
}
