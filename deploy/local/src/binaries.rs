//! Where the programs of this workspace are: beside the running one, as cargo and an image put them.

use std::path::{Path, PathBuf};

use crate::LocalError;

/// Finds programs of this workspace by file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaneBinaries {
    folders: Vec<PathBuf>,
}

impl PlaneBinaries {
    /// Looks beside the running executable and above `deps`, where test executables lie, then in the
    /// target folders of the workspace this was compiled in. The nearest wins, so a release build starts
    /// release planes.
    #[must_use]
    pub fn find() -> Self {
        let beside = std::env::current_exe().ok();
        let beside = beside.as_deref().and_then(Path::parent);
        let above = beside.filter(|folder| folder.ends_with("deps")).and_then(Path::parent);
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        let built = ["debug", "release"].map(|kind| target.join(kind).canonicalize().ok());
        let nearest = [beside, above].map(|folder| folder.map(Path::to_owned));
        let mut folders: Vec<PathBuf> = Vec::new();
        for folder in nearest.into_iter().chain(built).flatten() {
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        Self { folders }
    }

    /// Looks in the given folder only.
    #[must_use]
    pub fn within(folder: PathBuf) -> Self {
        Self { folders: vec![folder] }
    }

    /// The program's path.
    ///
    /// # Errors
    /// [`LocalError::Binary`] when it has not been built.
    pub fn program(&self, name: &str) -> Result<PathBuf, LocalError> {
        let found = self.folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
        found.ok_or_else(|| {
            let looked: Vec<String> =
                self.folders.iter().map(|folder| folder.display().to_string()).collect();
            LocalError::Binary { program: name.to_owned(), looked: looked.join(", ") }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_built_is_named_with_what_to_run() {
        let error = PlaneBinaries::find().program("floodgate-nothing").unwrap_err().to_string();
        assert!(error.contains("floodgate-nothing is not built"), "{error}");
        assert!(error.contains("cargo build --workspace"), "{error}");
    }
}
