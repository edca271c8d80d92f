//! Deep nesting: a field that nobody knows, which is a group in a group in a group.

use super::message::{Lie, prefixed};

/// A group of field 15 begins.
const BEGIN: u8 = 15 << 3 | 3;

pub(super) const HYPOTHESIS: &str = "a message that is too deep is refused with a reason";

pub(super) fn lies() -> Vec<Lie> {
    [101, 1_000, 16_000].map(|depth| Lie::new("deep", prefixed(&vec![BEGIN; depth]))).into()
}
