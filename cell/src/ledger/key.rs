//! The key with which a cell signs the heads of its ledgers. One a cell, on the machines of its processes only.

use proto::token::kid_of;
use ring::signature::{Ed25519KeyPair, KeyPair};
use std::sync::Arc;

/// An Ed25519 key pair that does not print.
#[derive(Clone)]
pub struct LedgerKey(Arc<Ed25519KeyPair>);

impl std::fmt::Debug for LedgerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LedgerKey").field(&kid_of(&self.public())).finish()
    }
}

impl LedgerKey {
    /// The key in a file: PKCS#8, as `floodgate keys generate` makes it.
    ///
    /// # Errors
    /// What is wrong with the file, and what to do.
    pub fn read(path: &str) -> Result<LedgerKey, String> {
        let bytes = std::fs::read(path)
            .map_err(|error| format!("cannot read {path}; name a readable file: {error}"))?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&bytes).map_err(|_| {
            format!(
                "{path} is no Ed25519 private key in PKCS#8; make one with floodgate keys generate"
            )
        })?;
        Ok(LedgerKey(Arc::new(pair)))
    }

    /// The public half: raw Ed25519.
    pub fn public(&self) -> [u8; 32] {
        let mut raw = [0; 32];
        raw.copy_from_slice(self.0.public_key().as_ref());
        raw
    }

    /// The pair, to sign with.
    pub fn pair(&self) -> &Ed25519KeyPair {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;

    #[test]
    fn a_key_is_read_and_does_not_print() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.key");
        let path = file.to_str().unwrap();
        assert!(LedgerKey::read(path).unwrap_err().contains("cannot read"));
        std::fs::write(&file, "no key").unwrap();
        assert!(LedgerKey::read(path).unwrap_err().contains("floodgate keys generate"));
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        std::fs::write(&file, made.as_ref()).unwrap();
        let key = LedgerKey::read(path).unwrap();
        assert_eq!(format!("{key:?}"), format!("LedgerKey({:?})", kid_of(&key.public())));
    }
}
