//! Rapid reset: a call and its reset, again and again. The peer may open as many streams as it likes, since none is open
//! for longer than a moment, and each is begun on this side.

use super::raw::{END_HEADERS, END_STREAM, RST_STREAM, call, frame, preface, stream};
use super::wire::{FLOODS_END_WITHIN, Script};

/// Calls in one write.
const BATCH: u32 = 50;

pub(super) const HYPOTHESIS: &str = "calls that are reset as they come end their connection";

pub(super) fn script() -> Script {
    Script::new(preface(&[]), FLOODS_END_WITHIN).why(&["flood_of_resets"]).step(|n| {
        let calls = (n * BATCH..(n + 1) * BATCH).map(stream);
        let reset = |id| frame(RST_STREAM, 0, id, &8_u32.to_be_bytes());
        calls.flat_map(|id| [call(id, END_STREAM | END_HEADERS), reset(id)].concat()).collect()
    })
}
