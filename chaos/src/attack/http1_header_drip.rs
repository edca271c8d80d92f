//! Header drip over HTTP/1.1: a header that goes on and on, a byte now and then.

use std::time::Duration;

use super::wire::{SLOW_ENDS_WITHIN, Script, Spoken};

/// Between two bytes.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) const HYPOTHESIS: &str =
    "headers of HTTP/1.1 that come byte by byte end their connection";

pub(super) fn script() -> Script {
    Script::new(b"GET / HTTP/1.1\r\nhost: attacked\r\nx: ".to_vec(), SLOW_ENDS_WITHIN)
        .spoken(Spoken::Http1)
        .pause(PAUSE)
        .step(|_| b"y".to_vec())
}
