//! Unary gRPC calls on one HTTP/2 connection, as cheap as a client can make them: the platform and its load share the
//! processors, and what the load takes the platform does not have. Retries nothing and keeps no pool.

use crate::open::End;
use anyhow::{Context, Result, bail};
use h2::client::SendRequest;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use http::uri::Authority;
use http::{Method, Request, Uri, Version};
use prost::Message;
use prost::bytes::{BufMut, Bytes, BytesMut};
use std::time::Duration;
use tokio::net::TcpStream;
use tonic::Code;

/// Bytes that may be on their way to us, on the connection and on a stream.
const WINDOW_BYTES: u32 = 1 << 20;
/// The prefix of a gRPC message: not compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// A connection.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    send: SendRequest<Bytes>,
    authority: Authority,
    deadline: Option<HeaderValue>,
}

/// How a call ended that was not answered with a message.
#[derive(Debug, thiserror::Error)]
#[error("{0:?}: {1}")]
pub(crate) struct Refused(pub(crate) Code, pub(crate) String);

impl Line {
    /// Connects to `http://host:port`.
    pub(crate) async fn connect(url: &str) -> Result<Line> {
        let authority = url.parse::<Uri>()?.authority().context("an address has no host")?.clone();
        let stream = TcpStream::connect(authority.as_str()).await?;
        stream.set_nodelay(true)?;
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(stream)
            .await?;
        tokio::spawn(connection);
        Ok(Line { send, authority, deadline: None })
    }

    /// So many connections whose calls say that they wait no longer than `deadline`.
    pub(crate) async fn many(url: &str, count: usize, deadline: Duration) -> Result<Vec<Line>> {
        let deadline = HeaderValue::try_from(format!("{}m", deadline.as_millis()))?;
        let mut lines = Vec::with_capacity(count);
        for _ in 0..count {
            let line = Line::connect(url).await?;
            lines.push(Line { deadline: Some(deadline.clone()), ..line });
        }
        Ok(lines)
    }

    /// Calls `path`, like `/package.Service/Method`, with a bearer's token.
    pub(crate) async fn call<Answer: Message + Default>(
        &self,
        path: &'static str,
        token: &HeaderValue,
        message: &impl Message,
    ) -> Result<Answer> {
        let mut send = self.send.clone().ready().await?;
        let uri =
            Uri::builder().scheme("http").authority(self.authority.clone()).path_and_query(path);
        let mut request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(uri.build()?)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
            .header(TE, HeaderValue::from_static("trailers"))
            .header(AUTHORIZATION, token)
            .body(())?;
        if let Some(deadline) = &self.deadline {
            request.headers_mut().insert("grpc-timeout", deadline.clone());
        }
        let (answered, mut body) = send.send_request(request, false)?;
        body.send_data(framed(message)?, true)?;

        let (head, mut body) = answered.await?.into_parts();
        accepted(&head.headers)?;
        let mut answer = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            answer.extend_from_slice(&data);
        }
        accepted(&body.trailers().await?.context("an answer has no trailers")?)?;
        if answer.len() < PREFIX_BYTES {
            bail!("an answer has no message");
        }
        Ok(Answer::decode(&answer[PREFIX_BYTES..])?)
    }
}

/// How a call ended.
pub(crate) fn ended<T>(answer: &Result<T>) -> End {
    match answer {
        Ok(_) => End::Done,
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(Refused(Code::DeadlineExceeded, _)) => End::Late,
            Some(_) => End::Refused,
            None => End::Broken,
        },
    }
}

/// A token as the `authorization` of a call.
pub(crate) fn bearer(token: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
    // Every call has another one, so there is nothing to remember for the next.
    value.set_sensitive(true);
    Ok(value)
}

/// A message as gRPC frames it.
pub(crate) fn framed(message: &impl Message) -> Result<Bytes> {
    let bytes = message.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + bytes);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(bytes)?);
    message.encode(&mut framed)?;
    Ok(framed.freeze())
}

/// Whether headers or trailers carry no refusal.
pub(crate) fn accepted(headers: &HeaderMap) -> Result<(), Refused> {
    match headers.get("grpc-status").map(HeaderValue::as_bytes) {
        None | Some(b"0") => Ok(()),
        Some(code) => {
            let text = headers.get("grpc-message").and_then(|text| text.to_str().ok());
            Err(Refused(Code::from_bytes(code), text.unwrap_or_default().to_owned()))
        }
    }
}
