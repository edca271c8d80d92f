//! The channel to a cell's process: in the clear, or with TLS, where the process must prove to be of its cell.

use crate::directory::ProcessEntry;
use http::Uri;
use hyper_util::rt::TokioIo;
use runtime::tls::{TlsClient, cell_name};
use std::time::Duration;
use tokio::net::TcpStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

const CONNECT: Duration = Duration::from_secs(1);
/// A connection that does not answer a ping for so long is broken.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// Answers are small frames: a large window, so that h2 never counts them as a flood.
const WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const ENCRYPTED: &str = "https://";
const CLEAR: &str = "http://";

/// Connects to a process. With `tls` it is never spoken to in the clear, whatever its address says.
pub(super) async fn connect(
    entry: &ProcessEntry,
    tls: Option<&TlsClient>,
) -> Result<Channel, Status> {
    let address = &*entry.address;
    let unavailable = |error: tonic::transport::Error| Status::unavailable(why(&error));
    let Some(tls) = tls else {
        if address.starts_with(ENCRYPTED) {
            let what = "the process speaks TLS only; start this router with --cell-ca";
            return Err(Status::unavailable(what));
        }
        return endpoint(address.to_owned())?.connect().await.map_err(unavailable);
    };
    // TLS is spoken below the channel, which need not know of it.
    let endpoint = endpoint(address.replacen(ENCRYPTED, CLEAR, 1))?;
    let (tls, name) = (tls.clone(), cell_name(&entry.cell));
    let dial = move |uri: Uri| {
        let (tls, name) = (tls.clone(), name.clone());
        async move {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let stream = TcpStream::connect((host, uri.port_u16().unwrap_or_default())).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(TokioIo::new(tls.connect(stream, name).await?))
        }
    };
    endpoint.connect_with_connector(service_fn(dial)).await.map_err(unavailable)
}

fn endpoint(address: String) -> Result<Endpoint, Status> {
    let endpoint =
        Endpoint::from_shared(address).map_err(|error| Status::internal(error.to_string()))?;
    Ok(endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES))
}

/// All of what went wrong: "transport error" alone helps nobody.
fn why(error: &tonic::transport::Error) -> String {
    let first: &dyn std::error::Error = error;
    let causes = std::iter::successors(Some(first), |cause| cause.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
