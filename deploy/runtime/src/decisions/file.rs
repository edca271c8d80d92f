//! The snapshot on disk: what a process starts with when etcd is gone.
//!
//! One file, replaced as a whole and synced, readable by its owner only, because decisions hold
//! keys. A file that is not exactly what was written (cut, altered, of another format) is reported
//! and not used: nothing is better than something wrong.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::known::Range;
use super::snapshot::{Entry, Snapshot};
use super::{Counters, Decisions};

/// The first bytes: the format's name and version.
const MAGIC: &[u8; 8] = b"FGDECID\x01";

/// The time between two writes.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// Bytes of the longest key and value that are believed; etcd takes 1.5 MiB in all.
const FIELD_BYTES_MAX: usize = 16 * 1_024 * 1_024;

/// What a file held.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) snapshot: Snapshot,
    /// When etcd had last answered, in unix milliseconds; none if there was no file.
    pub(super) contact_ms: Option<u64>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum Damaged {
    #[error("it is not a snapshot of decisions, or one of another version")]
    Magic,
    #[error("its checksum does not fit its content")]
    Checksum,
    #[error("it ends in the middle, or holds what was never written")]
    Content,
}

/// Reads the file; none if there is none or it is damaged. Keys outside of `ranges` are left out.
pub(super) async fn load(path: &Path, ranges: &[Range], counters: &Counters) -> Option<Kept> {
    let bytes = match tokio::fs::read(path).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            counters.damaged.add(1);
            tracing::error!(%error, path = %path.display(), "cannot read the decisions kept on disk");
            return None;
        }
    };
    match decode(&bytes, ranges) {
        Ok(kept) => {
            let (keys, revision) = (kept.snapshot.len(), kept.snapshot.revision());
            tracing::info!(keys, revision, path = %path.display(), "loaded decisions from disk");
            Some(kept)
        }
        Err(damaged) => {
            counters.damaged.add(1);
            tracing::error!(%damaged, path = %path.display(), "the decisions kept on disk are ignored");
            None
        }
    }
}

/// Writes the file after every change, at most once in [`WRITE_EVERY`], and a last time at the end, which says how old all
/// of it is: etcd may have told for long that nothing has changed.
pub(super) async fn keep(
    path: PathBuf,
    decisions: Decisions,
    counters: Counters,
    end: CancellationToken,
) {
    let mut version = decisions.changed();
    let mut written = 0;
    loop {
        tokio::select! {
            changed = version.wait_for(|version| *version != written) => {
                if changed.is_err() {
                    return;
                }
            }
            () = end.cancelled() => {}
        }
        let last = end.is_cancelled();
        let now = *version.borrow_and_update();
        let due = now != written || last && decisions.is_known();
        if due && write(&path, &decisions, &counters).await {
            written = now;
        }
        if last {
            return;
        }
        tokio::select! {
            () = sleep(WRITE_EVERY) => {}
            () = end.cancelled() => {}
        }
    }
}

/// Whether it was written.
async fn write(path: &Path, decisions: &Decisions, counters: &Counters) -> bool {
    let (snapshot, contact_ms, to) =
        (decisions.snapshot(), decisions.contact_ms(), path.to_owned());
    // Syncing a disk takes as long as it takes.
    let written =
        tokio::task::spawn_blocking(move || replace(&to, &encode(&snapshot, contact_ms))).await;
    let Err(error) = written.unwrap_or_else(|panic| Err(io::Error::other(panic))) else {
        return true;
    };
    counters.damaged.add(1);
    tracing::error!(%error, path = %path.display(), "cannot keep decisions on disk; trying again");
    false
}

/// Puts `bytes` in the place of the file, so that a crash leaves the old one or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    // One that a crash left may have other permissions.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn encode(snapshot: &Snapshot, contact_ms: u64) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(contact_ms.to_le_bytes());
    out.extend(snapshot.cluster().to_le_bytes());
    out.extend(snapshot.revision().to_le_bytes());
    out.extend((snapshot.len() as u64).to_le_bytes());
    for (key, entry) in snapshot.entries() {
        out.extend((key.len() as u64).to_le_bytes());
        out.extend(key.as_bytes());
        out.extend(entry.mod_revision.to_le_bytes());
        out.extend((entry.value.len() as u64).to_le_bytes());
        out.extend(&entry.value);
    }
    out.extend(crc32(&out).to_le_bytes());
    out
}

fn decode(bytes: &[u8], ranges: &[Range]) -> Result<Kept, Damaged> {
    let (content, checksum) = bytes.split_last_chunk::<4>().ok_or(Damaged::Magic)?;
    let mut rest = content.strip_prefix(MAGIC).ok_or(Damaged::Magic)?;
    if crc32(content) != u32::from_le_bytes(*checksum) {
        return Err(Damaged::Checksum);
    }
    let contact_ms = u64::from_le_bytes(word(&mut rest)?);
    let cluster = u64::from_le_bytes(word(&mut rest)?);
    let revision = i64::from_le_bytes(word(&mut rest)?);
    let count = u64::from_le_bytes(word(&mut rest)?);
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let key = std::str::from_utf8(field(&mut rest)?).map_err(|_| Damaged::Content)?;
        let mod_revision = i64::from_le_bytes(word(&mut rest)?);
        let value = Bytes::copy_from_slice(field(&mut rest)?);
        if ranges.iter().any(|range| range.contains(key)) {
            entries.insert(Arc::from(key), Entry { value, mod_revision });
        }
    }
    if !rest.is_empty() {
        return Err(Damaged::Content);
    }
    Ok(Kept { snapshot: Snapshot::new(entries, revision, cluster), contact_ms: Some(contact_ms) })
}

fn word(rest: &mut &[u8]) -> Result<[u8; 8], Damaged> {
    let (word, after) = rest.split_first_chunk().ok_or(Damaged::Content)?;
    *rest = after;
    Ok(*word)
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Damaged> {
    let length = usize::try_from(u64::from_le_bytes(word(rest)?)).map_err(|_| Damaged::Content)?;
    if length > FIELD_BYTES_MAX {
        return Err(Damaged::Content);
    }
    let (field, after) = rest.split_at_checked(length).ok_or(Damaged::Content)?;
    *rest = after;
    Ok(field)
}

/// CRC-32 (IEEE 802.3): finds every burst of up to 32 wrong bits. No defence against forgers, who
/// could as well write a new file.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte: u32 = 0;
        while byte < 256 {
            let mut crc = byte;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
                bit += 1;
            }
            table[byte as usize] = crc;
            byte += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc: u32, byte| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ TABLE[usize::from(low ^ byte)]
    })
}

#[cfg(test)]
mod tests;
