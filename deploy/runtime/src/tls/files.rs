//! The files of an identity: a chain of certificates, its key, and the CA that others are known by.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::period;

/// Where certificates lie. All files are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and after it those between it and its CA.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The CA that the other side's certificate must be of.
    pub ca: Option<PathBuf>,
}

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}; name a readable file: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{} holds no {what} in PEM; write it there", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// Certificate and key are of no use, or not of one another.
    #[error("the certificate and its key cannot be used; they must be one another's: {0}")]
    Unfit(#[source] rustls::Error),
    /// Others cannot be known without a CA.
    #[error("there is no CA to know others by; name its file (--tls-client-ca, --cell-ca)")]
    NoCa,
}

/// What files hold, as it was read at one time.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Bytes {
    cert: Vec<u8>,
    key: Vec<u8>,
    ca: Option<Vec<u8>>,
}

/// What they mean.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) roots: Option<Arc<RootCertStore>>,
    /// When the certificate runs out, in unix seconds.
    pub(super) until_s: u64,
}

impl TlsFiles {
    /// Reads all of them.
    pub(super) fn read(&self) -> Result<Bytes, TlsError> {
        Ok(Bytes {
            cert: read(&self.cert)?,
            key: read(&self.key)?,
            ca: self.ca.as_deref().map(read).transpose()?,
        })
    }

    /// What the bytes mean.
    pub(super) fn understand(&self, bytes: &Bytes) -> Result<Identity, TlsError> {
        let empty = |path: &Path, what| TlsError::Empty { path: path.to_owned(), what };
        let chain = certificates(&bytes.cert);
        let first = chain.first().ok_or_else(|| empty(&self.cert, "certificate"))?;
        let until_s = period::until_s(first).ok_or_else(|| empty(&self.cert, "certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(&bytes.key)
            .map_err(|_| empty(&self.key, "private key"))?;
        let roots = match (&self.ca, &bytes.ca) {
            (Some(path), Some(bytes)) => {
                let mut roots = RootCertStore::empty();
                let (added, _) = roots.add_parsable_certificates(certificates(bytes));
                if added == 0 {
                    return Err(empty(path, "certificate of a CA"));
                }
                Some(Arc::new(roots))
            }
            _ => None,
        };
        Ok(Identity { chain, key, roots, until_s })
    }
}

impl Identity {
    /// A copy; keys are not copied by accident.
    pub(super) fn clone_all(&self) -> Identity {
        Identity {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            roots: self.roots.clone(),
            until_s: self.until_s,
        }
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("until_s", &self.until_s).finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
}

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    // What is broken in the middle counts as missing.
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect()
}
