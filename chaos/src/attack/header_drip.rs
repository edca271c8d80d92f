//! Header drip: the headers of a call, a byte now and then.

use std::time::Duration;

use super::raw::{END_HEADERS, HEAD_BYTES, call, preface};
use super::wire::{SLOW_ENDS_WITHIN, Script};

/// Between two bytes.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) const HYPOTHESIS: &str = "headers that come byte by byte end their connection";

pub(super) fn script() -> Script {
    let headers = call(1, END_HEADERS);
    let (begin, rest) = headers.split_at(HEAD_BYTES + 1);
    let (opening, rest) = ([&preface(&[]), begin].concat(), rest.to_vec());
    Script::new(opening, SLOW_ENDS_WITHIN).why(&["frame"]).pause(PAUSE).step(move |n| {
        // When all of it has come, nothing comes.
        let at = usize::try_from(n).ok().and_then(|n| rest.get(n));
        at.map(|byte| vec![*byte]).unwrap_or_default()
    })
}
