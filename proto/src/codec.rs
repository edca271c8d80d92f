//! Protobuf for tonic with clear errors: bytes that are no message are the caller's mistake, said as such.
//!
//! A message over the limit never reaches the codec: tonic refuses it by its length prefix, and
//! [`explain`] gives that refusal its reason on the way out.

use crate::fault::{Fault, Reason};
use prost::Message;
use std::marker::PhantomData;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic::{Code, Status};
use tonic_prost::{ProstCodec, ProstEncoder};

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
