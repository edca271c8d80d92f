//! What a check is made with: public keys of ledgers, and heads that somebody has kept outside the cell.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::file::{FileFlaw, Item, Reader};
use crate::failure::Failure;

/// Raw Ed25519.
pub(crate) type PublicKey = [u8; 32];

/// A public key: base64url, or a file of it as `floodgate keys generate --public-out` writes it.
pub(crate) fn public_key(text: &str) -> Result<PublicKey, String> {
    let decode = |text: &str| {
        let text = text.trim().trim_end_matches('=');
        URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok())
    };
    if let Some(key) = decode(text) {
        return Ok(key);
    }
    let file = std::fs::read_to_string(text)
        .map_err(|error| format!("{text:?} is no public key, and no file of one: {error}"))?;
    decode(&file).ok_or_else(|| format!("{text} is no file of an Ed25519 public key in base64url"))
}

/// Heads that were kept: a line each, or those of an export.
pub(crate) fn kept_heads(path: &Path) -> Result<Vec<String>, Failure> {
    let text =
        std::fs::read_to_string(path).map_err(Failure::io(format!("read {}", path.display())))?;
    if text.starts_with('{') {
        return heads_of_export(path);
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let heads: Vec<String> = lines.map(str::to_owned).collect();
    if heads.is_empty() {
        return Err(Failure::Usage(format!("there is no head in {}", path.display())));
    }
    Ok(heads)
}

/// The heads in an export, as they were signed.
pub(crate) fn heads_of_export(path: &Path) -> Result<Vec<String>, Failure> {
    let mut reader = open(path)?;
    let mut heads = Vec::new();
    while let Some(item) = reader.next().map_err(|flaw| unreadable(path, flaw))? {
        if let Item::Bucket { head, .. } = item
            && !head.is_empty()
        {
            heads.push(head);
        }
    }
    Ok(heads)
}

/// An export to be read.
pub(crate) fn open(path: &Path) -> Result<Reader<BufReader<File>>, Failure> {
    let file = File::open(path).map_err(Failure::io(format!("read {}", path.display())))?;
    Ok(Reader::new(BufReader::new(file)))
}

/// Why an export cannot be read to its end.
pub(crate) fn unreadable(path: &Path, flaw: FileFlaw) -> Failure {
    match flaw {
        FileFlaw::Io(source) => Failure::Io { doing: format!("read {}", path.display()), source },
        flaw => Failure::Unproven(vec![format!("{}: {flaw}", path.display())]),
    }
}
