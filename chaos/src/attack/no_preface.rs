//! Nothing at all: a connection that only stands there.

use super::wire::{SLOW_ENDS_WITHIN, Script};

pub(super) const HYPOTHESIS: &str = "a connection that says nothing is closed";

pub(super) fn script() -> Script {
    Script::new(Vec::new(), SLOW_ENDS_WITHIN).why(&["preface"])
}
