//! Body drip: the message of a call by gRPC-Web over HTTP/1.1, a byte now and then.

use std::time::Duration;

use super::wire::{SLOW_ENDS_WITHIN, Script, Spoken};

/// Between two bytes.
const PAUSE: Duration = Duration::from_millis(200);

const HEAD: &[u8] = b"POST /grpc.health.v1.Health/Check HTTP/1.1\r\nhost: attacked\r\n\
      content-type: application/grpc-web+proto\r\ncontent-length: 10000\r\n\r\n";

pub(super) const HYPOTHESIS: &str = "a body that comes byte by byte ends its connection";

pub(super) fn script() -> Script {
    Script::new(HEAD.to_vec(), SLOW_ENDS_WITHIN)
        .spoken(Spoken::Http1)
        .pause(PAUSE)
        .step(|_| vec![0])
}
