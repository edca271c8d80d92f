//! TLS: whom a server is known as, whom it lets in, and whom a client insists on.
//!
//! Certificates are files, read again when they change: whoever renews them only writes the files. Files that cannot be
//! used change nothing but a metric and a line in the log, and what was read before stays in use. TLS 1.2 and 1.3 are
//! spoken, with ring's ciphers.
//!
//! Planes know one another by names in certificates of their own CA (`spiffe://floodgate/…`, as a URI), not by addresses:
//! a cell's processes come and go. There is no list of revoked certificates: those between planes should be short-lived.

mod files;
mod kept;
mod name;
mod period;

use std::io;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    SupportedProtocolVersion, version,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::drain::Drain;
use crate::metric::Metrics;
use files::Identity;
use kept::Kept;

pub use files::{TlsError, TlsFiles};

/// The name of a router.
pub const ROUTER_NAME: &str = "spiffe://floodgate/router";

/// The name of a cell, which all of its processes share.
pub fn cell_name(cell: &str) -> String {
    format!("spiffe://floodgate/cell/{cell}")
}

const VERSIONS: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

/// What both sides may agree to speak, the better one first.
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// How a server speaks TLS. Clones share it.
#[derive(Clone, Debug)]
pub struct TlsServer {
    files: TlsFiles,
    kept: Arc<Kept<ServerConfig>>,
}

impl TlsServer {
    /// Reads the files. With a CA only clients with a certificate of it are let in.
    ///
    /// # Errors
    /// [`TlsError`] when they cannot be used.
    pub fn open(files: TlsFiles) -> Result<TlsServer, TlsError> {
        Self::with(files, None)
    }

    /// The same files, for clients only whose certificate bears this name.
    ///
    /// # Errors
    /// [`TlsError`] when they cannot be used, or when there is no CA to know clients by.
    pub fn only(&self, client: &'static str) -> Result<TlsServer, TlsError> {
        if self.files.ca.is_none() {
            return Err(TlsError::NoCa);
        }
        Self::with(self.files.clone(), Some(client))
    }

    fn with(files: TlsFiles, client: Option<&'static str>) -> Result<TlsServer, TlsError> {
        let ticketer = ring::Ticketer::new().map_err(TlsError::Unfit)?;
        let make = move |identity: &Identity| {
            let verifier = match &identity.roots {
                None => WebPkiClientVerifier::no_client_auth(),
                Some(roots) => {
                    let verifier =
                        WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
                    let inner = verifier.build().map_err(|_| TlsError::NoCa)?;
                    Arc::new(Named { inner, name: client })
                }
            };
            let mut config = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(VERSIONS)
                .map_err(TlsError::Unfit)?
                .with_client_cert_verifier(verifier)
                .with_single_cert(identity.chain.clone(), identity.key.clone_key())
                .map_err(TlsError::Unfit)?;
            config.alpn_protocols = [HTTP2, HTTP1].map(<[u8]>::to_vec).into();
            if identity.roots.is_none() {
                config.ticketer = ticketer.clone();
            } else {
                // A client that comes back is looked at again: its certificate may have run out.
                config.send_tls13_tickets = 0;
                config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
            }
            Ok(config)
        };
        let kept = Kept::open(files.clone(), Box::new(make))?;
        Ok(TlsServer { files, kept })
    }

    /// Reads the files again when they change, until the drain begins; `port` is the label of its metrics.
    pub fn follow(&self, port: &'static str, metrics: &Metrics, drain: &Drain) {
        self.kept.follow(port, metrics, drain);
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.kept.current()
    }
}

/// Whether both sides agreed on HTTP/2.
pub(crate) fn is_http2(agreed: Option<&[u8]>) -> bool {
    agreed == Some(HTTP2)
}

/// How a client speaks TLS to planes, and shows who it is. Clones share it.
#[derive(Clone, Debug)]
pub struct TlsClient(Arc<Kept<Identity>>);

/// An encrypted connection of a client.
pub type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

impl TlsClient {
    /// Reads the files, of which the CA is the one that servers are known by.
    ///
    /// # Errors
    /// [`TlsError`] when they cannot be used.
    pub fn open(files: TlsFiles) -> Result<TlsClient, TlsError> {
        let make = |identity: &Identity| {
            let client = identity.clone_all();
            // Built once now, lest a wrong key is found only when somebody is dialled.
            client_config(&client, String::new())?;
            Ok(client)
        };
        Ok(TlsClient(Kept::open(files, Box::new(make))?))
    }

    /// Shakes hands on `stream` with a server whose certificate must bear `name`.
    ///
    /// # Errors
    /// When the server is somebody else or does not like this client.
    pub async fn connect(&self, stream: TcpStream, name: String) -> io::Result<TlsStream> {
        let peer = stream.peer_addr()?.ip();
        let config = client_config(&self.0.current(), name).map_err(io::Error::other)?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::from(peer), stream).await
    }

    /// Reads the files again when they change, until the drain begins; `port` is the label of its metrics.
    pub fn follow(&self, port: &'static str, metrics: &Metrics, drain: &Drain) {
        self.0.follow(port, metrics, drain);
    }
}

fn client_config(identity: &Identity, name: String) -> Result<ClientConfig, TlsError> {
    let roots = identity.roots.clone().ok_or(TlsError::NoCa)?;
    let verifier = Arc::new(name::ServerIs { roots, name, provider: provider() });
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(TlsError::Unfit)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(TlsError::Unfit)?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Lets in whom `inner` does, when the certificate bears the name.
#[derive(Debug)]
struct Named {
    inner: Arc<dyn ClientCertVerifier>,
    name: Option<&'static str>,
}

impl ClientCertVerifier for Named {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        if let Some(name) = self.name {
            name::bears(end_entity, name)?;
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
