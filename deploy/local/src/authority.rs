//! A CA of a run folder's own, which nobody else trusts, and the certificates that it gives to planes.
//!
//! Certificates bear the names by which planes know one another, and for everybody else the addresses of this machine.
//! They last a day; whoever wants to see one run out or renewed has it issued again.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::LocalError;

/// How long a certificate lasts.
const LASTS: Duration = Duration::from_secs(24 * 3_600);

/// Clocks of other machines may be behind.
const BEFORE: Duration = Duration::from_secs(3_600);

/// A router's name.
pub(crate) const ROUTER_NAME: &str = "spiffe://floodgate/router";

/// The control plane's name.
pub(crate) const CONTROL_PLANE_NAME: &str = "spiffe://floodgate/control-plane";

/// A cell's name.
pub(crate) fn cell_name(cell: &str) -> String {
    format!("spiffe://floodgate/cell/{cell}")
}

/// A CA and the folder for what it issues.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key; only its owner may read it.
    pub key: PathBuf,
}

impl Authority {
    /// Makes one, with its certificate in `ca.pem` of the folder, which is made when missing.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn found(folder: &Path) -> Result<Authority, LocalError> {
        std::fs::create_dir_all(folder).map_err(doing("make a folder for certificates"))?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        last(&mut params);
        let key = KeyPair::generate().map_err(made)?;
        let certificate = params.self_signed(&key).map_err(made)?;
        let authority = Authority { folder: folder.to_owned(), issuer: Issuer::new(params, key) };
        write(&authority.ca(), &certificate.pem())?;
        Ok(authority)
    }

    /// The file with its own certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The files of this stem, whether they are there or not.
    #[must_use]
    pub fn files(&self, stem: &str) -> CertificateFiles {
        CertificateFiles {
            cert: self.folder.join(format!("{stem}.pem")),
            key: self.folder.join(format!("{stem}.key")),
        }
    }

    /// Issues a certificate for who is called `name` (a URI), into files of this stem; those before are replaced.
    ///
    /// # Errors
    /// When the name is no URI, or files cannot be written.
    pub fn issue(&self, stem: &str, name: &str) -> Result<CertificateFiles, LocalError> {
        let addresses = ["localhost", "127.0.0.1"].map(str::to_owned).to_vec();
        let mut params = CertificateParams::new(addresses).map_err(made)?;
        let name = Ia5String::try_from(name).map_err(made)?;
        params.subject_alt_names.push(SanType::URI(name));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        last(&mut params);
        let key = KeyPair::generate().map_err(made)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(made)?;
        let files = self.files(stem);
        write(&files.key, &key.serialize_pem())?;
        write(&files.cert, &certificate.pem())?;
        Ok(files)
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("folder", &self.folder).finish_non_exhaustive()
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "planes hold certificates against this machine's time"
)]
fn last(params: &mut CertificateParams) {
    let now = SystemTime::now();
    params.not_before = (now - BEFORE).into();
    params.not_after = (now + LASTS).into();
}

/// Writes a file as whoever renews certificates should: it is never there by half.
fn write(path: &Path, text: &str) -> Result<(), LocalError> {
    let fresh = path.with_added_extension("new");
    let written = || {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&fresh, path)
    };
    written().map_err(doing("write a certificate"))
}

fn doing(what: &'static str) -> impl FnOnce(io::Error) -> LocalError {
    LocalError::io(what)
}

fn made(error: rcgen::Error) -> LocalError {
    LocalError::Input(format!("a certificate cannot be made: {error}"))
}
