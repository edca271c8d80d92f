//! The corpus: a file for each target, a line for each input: its name (`-` when it was found by fuzzing), a tab, and its
//! bytes as in a Rust string.
//!
//! Named inputs come from [`Target::seeds`] and are always kept; found ones as far as there is room, the shortest first.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Target;

/// Bytes of a corpus' file.
pub const FILE_BYTES_MAX: usize = 32 * 1024;
/// The name of inputs without one.
const FOUND: &str = "-";

/// An input that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// What it is; none when it was found.
    pub name: Option<String>,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// The file of a target.
pub fn path(target: &Target) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    folder.join(format!("{}.corpus", target.name))
}

/// The inputs in a target's file.
///
/// # Errors
/// When it cannot be read, or a line is not as [`write()`] writes it.
pub fn read(target: &Target) -> io::Result<Vec<Input>> {
    let text = fs::read_to_string(path(target))?;
    let input = |line: &str| {
        let (name, bytes) = line.split_once('\t')?;
        Some(Input {
            name: (name != FOUND).then(|| name.to_owned()),
            bytes: unescaped(bytes.as_bytes())?,
        })
    };
    let bad = |line: &str| io::Error::other(format!("{}: not an input: {line}", target.name));
    text.lines().map(|line| input(line).ok_or_else(|| bad(line))).collect()
}

/// Writes a target's file anew: its seeds, and of the found inputs those for which there is room.
///
/// # Errors
/// When it cannot be written.
pub fn write(target: &Target, found: Vec<Vec<u8>>) -> io::Result<()> {
    let seeds = (target.seeds)();
    let known: BTreeMap<&[u8], &str> =
        seeds.iter().map(|(name, bytes)| (&bytes[..], *name)).collect();
    let mut lines: Vec<String> = seeds.iter().map(|(name, bytes)| line(name, bytes)).collect();
    let mut room = FILE_BYTES_MAX.saturating_sub(lines.iter().map(String::len).sum());
    let mut found: Vec<_> =
        found.into_iter().filter(|bytes| !known.contains_key(&bytes[..])).collect();
    found.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    found.dedup();
    for bytes in found {
        let line = line(FOUND, &bytes);
        let Some(left) = room.checked_sub(line.len()) else { break };
        room = left;
        lines.push(line);
    }
    fs::write(path(target), lines.concat())
}

fn line(name: &str, bytes: &[u8]) -> String {
    format!("{name}\t{}\n", bytes.escape_ascii())
}

/// What [`slice::escape_ascii`] was given.
fn unescaped(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    while let Some((first, rest)) = text.split_first() {
        text = rest;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (mark, rest) = text.split_first()?;
        text = rest;
        bytes.push(match mark {
            b't' => b'\t',
            b'r' => b'\r',
            b'n' => b'\n',
            b'\'' | b'"' | b'\\' => *mark,
            b'x' => {
                let (digits, rest) = text.split_at_checked(2)?;
                text = rest;
                u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
            }
            _ => return None,
        });
    }
    Some(bytes)
}
