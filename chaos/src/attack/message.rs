//! Calls whose messages are none: what is sent, and what was answered.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::Tally;

/// An answer that has not come after this time never does. A busy machine may take long.
const PATIENCE: Duration = Duration::from_secs(60);

/// INVALID_ARGUMENT, NOT_FOUND (what is left of a message names nothing), RESOURCE_EXHAUSTED, OUT_OF_RANGE and
/// UNIMPLEMENTED: the caller's own doing.
const ALLOWED: [i32; 5] = [3, 5, 8, 11, 12];

/// A call, and what is not true of it.
pub(super) struct Lie {
    what: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
}

impl Lie {
    pub(super) fn new(what: &'static str, body: Vec<u8>) -> Lie {
        Lie { what, headers: Vec::new(), body }
    }

    pub(super) fn header(mut self, name: &'static str, value: &'static str) -> Lie {
        self.headers.push((name, value));
        self
    }
}

/// A message and how long it is.
pub(super) fn prefixed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes(), message].concat()
}

/// The same, said to be compressed.
pub(super) fn compressed(message: &[u8]) -> Vec<u8> {
    let mut message = prefixed(message);
    if let Some(flag) = message.first_mut() {
        *flag = 1;
    }
    message
}

/// Tells all lies, one after another, on one connection from `from`.
pub(super) async fn tell(
    lies: &[Lie],
    token: &str,
    to: SocketAddr,
    from: SocketAddr,
) -> io::Result<Tally> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(from)?;
    let stream = socket.connect(to).await?;
    let (mut client, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
    let driven = tokio::spawn(connection);
    let mut tally = Tally::default();
    for lie in lies {
        let asked = async {
            client = client.clone().ready().await?;
            one(&mut client, lie, token).await
        };
        let answer = match timeout(PATIENCE, asked).await {
            Ok(Ok(code)) => code,
            Ok(Err(_)) => None,
            Err(_) => Some(-1),
        };
        // A reset is as good as an answer: who sends too much cannot be told more.
        if answer.is_some_and(|code| !ALLOWED.contains(&code)) {
            tally.wrong.push(format!("{}: {answer:?}", lie.what));
        }
        tally.answers.push(answer);
        tally.sent += u64::try_from(lie.body.len()).unwrap_or(0);
    }
    driven.abort();
    Ok(tally)
}

async fn one(
    client: &mut h2::client::SendRequest<Bytes>,
    lie: &Lie,
    token: &str,
) -> Result<Option<i32>, h2::Error> {
    let mut request =
        Request::post("http://attacked/floodgate.storefront.v1.StorefrontService/Join")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {token}"));
    for (name, value) in &lie.headers {
        request = request.header(*name, *value);
    }
    let Ok(request) = request.body(()) else { return Ok(None) };
    let (answer, mut body) = client.send_request(request, false)?;
    body.send_data(Bytes::from(lie.body.clone()), true)?;
    let answer = answer.await?;
    if let Some(code) = code(answer.headers()) {
        return Ok(Some(code));
    }
    let mut answered = answer.into_body();
    while let Some(data) = answered.data().await {
        let length = data?.len();
        answered.flow_control().release_capacity(length)?;
    }
    Ok(answered.trailers().await?.as_ref().and_then(code))
}

fn code(headers: &HeaderMap) -> Option<i32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}
