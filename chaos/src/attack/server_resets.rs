//! Resets by the server: calls that are well begun, and then a frame for which the protocol wants the *server* to reset
//! them. They count as closed at once, and what was begun for them goes on.

use super::raw::{END_HEADERS, WINDOW_UPDATE, call, frame, preface, request, stream};
use super::wire::{FLOODS_END_WITHIN, Script};

/// Calls in one write.
const BATCH: u32 = 50;

/// A window that overflows.
const TOO_WIDE: u32 = u32::MAX >> 1;

pub(super) const HYPOTHESIS: &str = "calls that make the router reset them end their connection";

pub(super) fn script() -> Script {
    Script::new(preface(&[]), FLOODS_END_WITHIN).step(|n| {
        let calls = (n * BATCH..(n + 1) * BATCH).map(stream);
        let wrong = |id| frame(WINDOW_UPDATE, 0, id, &TOO_WIDE.to_be_bytes());
        calls.flat_map(|id| [call(id, END_HEADERS), request(id), wrong(id)].concat()).collect()
    })
}
