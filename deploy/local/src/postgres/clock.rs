//! A Postgres whose clock can be set while it runs: a library that is loaded before its own adds to every look at the
//! clock what a file in the server's folder says. Clocks that only count on are left alone.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{LocalError, Stack};

/// Where Debian puts the library of each architecture.
const LIBRARIES: &str = "/usr/lib";
const LIBRARY: &str = "faketime/libfaketime.so.1";

const FILE: &str = "clock";

/// The environment of a Postgres whose clock can be set, which is right so far.
pub(crate) fn environment(folder: &Path) -> Result<Vec<(String, String)>, LocalError> {
    let missing = || LocalError::NotHere("libfaketime was not found after install".to_owned());
    let library = library().ok_or_else(missing)?;
    let file = folder.join(FILE);
    write(&file, 0)?;
    let variables = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("FAKETIME_DONT_RESET", "1".to_owned()),
    ];
    Ok(variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn library() -> Option<PathBuf> {
    let folders = fs::read_dir(LIBRARIES).ok()?.flatten();
    folders.map(|folder| folder.path().join(LIBRARY)).find(|path| path.is_file())
}

fn write(file: &Path, ahead_s: i64) -> Result<(), LocalError> {
    let doing = || LocalError::io(format!("write {}", file.display()));
    // Whoever reads it in the middle sees the one or the other.
    let new = file.with_extension("new");
    fs::write(&new, format!("{ahead_s:+}\n")).map_err(doing())?;
    fs::rename(&new, file).map_err(doing())
}

impl Stack {
    /// Sets the clock of a cell's Postgres so many seconds ahead of this machine's (behind it, when negative).
    ///
    /// # Errors
    /// When its clock cannot be set.
    pub fn set_clock(&self, cell: &str, ahead_s: i64) -> Result<(), LocalError> {
        let file = self.folder().join(cell).join("postgres").join(FILE);
        let fixed = || LocalError::Input(format!("the clock of {cell}'s Postgres cannot be set"));
        if file.is_file() { write(&file, ahead_s) } else { Err(fixed()) }
    }
}
