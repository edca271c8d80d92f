//! A million fields: a field that nobody knows, again and again.

use super::message::{Lie, prefixed};

/// Field 15, a number, 0.
const FIELD: [u8; 2] = [15 << 3, 0];

pub(super) const HYPOTHESIS: &str = "a message of a million fields is refused with a reason";

pub(super) fn lies() -> Vec<Lie> {
    [8_000, 1_000_000].map(|fields| Lie::new("fields", prefixed(&FIELD.repeat(fields)))).into()
}
