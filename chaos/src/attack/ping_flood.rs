//! PING: each must be answered.

use super::raw::{PING, frame, preface};
use super::wire::{FLOODS_END_WITHIN, Script};

pub(super) const HYPOTHESIS: &str = "PINGs without an end, end their connection";

pub(super) fn script() -> Script {
    Script::new(preface(&[]), FLOODS_END_WITHIN)
        .why(&["flood_of_asks"])
        .step(|_| frame(PING, 0, 0, &[7; 8]).repeat(100))
}
