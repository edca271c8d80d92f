//! The window of a line: who may join, decided purely from what became of the joins of those who could.
//!
//! It is looked at in steps of time. In each one some more are let in: twice as many as before when at least half of that number
//! have come and were taken, and when nobody has come for so long that those who were let in must be gone; half as many,
//! and none this time, when more were refused than taken; the fewest again, and none, while the bucket cannot be asked. So
//! a bucket that comes back is tried by a few, and has all of them within seconds if it can bear that.
//!
//! Each router decides for itself and tells the others what it came to; the highest window counts.

use super::Turn;
use proto::limits::{LINE_SILENT_MS, LINE_STEP, LINE_STEP_EVERY_MS};

/// See the module. Times are the caller's, in milliseconds.
#[derive(Debug)]
pub(super) struct Window {
    /// Numbers below this were given.
    given: u64,
    /// Whoever has a lower number may join.
    window: u64,
    /// How many more are let in next.
    step: u32,
    /// When it was looked at last, and raised last; 0 for never.
    looked_ms: u64,
    raised_ms: u64,
    /// When somebody has come last, or nobody could.
    came_ms: u64,
    took: u32,
    refused: u32,
}

impl Default for Window {
    fn default() -> Window {
        Window {
            given: 0,
            window: 0,
            step: LINE_STEP.0,
            looked_ms: 0,
            raised_ms: 0,
            came_ms: 0,
            took: 0,
            refused: 0,
        }
    }
}

impl Window {
    /// How many wait.
    pub(super) fn waiting(&self) -> u64 {
        self.given - self.window
    }

    /// How many numbers were given, and how many let in.
    pub(super) fn numbers(&self) -> (u64, u64) {
        (self.given, self.window)
    }

    /// Somebody knows that so many were given, and so many let in.
    pub(super) fn hear(&mut self, given: u64, window: u64) {
        self.window = self.window.max(window);
        self.given = self.given.max(given).max(self.window);
    }

    /// A join was answered.
    pub(super) fn took(&mut self) {
        self.took = self.took.saturating_add(1);
    }

    /// A join was refused for want of a cell.
    pub(super) fn refused(&mut self) {
        self.refused = self.refused.saturating_add(1);
    }

    /// Whether it is time to look.
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        self.waiting() > 0
            && (self.looked_ms == 0 || now_ms.saturating_sub(self.looked_ms) >= LINE_STEP_EVERY_MS)
    }

    /// Lets more in, or not; `takes` is whether the bucket may be asked. Returns whether it let any in.
    pub(super) fn look(&mut self, takes: bool, now_ms: u64) -> bool {
        let (took, refused) = (std::mem::take(&mut self.took), std::mem::take(&mut self.refused));
        self.looked_ms = now_ms.max(1);
        let (fewest, most) = LINE_STEP;
        if !takes {
            self.step = fewest;
            self.came_ms = now_ms;
            return false;
        }
        if took > 0 || refused > 0 {
            self.came_ms = now_ms;
        }
        if refused > took {
            self.step = (self.step / 2).max(fewest);
            return false;
        }
        let silent = now_ms.saturating_sub(self.came_ms) >= LINE_SILENT_MS;
        if took >= self.step / 2 || silent {
            self.step = (self.step * 2).min(most);
        }
        self.window = (self.window + u64::from(self.step)).min(self.given);
        self.raised_ms = now_ms.max(1);
        true
    }

    /// Where a number stands.
    pub(super) fn turn(&self, number: u64, now_ms: u64) -> Turn {
        let Some(place) = number.checked_sub(self.window) else { return Turn::Come };
        let rises =
            self.raised_ms > 0 && now_ms.saturating_sub(self.raised_ms) <= 4 * LINE_STEP_EVERY_MS;
        let steps = place / u64::from(self.step) + 1;
        let estimate_ms = rises.then(|| steps.saturating_mul(LINE_STEP_EVERY_MS));
        Turn::Wait { place, estimate_ms }
    }
}
