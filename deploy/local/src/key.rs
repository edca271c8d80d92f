//! Key pairs in files: the platform's, the root of trust that a control plane is started with, and the one with which a
//! cell signs the heads of its ledgers.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::LocalError;

/// Files of an Ed25519 key pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFiles {
    /// The private half: PKCS#8 (version 2, DER), readable by its owner only.
    pub private: PathBuf,
    /// The public half: the raw 32 bytes as base64url without padding, and a line's end.
    pub public: PathBuf,
}

impl KeyFiles {
    /// Makes the platform's pair, `platform.key` and `platform.pub`, in a folder that has none.
    pub(crate) fn platform(folder: &Path) -> Result<Self, LocalError> {
        Self::generate(folder, "platform")
    }

    /// The pair of a cell's ledgers, `{cell}.ledger.key` and `{cell}.ledger.pub`: made when it is asked for first.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn ledger(folder: &Path, cell: &str) -> Result<Self, LocalError> {
        let name = format!("{cell}.ledger");
        let key = Self::named(folder, &name);
        if key.private.exists() && key.public.exists() {
            Ok(key)
        } else {
            Self::generate(folder, &name)
        }
    }

    fn named(folder: &Path, name: &str) -> Self {
        Self {
            private: folder.join(format!("{name}.key")),
            public: folder.join(format!("{name}.pub")),
        }
    }

    fn generate(folder: &Path, name: &str) -> Result<Self, LocalError> {
        let unusable = |_| LocalError::Input("no Ed25519 key could be made".to_owned());
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(unusable)?;
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref())
            .map_err(|error| LocalError::Input(format!("unusable Ed25519 key: {error}")))?;
        let key = Self::named(folder, name);
        let public = format!("{}\n", URL_SAFE_NO_PAD.encode(pair.public_key()));
        write_new(&key.private, pkcs8.as_ref(), 0o600)?;
        write_new(&key.public, public.as_bytes(), 0o644)?;
        Ok(key)
    }
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), LocalError> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(bytes))
        .map_err(LocalError::io(format!("write {}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_halves_belong_together_and_the_private_one_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyFiles::platform(folder.path()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(&fs::read(&key.private).unwrap()).unwrap();
        let public = fs::read_to_string(&key.public).unwrap();
        let public = URL_SAFE_NO_PAD.decode(public.trim_end()).unwrap();
        assert_eq!(public, pair.public_key().as_ref());
        assert_eq!(fs::metadata(&key.private).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(KeyFiles::platform(folder.path()).is_err(), "a key was overwritten");
        let ledger = KeyFiles::ledger(folder.path(), "cell-1").unwrap();
        assert_eq!(ledger, KeyFiles::ledger(folder.path(), "cell-1").unwrap());
        assert_ne!(fs::read(&ledger.private).unwrap(), fs::read(&key.private).unwrap());
    }
}
