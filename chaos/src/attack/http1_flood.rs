//! Requests of HTTP/1.1, one behind the other, for which nobody waits.

use super::wire::{FLOODS_END_WITHIN, Script, Spoken};

const REQUEST: &[u8] = b"GET /nowhere HTTP/1.1\r\nhost: attacked\r\n\r\n";

pub(super) const HYPOTHESIS: &str = "requests of HTTP/1.1 without an end, end their connection";

pub(super) fn script() -> Script {
    Script::new(Vec::new(), FLOODS_END_WITHIN)
        .why(&["flood_of_requests"])
        .spoken(Spoken::Http1)
        .step(|_| REQUEST.repeat(100))
}
