//! The details of a refusal, written in one go: a flood of refusals must cost little.
//!
//! They are a `google.rpc.Status` with an `ErrorInfo` and perhaps a `RetryInfo`. By the library's own types that takes a
//! dozen allocations; here it takes one. Tests read every one of them with the library.

use super::DOMAIN;
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use tonic::Code;

const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
/// More than a key and a length take.
const FRAME_BYTES: usize = 8;

/// The details of a refusal with this code, message, reason and time to wait; 0 means none.
pub(super) fn encode(code: Code, message: &str, reason: &str, retry_after_ms: u32) -> Bytes {
    let texts = message.len() + reason.len() + DOMAIN.len() + ERROR_INFO.len() + RETRY_INFO.len();
    let mut status = BytesMut::with_capacity(texts + 12 * FRAME_BYTES);
    encode_key(1, WireType::Varint, &mut status);
    encode_varint((code as i32).cast_unsigned().into(), &mut status);
    text(2, message, &mut status);
    let info_bytes = text_bytes(reason) + text_bytes(DOMAIN);
    any(ERROR_INFO, info_bytes, &mut status);
    text(1, reason, &mut status);
    text(2, DOMAIN, &mut status);
    if retry_after_ms > 0 {
        let delay = prost_types::Duration {
            seconds: (retry_after_ms / 1_000).into(),
            // Less than a thousand times a million.
            nanos: (retry_after_ms % 1_000).cast_signed() * 1_000_000,
        };
        let delay_bytes = delay.encoded_len();
        any(RETRY_INFO, 1 + length_bytes(delay_bytes) + delay_bytes, &mut status);
        prost::encoding::message::encode(1, &delay, &mut status);
    }
    status.freeze()
}

/// The beginning of a `google.protobuf.Any` among the details, whose value has so many bytes and follows.
fn any(url: &str, value_bytes: usize, status: &mut BytesMut) {
    let whole = text_bytes(url) + 1 + length_bytes(value_bytes) + value_bytes;
    encode_key(3, WireType::LengthDelimited, status);
    encode_varint(whole as u64, status);
    text(1, url, status);
    encode_key(2, WireType::LengthDelimited, status);
    encode_varint(value_bytes as u64, status);
}

fn text(field: u32, text: &str, status: &mut BytesMut) {
    encode_key(field, WireType::LengthDelimited, status);
    encode_varint(text.len() as u64, status);
    status.put_slice(text.as_bytes());
}

/// Bytes of a text with its key, which is below 16, and its length.
fn text_bytes(text: &str) -> usize {
    1 + length_bytes(text.len()) + text.len()
}

fn length_bytes(length: usize) -> usize {
    encoded_len_varint(length as u64)
}
