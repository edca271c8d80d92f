//! Empty DATA: frames of a call that bring nothing, and need no window.

use super::raw::{DATA, END_HEADERS, call, frame, preface};
use super::wire::{FLOODS_END_WITHIN, Script};

pub(super) const HYPOTHESIS: &str = "DATA of no bytes ends its connection";

pub(super) fn script() -> Script {
    let opening = [preface(&[]), call(1, END_HEADERS)].concat();
    Script::new(opening, FLOODS_END_WITHIN)
        .why(&["flood_of_frames"])
        .step(|_| frame(DATA, 0, 1, &[]).repeat(100))
}
