//! Half a TLS hello: a handshake that was begun, on a port where TLS is spoken.

use super::wire::{SLOW_ENDS_WITHIN, Script, Spoken};

/// A record of a handshake, a client's hello of TLS 1.2 and up, and the first bytes of its randomness.
const HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0xde, 0xad, 0xbe, 0xef];

pub(super) const HYPOTHESIS: &str = "half a TLS hello ends its connection";

pub(super) fn script() -> Script {
    Script::new(HELLO.to_vec(), SLOW_ENDS_WITHIN).why(&["handshake"]).spoken(Spoken::Tls)
}
