//! Lengths that lie: before each message of gRPC stands how long it is, and what comes is longer, shorter, or nothing.

use super::message::{Lie, prefixed};

pub(super) const HYPOTHESIS: &str =
    "a message that is not as long as it says is refused with a reason";

pub(super) fn lies() -> Vec<Lie> {
    let saying =
        |length: u32| [&[0][..], &length.to_be_bytes(), &[10, 3, b'o', b'r', b'g']].concat();
    vec![
        Lie::new("4 GiB", saying(u32::MAX)),
        Lie::new("over the limit", saying(16 * 1_024 + 1)),
        Lie::new("just a little", saying(6)),
        Lie::new("less", saying(2)),
        Lie::new("half a prefix", vec![0, 0, 0]),
        Lie::new("nothing", Vec::new()),
        Lie::new("a flag that is none", [&[9][..], &prefixed(&[])[1..]].concat()),
    ]
}
