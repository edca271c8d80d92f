//! A connection that is spoken on without a gRPC library's help, for what such a library would not send: frames that
//! are none, and deadlines that it would keep by itself.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;
use tonic::{Code, Status};

use crate::row::Outcome;

/// A message as it travels: a flag, its length, its bytes.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// The frame of a message.
pub(crate) fn frame(message: &impl Message) -> Vec<u8> {
    framed(&message.encode_to_vec())
}

/// Sends `body` to a method (`package.Service/Method`) of the server at `url`, with these further headers. An HTTP
/// status that is not 200 comes back as `HTTP {status}`.
pub(crate) async fn call(
    url: &str,
    method: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Outcome {
    let address = url.trim_start_matches("http://");
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
    let connection = tokio::spawn(connection);
    let mut request = http::Request::post(format!("{url}/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
    if answer.status() != http::StatusCode::OK {
        let said = format!("HTTP {}", answer.status().as_u16());
        return Ok(Err(Status::new(Code::Unknown, said)));
    }
    let refusal = Status::from_header_map(answer.headers());
    let trailers = answer.into_body().collect().await?.trailers().cloned();
    connection.abort();
    let ended = trailers.as_ref().and_then(Status::from_header_map);
    let status = refusal.or(ended).ok_or_else(|| anyhow::anyhow!("an answer without a status"))?;
    Ok(if status.code() == Code::Ok { Ok("OK".to_owned()) } else { Err(status) })
}
