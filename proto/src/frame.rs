//! A frame of the link as both ends hold it: its calls still encoded.
//!
//! On the wire it is the `Frame` of `link.proto`. A call is encoded once, by whoever asks, and read by itself, so that
//! one that cannot be read costs its own caller and nobody else in its frame.

use crate::fault::Reason;
use crate::limits::CALL_BYTES_MAX;
use crate::wire::cell::Call;
use bytes::Bytes;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// The number of `Call.id`.
const ID_FIELD: u32 = 1;

/// Calls in the order of their arrival at the router, each an encoded [`Call`].
#[derive(Clone, PartialEq, Message)]
pub struct Frame {
    /// At most 256, and 64 KiB.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub calls: Vec<Bytes>,
}

/// A call that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadCall {
    /// Whose it is, as far as that can be read: without an id nobody can be told.
    pub id: Option<u64>,
    /// What is wrong with it.
    pub reason: Reason,
}

impl Frame {
    /// A frame of these calls.
    pub fn of(calls: &[Call]) -> Frame {
        Frame { calls: calls.iter().map(|call| call.encode_to_vec().into()).collect() }
    }
}

/// Reads one call of a frame.
///
/// # Errors
/// When it has more than [`CALL_BYTES_MAX`] bytes, or when they are no call.
pub fn read_call(bytes: Bytes) -> Result<Call, BadCall> {
    if bytes.len() > CALL_BYTES_MAX {
        return Err(BadCall { id: id_of(bytes), reason: Reason::MessageTooLarge });
    }
    Call::decode(bytes.clone())
        .map_err(|_| BadCall { id: id_of(bytes), reason: Reason::MessageUndecodable })
}

/// The id of a call, though the rest of it may be unreadable. Routers write it first.
fn id_of(mut bytes: Bytes) -> Option<u64> {
    while !bytes.is_empty() {
        let (field, wire_type) = decode_key(&mut bytes).ok()?;
        if field == ID_FIELD && wire_type == WireType::Varint {
            return decode_varint(&mut bytes).ok();
        }
        skip_field(wire_type, field, &mut bytes, DecodeContext::default()).ok()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::cell::{Join, Probe, call::Kind};
    use proptest::prelude::*;

    fn call(id: u64, payload: usize) -> Call {
        let payload = vec![b'x'; payload].into();
        let kind = Some(Kind::Probe(Probe { payload }));
        Call { id, time_left_ms: 9, sale: "s01".into(), kind, ..Call::default() }
    }

    #[test]
    fn a_frame_is_what_link_proto_says() {
        let calls = [call(1, 3), Call { kind: Some(Kind::Join(Join {})), ..Call::default() }];
        let mut by_hand = Vec::new();
        for call in &calls {
            prost::encoding::message::encode(1, call, &mut by_hand);
        }
        let frame = Frame::of(&calls);
        assert_eq!(frame.encode_to_vec(), by_hand);
        let read = Frame::decode(&by_hand[..]).unwrap();
        let read: Vec<_> = read.calls.into_iter().map(|call| read_call(call).unwrap()).collect();
        assert_eq!(read, calls);
    }

    #[test]
    fn what_cannot_be_read_names_its_caller_where_it_can() {
        let mut cut = call(7, 30).encode_to_vec();
        cut.truncate(20);
        let bad = |id, reason| Err(BadCall { id, reason });
        let rows = [
            ("cut short", cut, bad(Some(7), Reason::MessageUndecodable)),
            (
                "too long",
                call(8, CALL_BYTES_MAX).encode_to_vec(),
                bad(Some(8), Reason::MessageTooLarge),
            ),
            // A sale that is no text, after the id and before it.
            ("no text", vec![8, 9, 34, 1, 0xff], bad(Some(9), Reason::MessageUndecodable)),
            ("the id last", vec![34, 1, 0xff, 8, 9], bad(Some(9), Reason::MessageUndecodable)),
            ("an id of another kind", vec![10, 1, 9], bad(None, Reason::MessageUndecodable)),
            ("noise", vec![0xff; 12], bad(None, Reason::MessageUndecodable)),
        ];
        for (what, bytes, wanted) in rows {
            assert_eq!(read_call(bytes.into()), wanted, "{what}");
        }
        // A kind that we do not know is a call without one.
        let unknown = read_call(vec![8, 9, 0x82, 1, 0].into()).unwrap();
        assert_eq!(unknown, Call { id: 9, ..Call::default() });
    }

    proptest! {
        #[test]
        fn no_bytes_do_more_than_be_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(read_call(bytes.into()));
        }
    }
}
