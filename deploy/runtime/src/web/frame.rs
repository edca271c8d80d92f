//! gRPC's frames, for calls that are made in this process: a message behind its length, and what comes out of an answer.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use tonic::body::Body;
use tonic::{Code, Status};

/// A flag and a length.
const HEAD_BYTES: usize = 5;

/// A message behind its length.
pub(super) fn framed(message: &[u8]) -> Option<Bytes> {
    let length = u32::try_from(message.len()).ok()?;
    let mut frame = BytesMut::with_capacity(HEAD_BYTES + message.len());
    frame.put_u8(0);
    frame.put_u32(length);
    frame.put_slice(message);
    Some(frame.freeze())
}

/// The messages of an answer, one after another.
#[derive(Debug)]
pub(super) struct Messages {
    body: Body,
    read: BytesMut,
    bytes_max: usize,
}

impl Messages {
    /// Of a body, whose messages have at most so many bytes.
    pub(super) fn new(body: Body, bytes_max: usize) -> Messages {
        Messages { body, read: BytesMut::new(), bytes_max }
    }

    /// The next message; none at the end of a stream that ended well. Nothing is lost when it is not waited for.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.whole()? {
                return Ok(Some(message));
            }
            let Some(frame) = self.body.frame().await else { return Err(broken()) };
            match frame?.into_data() {
                Ok(data) => self.read.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().map_err(|_| broken())?;
                    return ended(&trailers).map(|()| None);
                }
            }
        }
    }

    fn whole(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((head, _)) = self.read.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let [_, length @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| broken())?;
        if length > self.bytes_max {
            return Err(Status::internal("the answer is larger than answers are"));
        }
        if self.read.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        self.read.advance(HEAD_BYTES);
        Ok(Some(self.read.split_to(length).freeze()))
    }
}

/// Whether these headers or trailers end a call well; headers without a status are no end.
pub(super) fn ended(headers: &HeaderMap) -> Result<(), Status> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(()),
    }
}

fn broken() -> Status {
    Status::internal("the answer broke off")
}
