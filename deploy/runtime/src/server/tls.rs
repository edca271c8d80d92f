//! The handshake of TLS: in its time, or not at all.

use std::time::Duration;

use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::turnstile::Turned;
use crate::tls::{TlsServer, is_http2};

/// A connection after its handshake.
pub(super) struct Shaken {
    pub(super) stream: TlsStream<Turned>,
    /// Whether both sides agreed on HTTP/2; HTTP/1.1 otherwise.
    pub(super) is_http2: bool,
}

/// Shakes hands as the files say now; none when the peer takes too long, is not who it must be, or speaks no TLS.
pub(super) async fn handshake(stream: Turned, tls: &TlsServer, limit: Duration) -> Option<Shaken> {
    let handshake = TlsAcceptor::from(tls.config()).accept(stream);
    match timeout(limit, handshake).await {
        Ok(Ok(stream)) => {
            let is_http2 = is_http2(stream.get_ref().1.alpn_protocol());
            Some(Shaken { stream, is_http2 })
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "a handshake failed");
            None
        }
        Err(_) => None,
    }
}
