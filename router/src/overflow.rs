//! The line for the line: where a buyer stands whose own cell refuses to let them join.
//!
//! The waiting room is what overflows first. When a bucket's cell takes no joins either, because it is down, taken out or
//! full, buyers get line tickets, with numbers in the line before their bucket's line, from a cell that is there for this.
//! Once the window has reached a number its buyer joins where they would have joined, and has a ticket like any other.
//!
//! ```text
//!  Join ─▶ does anybody wait in the line before the bucket's line, or has the bucket refused for long?    intake
//!            no ──▶ joins; a refusal for want of a cell is held against the bucket
//!            yes ─▶ a number from the overflow cell; without one it is refused as it would have been
//!  poll with a line ticket ─▶ below the window? ─ no ──▶ waits, as seen from here                          window
//!                                               └ yes ─▶ joins; refused, it goes on waiting and loses nothing
//! ```
//!
//! What it promises: while anybody waits nobody overtakes them by joining anew; who stands in it is let in in the order of
//! their numbers, as fast as joins are answered; a line ticket does nothing but let its buyer join, so no stock and no
//! place in the bucket's line hangs on it (INV-7). Where ranks are drawn, everybody who joins within one window has the
//! same chances, however long they stood here: the order is that in which they are let in, not that of the draw. Where
//! the first come are first served, it is the order in which they are served, too.
//!
//! What it does not: let-in buyers join when they ask next, so neighbours may change places. Nothing here is written
//! down, and nothing waits for it. The two numbers of a line, how many were given and how many were let in, only rise, and
//! everyone keeps the highest seen: routers, the overflow cell's processes, and the line tickets themselves, which say what was
//! given. So a line survives a restart of any of them, and goes on without the overflow cell, which then gives no new numbers.
//!
//! STANDARD sales have no line, so there is none before it.

mod intake;
mod window;

use intake::Intake;
use proto::fault::Reason;
use proto::limits::{LINE_TICKET_MS_MAX, LINES_MAX};
use proto::wire::cell::LineState;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use window::Window;

/// A sale's lines, by the bucket's number.
type OfSale = HashMap<u32, Arc<Line>>;

/// See the module: the lines that this router has heard of, or whose buckets have refused joins.
#[derive(Debug)]
pub(crate) struct Overflow {
    begin: Instant,
    lines: RwLock<HashMap<Box<str>, OfSale>>,
}

/// The line before one bucket's line.
#[derive(Debug)]
pub(crate) struct Line {
    begin: Instant,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    intake: Intake,
    window: Window,
    /// When anything was heard of it last.
    heard_ms: u64,
}

/// Where a number stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Its buyer may join.
    Come,
    /// So many come before it; how long that will take at the present speed, if there is one.
    Wait { place: u64, estimate_ms: Option<u64> },
}

impl Default for Overflow {
    fn default() -> Overflow {
        Overflow { begin: Instant::now(), lines: RwLock::default() }
    }
}

impl Overflow {
    /// An overflow cell spoke.
    pub(crate) fn hear(&self, state: &LineState) {
        if let Some(line) = self.line(&state.sale, state.bucket) {
            line.hear(state.given, state.window);
        }
    }

    /// The line before a bucket's line, if something is known of it.
    pub(crate) fn known(&self, sale: &str, bucket: u32) -> Option<Arc<Line>> {
        let lines = self.lines.read().unwrap_or_else(PoisonError::into_inner);
        lines.get(sale)?.get(&bucket).cloned()
    }

    /// The same; a new one if nothing is known. None: there are too many.
    pub(crate) fn line(&self, sale: &str, bucket: u32) -> Option<Arc<Line>> {
        if let Some(line) = self.known(sale, bucket) {
            return Some(line);
        }
        let mut lines = self.lines.write().unwrap_or_else(PoisonError::into_inner);
        let count = |lines: &HashMap<_, OfSale>| lines.values().map(HashMap::len).sum();
        let mut all: usize = count(&lines);
        if all >= LINES_MAX {
            let now_ms = ms(self.begin.elapsed());
            lines.values_mut().for_each(|of_sale| of_sale.retain(|_, line| !line.is_idle(now_ms)));
            lines.retain(|_, of_sale| !of_sale.is_empty());
            all = count(&lines);
        }
        if all >= LINES_MAX {
            return None;
        }
        let heard_ms = ms(self.begin.elapsed());
        let new = || {
            let now = Mutex::new(Now { heard_ms, ..Now::default() });
            Arc::new(Line { begin: self.begin, now })
        };
        Some(lines.entry(sale.into()).or_default().entry(bucket).or_insert_with(new).clone())
    }
}

impl Line {
    /// Whether a buyer who joins now stands here first.
    pub(crate) fn stands(&self) -> bool {
        let now_ms = self.now_ms();
        let mut now = self.lock();
        now.window.waiting() > 0 || now.intake.is_closed(now_ms)
    }

    /// A join was answered, or refused; other refusals than for want of a cell say nothing.
    pub(crate) fn joined(&self, refused: Option<Reason>) {
        let now_ms = self.now_ms();
        let mut now = self.lock();
        now.heard_ms = now_ms;
        match refused {
            None => {
                now.intake.took(now_ms);
                now.window.took();
            }
            Some(reason) if is_for_want_of_a_cell(reason) => {
                now.intake.refused(now_ms);
                now.window.refused();
            }
            Some(_) => {}
        }
    }

    /// Whether anybody waits here.
    pub(crate) fn waits(&self) -> bool {
        self.lock().window.waiting() > 0
    }

    /// Whether it is time to let more in.
    pub(crate) fn is_due(&self) -> bool {
        let now_ms = self.now_ms();
        self.lock().window.is_due(now_ms)
    }

    /// Lets more in if it is still time to; `takes` is whether the bucket may be asked. Returns whether it let any in.
    pub(crate) fn look(&self, takes: bool) -> bool {
        let now_ms = self.now_ms();
        let mut now = self.lock();
        now.window.is_due(now_ms) && now.window.look(takes, now_ms)
    }

    /// Somebody knows that so many numbers were given, and so many let in.
    pub(crate) fn hear(&self, given: u64, window: u64) {
        let now_ms = self.now_ms();
        let mut now = self.lock();
        now.heard_ms = now_ms;
        now.window.hear(given, window);
    }

    /// Where a number stands.
    pub(crate) fn turn(&self, number: u64) -> Turn {
        let now_ms = self.now_ms();
        self.lock().window.turn(number, now_ms)
    }

    /// How many numbers were given, and how many let in.
    pub(crate) fn numbers(&self) -> (u64, u64) {
        self.lock().window.numbers()
    }

    /// Whether nobody stands here and nothing is held against the bucket, or every line ticket has expired.
    fn is_idle(&self, now_ms: u64) -> bool {
        let mut now = self.lock();
        let is_over = now.window.waiting() == 0 && now.intake.is_open(now_ms);
        is_over || now_ms.saturating_sub(now.heard_ms) > LINE_TICKET_MS_MAX
    }

    fn now_ms(&self) -> u64 {
        ms(self.begin.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a join was refused because no cell could take it: what is the buyer's, their org's or the sale's own doing does
/// not count, nor what is final.
pub(crate) fn is_for_want_of_a_cell(reason: Reason) -> bool {
    matches!(reason, Reason::BucketMoving | Reason::Overloaded | Reason::DeadlinePassed)
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
