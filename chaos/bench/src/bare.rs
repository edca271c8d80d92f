//! The yardstick of the edge: a bare tonic server that answers the same message, on one thread; with a certificate it
//! speaks TLS.

use anyhow::Result;
use futures_util::StreamExt;
use proto::wire::fleet::probe_service_server::{ProbeService, ProbeServiceServer};
use proto::wire::fleet::{ProbeRequest, ProbeResponse};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, crypto::ring};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status};

/// Handshakes under way at a time.
const HANDSHAKES_MAX: usize = 256;

struct Echo;

#[tonic::async_trait]
impl ProbeService for Echo {
    async fn probe(
        &self,
        request: Request<ProbeRequest>,
    ) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse { payload: request.into_inner().payload }))
    }
}

/// Serves until killed.
pub(crate) fn serve(address: SocketAddr, certificate: Option<(PathBuf, PathBuf)>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut server = Server::builder().tcp_nodelay(true);
    let routes = server.add_service(ProbeServiceServer::new(Echo));
    let Some((cert, key)) = certificate else {
        return Ok(runtime.block_on(routes.serve(address))?);
    };
    let acceptor = TlsAcceptor::from(Arc::new(config(&cert, &key)?));
    runtime.block_on(async {
        let sockets = TcpListenerStream::new(TcpListener::bind(address).await?);
        let shaken = sockets
            .map(|socket| {
                let acceptor = acceptor.clone();
                async move {
                    let socket = socket?;
                    socket.set_nodelay(true)?;
                    Ok::<_, io::Error>(Encrypted(acceptor.accept(socket).await?))
                }
            })
            .buffer_unordered(HANDSHAKES_MAX);
        Ok(routes.serve_with_incoming(shaken).await?)
    })
}

fn config(cert: &Path, key: &Path) -> Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<Vec<_>, _>>()?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// A connection of which tonic asks nothing.
struct Encrypted(TlsStream<TcpStream>);

impl Connected for Encrypted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
