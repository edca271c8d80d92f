//! A packed call: encoded once by whoever asks, in one allocation; its id and the time that is left are written before it
//! when it is sent, for only then are they known.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{uint32, uint64};
use proto::limits::CALL_BYTES_MAX;
use proto::wire::cell::Call;
use std::time::Duration;

/// Room for two keys, the longest id and the longest time.
const HEAD_BYTES: usize = 17;

/// See the module.
#[derive(Debug)]
pub(super) struct Packed(BytesMut);

impl Packed {
    /// Packs a call. None: it is too large for the link.
    pub(super) fn new(call: &Call) -> Option<Packed> {
        let bytes = HEAD_BYTES + call.encoded_len();
        if bytes > CALL_BYTES_MAX {
            return None;
        }
        let mut packed = BytesMut::with_capacity(bytes);
        packed.put_bytes(0, HEAD_BYTES);
        call.encode(&mut packed).ok()?;
        Some(Packed(packed))
    }

    /// Its bytes, at most.
    pub(super) fn bytes(&self) -> usize {
        self.0.len()
    }

    /// The call as it is sent.
    pub(super) fn sealed(mut self, id: u64, left: Duration) -> Bytes {
        let left_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        let mut room = [0; HEAD_BYTES];
        let mut head = &mut room[..];
        uint64::encode(1, &id, &mut head);
        uint32::encode(2, &left_ms, &mut head);
        let unused = head.len();
        let used = HEAD_BYTES - unused;
        self.0[unused..HEAD_BYTES].copy_from_slice(&room[..used]);
        let mut sealed = self.0.freeze();
        sealed.advance(unused);
        sealed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::frame::read_call;
    use proto::wire::cell::{Reserve, call::Kind};

    #[test]
    fn what_is_sealed_is_the_call_with_its_id_and_time() {
        let reserve = Reserve { ticket: "t".repeat(300), quantity: 2, request_id: vec![7; 16] };
        let call = Call {
            sale: "s0123456789abcdef".into(),
            bucket: 3,
            buyer: vec![1; 16].into(),
            kind: Some(Kind::Reserve(reserve)),
            ..Call::default()
        };
        let rows = [(1, 0), (1, 1), (300, 5_000), (u64::MAX, u32::MAX), (1 << 40, 30_000)];
        for (id, time_left_ms) in rows {
            let packed = Packed::new(&call).unwrap();
            let most = packed.bytes();
            let sealed = packed.sealed(id, Duration::from_millis(time_left_ms.into()));
            assert!(sealed.len() <= most);
            assert_eq!(read_call(sealed), Ok(Call { id, time_left_ms, ..call.clone() }));
        }
    }

    #[test]
    fn a_call_that_is_too_large_is_not_packed() {
        let large = |bytes| {
            let reserve = Reserve { ticket: "t".repeat(bytes), ..Reserve::default() };
            Call { kind: Some(Kind::Reserve(reserve)), ..Call::default() }
        };
        assert!(Packed::new(&large(CALL_BYTES_MAX - 64)).is_some());
        assert!(Packed::new(&large(CALL_BYTES_MAX)).is_none());
    }
}
