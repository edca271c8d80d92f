//! Zero window: as many calls as may be open at a time, and no window for any answer, which would all wait in memory.

use super::raw::{END_HEADERS, call, preface, request, stream};
use super::wire::{SLOW_ENDS_WITHIN, Script};

/// As many calls as a router lets through at a time.
const CALLS: u32 = 128;

/// The setting of every call's first window.
const WINDOW: u16 = 4;

pub(super) const HYPOTHESIS: &str =
    "a connection without room for answers is closed before they are made";

pub(super) fn script() -> Script {
    let calls = (0..CALLS).map(stream).flat_map(|id| [call(id, END_HEADERS), request(id)].concat());
    let opening = preface(&[(WINDOW, 0)]).into_iter().chain(calls).collect();
    Script::new(opening, SLOW_ENDS_WITHIN).why(&["narrow_window"])
}
