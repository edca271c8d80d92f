//! SETTINGS: each must be applied and answered.

use super::raw::{SETTINGS, frame, preface};
use super::wire::{FLOODS_END_WITHIN, Script};

/// A narrow window would end the connection by itself.
const WIDE: u32 = 65_535;

pub(super) const HYPOTHESIS: &str = "SETTINGS without an end, end their connection";

pub(super) fn script() -> Script {
    Script::new(preface(&[]), FLOODS_END_WITHIN).why(&["flood_of_asks"]).step(|n| {
        // Windows of all open calls are reckoned anew with each.
        let window = [&4_u16.to_be_bytes()[..], &(WIDE + n % 1_000).to_be_bytes()].concat();
        frame(SETTINGS, 0, 0, &window).repeat(100)
    })
}
