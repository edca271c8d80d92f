//! DATA of one byte: each is a frame to be read, queued and handed on, and the window lets tens of thousands through.

use super::raw::{DATA, END_HEADERS, call, frame, preface};
use super::wire::{FLOODS_END_WITHIN, Script};

pub(super) const HYPOTHESIS: &str = "DATA of one byte ends its connection";

pub(super) fn script() -> Script {
    let opening = [preface(&[]), call(1, END_HEADERS)].concat();
    Script::new(opening, FLOODS_END_WITHIN)
        .why(&["flood_of_frames"])
        .step(|_| frame(DATA, 0, 1, &[0]).repeat(100))
}
