//! Half a TLS hello: where TLS is spoken a handshake that was begun, where it is not something else than HTTP.

use super::wire::{SLOW_ENDS_WITHIN, Script};

/// A record of a handshake, a client's hello of TLS 1.2 and up, and the first bytes of its randomness.
const HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0xde, 0xad, 0xbe, 0xef];

pub(super) const HYPOTHESIS: &str = "half a TLS hello ends its connection, with TLS and without";

pub(super) fn script() -> Script {
    Script::new(HELLO.to_vec(), SLOW_ENDS_WITHIN)
}
