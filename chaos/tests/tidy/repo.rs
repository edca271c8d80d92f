//! The repository's own files: what people wrote, without what is built, fetched or locked.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Files and folders at the top whose text is not ours to judge.
const NOT_OURS: &[&str] = &["target", "Cargo.lock", "LICENSE", ".git", ".cargo"];
/// Ends of names of files that programs wrote: what was found by chance means nothing.
const WRITTEN: &[&str] = &["lock", "corpus"];

/// A text file.
#[derive(Debug)]
pub(crate) struct File {
    /// From the top of the repository, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// What its name ends with, without the dot.
    pub(crate) fn extension(&self) -> &str {
        Path::new(&self.path).extension().and_then(|end| end.to_str()).unwrap_or_default()
    }

    /// Whether it is a crate's own code, not its tests.
    pub(crate) fn is_src(&self) -> bool {
        self.path.contains("/src/") && ["rs", "lua"].contains(&self.extension())
    }

    /// What of it only tests see: a file of tests whole, else the tests at its end.
    pub(crate) fn tests(&self) -> &str {
        if self.path.contains("/tests/") || self.path.ends_with("/tests.rs") {
            return &self.text;
        }
        self.text.find("#[cfg(test)]").map_or("", |begin| &self.text[begin..])
    }

    /// What of it is not for tests.
    pub(crate) fn code(&self) -> &str {
        &self.text[..self.text.len() - self.tests().len()]
    }
}

/// The top of the repository.
pub(crate) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Every file that people wrote.
pub(crate) fn files() -> &'static [File] {
    static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
        let (top, mut files) = (top(), Vec::new());
        for entry in fs::read_dir(&top).unwrap().map(Result::unwrap) {
            if !NOT_OURS.contains(&entry.file_name().to_str().unwrap()) {
                collect(&top, &entry.path(), &mut files);
            }
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        assert!(files.len() > 100, "this is not the repository: {}", top.display());
        files
    });
    &FILES
}

/// One file, which must be there.
pub(crate) fn file(path: &str) -> &'static File {
    files().iter().find(|file| file.path == path).ok_or(path).unwrap()
}

/// Every line of every file, with its number.
pub(crate) fn lines() -> impl Iterator<Item = (&'static File, usize, &'static str)> {
    files()
        .iter()
        .flat_map(|file| (1..).zip(file.text.lines()).map(move |(n, line)| (file, n, line)))
}

/// Whether the word stands in the text by itself.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !before.ends_with(part) && !after.starts_with(part)
    })
}

/// The text with every run of blanks and line ends as one blank.
pub(crate) fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn collect(top: &Path, path: &Path, files: &mut Vec<File>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(top, &entry.unwrap().path(), files);
        }
        return;
    }
    if path.extension().is_some_and(|end| WRITTEN.iter().any(|written| end == *written)) {
        return;
    }
    // What is no text is not read: nobody wrote it.
    let Ok(text) = fs::read_to_string(path) else { return };
    let path = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
    files.push(File { path, text });
}
