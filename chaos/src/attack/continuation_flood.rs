//! CONTINUATION flood: headers that never end, in frames that each have a little more.

use super::raw::{CONTINUATION, call, frame, preface};
use super::wire::{FLOODS_END_WITHIN, Script};

pub(super) const HYPOTHESIS: &str = "headers that do not end, end their connection";

pub(super) fn script() -> Script {
    // A header of 60 bytes, whole in each frame.
    let header = [&[0, 1, b'x', 58][..], &[b'y'; 58]].concat();
    let opening = [preface(&[]), call(1, 0)].concat();
    Script::new(opening, FLOODS_END_WITHIN)
        .step(move |_| frame(CONTINUATION, 0, 1, &header).repeat(20))
}
