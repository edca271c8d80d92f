//! Protobuf for tonic with clear errors: bytes that are no message are the caller's mistake, said as such.
//!
//! A message over the limit never reaches the codec: tonic refuses it by its length prefix, and
//! [`explain`] gives that refusal its reason on the way out.

use crate::fault::{DOMAIN, Fault, Reason};
use prost::Message;
use std::collections::HashMap;
use std::marker::PhantomData;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic::{Code, Status};
use tonic_prost::{ProstCodec, ProstEncoder};
use tonic_types::StatusExt;

/// Buffers start at what nearly every message of ours needs, and are handed over beyond 32 KiB.
const BUFFERS: fn() -> BufferSettings = || BufferSettings::new(1024, 32 * 1024);

/// The codec of every service.
#[derive(Debug, Clone)]
pub struct StrictCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for StrictCodec<T, U> {
    fn default() -> Self {
        StrictCodec(PhantomData)
    }
}

impl<T, U> Codec for StrictCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = StrictDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BUFFERS())
    }

    fn decoder(&mut self) -> Self::Decoder {
        StrictDecoder(PhantomData)
    }
}

/// Decodes a message, or says that it is none.
#[derive(Debug, Clone)]
pub struct StrictDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for StrictDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        match U::decode(buf) {
            Ok(message) => Ok(Some(message)),
            Err(_) => Err(Fault::new(Reason::MessageUndecodable).into()),
        }
    }

    fn buffer_settings(&self) -> BufferSettings {
        BUFFERS()
    }
}

/// Gives a refusal that tonic made by itself its reason; any other status comes back as it is.
///
/// tonic says OUT_OF_RANGE, without details, of a message over the limit, and INTERNAL of frames that hold no message:
/// none at all, one that is cut short, or a flag that makes no sense. Our own INTERNAL has details.
pub fn explain(status: Status) -> Status {
    match status.code() {
        Code::OutOfRange if status.details().is_empty() => {
            Fault::new(Reason::MessageTooLarge).into()
        }
        Code::Internal if status.details().is_empty() => {
            Fault::new(Reason::MessageUndecodable).into()
        }
        _ => status,
    }
}

/// Gives a refusal of a request that came as HTTP its reason, and leaves what it says: that tells more than the reason
/// does. A refusal that the call itself made has its reason.
pub fn explain_http(status: Status) -> Status {
    let mut details = status.get_error_details();
    let about_a_field = details.bad_request().is_some();
    let reason = match status.code() {
        _ if details.error_info().is_some() => return status,
        Code::InvalidArgument if about_a_field => Reason::InvalidField,
        Code::InvalidArgument => Reason::MessageUndecodable,
        Code::OutOfRange => Reason::MessageTooLarge,
        Code::NotFound => Reason::NotFound,
        Code::DeadlineExceeded => Reason::DeadlinePassed,
        Code::Internal => Reason::Internal,
        _ => return status,
    };
    details.set_error_info(reason.label(), DOMAIN, HashMap::new());
    Status::with_error_details(reason.code(), status.message(), details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_http_refuses_has_a_reason_and_keeps_its_words() {
        let bare = explain_http(Status::invalid_argument("no JSON"));
        let fault = Fault::of_status(&bare).unwrap();
        assert_eq!((fault.reason, bare.message()), (Reason::MessageUndecodable, "no JSON"));
        let field = Status::from(Fault::field("units", "must be 1"));
        assert_eq!(explain_http(field.clone()).details(), field.details());
        let away = explain_http(Status::unavailable("away"));
        assert!(away.details().is_empty(), "what nobody explained stays as it is");
    }
}
