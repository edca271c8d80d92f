//! The book of lines: which numbers were given, to whom, and up to where they were let in. Pure: time comes from outside.
//!
//! A buyer who waits and asks again has the same number; numbers only rise, and so does a window. Memory is bounded by
//! the numbers that wait, those by a limit for each org and one for all, and lines of which every ticket has expired are
//! dropped where there is no room.

use proto::id::BuyerKey;
use proto::limits::{LINE_ORG_WAITING_MAX, LINE_TICKET_MS_MAX, LINE_WAITING_MAX, LINES_MAX};
use std::collections::HashMap;

/// The sale's id and the bucket's number.
type Key = (Box<str>, u32);

/// What a router knows of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'a> {
    pub(super) org: &'a str,
    pub(super) sale: &'a str,
    pub(super) bucket: u32,
    pub(super) given: u64,
    pub(super) window: u64,
}

/// A line as it is then, and the number that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbered {
    /// The number; what is given next where none was asked for.
    pub(super) number: u64,
    pub(super) is_new: bool,
    pub(super) given: u64,
    pub(super) window: u64,
}

/// There is no room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Book {
    lines: HashMap<Key, Line>,
    /// Numbers that wait, by org and altogether.
    orgs: HashMap<Box<str>, u64>,
    waiting: u64,
    dropped: Vec<Key>,
}

#[derive(Debug, Default)]
struct Line {
    org: Box<str>,
    /// Numbers below this were given, as far as is known.
    given: u64,
    /// Numbers below this were let in, as far as is known.
    window: u64,
    /// Who waits here.
    numbers: HashMap<BuyerKey, u64>,
    /// When a number was given last.
    at_ms: u64,
}

impl Book {
    /// Takes in what is told of a line; a `buyer` gets a number there, the one that they have if they wait already.
    pub(super) fn number(
        &mut self,
        told: &Told<'_>,
        buyer: Option<BuyerKey>,
        now_ms: u64,
    ) -> Result<Numbered, Full> {
        let key = (told.sale.into(), told.bucket);
        if !self.lines.contains_key(&key) {
            self.begin(&key, told.org, now_ms)?;
        }
        self.change(&key, |line| line.hear(told));
        let known = self.lines.get(&key).ok_or(Full)?;
        let theirs = buyer.and_then(|buyer| known.numbers.get(&buyer).copied());
        let theirs = theirs.filter(|number| *number >= known.window);
        let is_new = buyer.is_some() && theirs.is_none();
        if is_new && !self.has_room(told.org) {
            self.drop_expired(&key, now_ms);
            if !self.has_room(told.org) {
                return Err(Full);
            }
        }
        if let Some(buyer) = buyer.filter(|_| is_new) {
            self.change(&key, |line| line.give(buyer, now_ms));
        }
        let line = self.lines.get(&key).ok_or(Full)?;
        let Line { given, window, .. } = *line;
        let number = theirs.unwrap_or(if is_new { given - 1 } else { given });
        Ok(Numbered { number, is_new, given, window })
    }

    /// Numbers that wait.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Lines that were dropped since this was asked last.
    pub(super) fn dropped(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.dropped)
    }

    fn begin(&mut self, key: &Key, org: &str, now_ms: u64) -> Result<(), Full> {
        if self.lines.len() >= LINES_MAX {
            self.drop_expired(key, now_ms);
        }
        if self.lines.len() >= LINES_MAX {
            return Err(Full);
        }
        self.lines.insert(key.clone(), Line { org: org.into(), at_ms: now_ms, ..Line::default() });
        Ok(())
    }

    /// Changes a line, and counts what waits.
    fn change(&mut self, key: &Key, change: impl FnOnce(&mut Line)) {
        let Some(line) = self.lines.get_mut(key) else { return };
        let before = line.waiting();
        change(line);
        let of_org = self.orgs.entry(line.org.clone()).or_default();
        *of_org = (*of_org + line.waiting()).saturating_sub(before);
        self.waiting = (self.waiting + line.waiting()).saturating_sub(before);
    }

    fn has_room(&self, org: &str) -> bool {
        let of_org = self.orgs.get(org).copied().unwrap_or(0);
        of_org < LINE_ORG_WAITING_MAX && self.waiting < LINE_WAITING_MAX
    }

    /// Drops the lines of which every ticket has expired, but for this one.
    fn drop_expired(&mut self, but: &Key, now_ms: u64) {
        let is_void = |line: &Line| now_ms.saturating_sub(line.at_ms) > LINE_TICKET_MS_MAX;
        let void = self.lines.extract_if(|key, line| key != but && is_void(line));
        let void: Vec<_> = void.collect();
        for (key, line) in void {
            self.waiting = self.waiting.saturating_sub(line.waiting());
            if let Some(of_org) = self.orgs.get_mut(&line.org) {
                *of_org = of_org.saturating_sub(line.waiting());
            }
            self.dropped.push(key);
        }
        self.orgs.retain(|_, waiting| *waiting > 0);
    }
}

impl Line {
    fn waiting(&self) -> u64 {
        self.given - self.window
    }

    fn hear(&mut self, told: &Told<'_>) {
        self.window = self.window.max(told.window);
        self.given = self.given.max(told.given).max(self.window);
        // Now and then, so that it costs little for each who was let in.
        let waiting = usize::try_from(self.waiting()).unwrap_or(usize::MAX);
        if self.numbers.len() > waiting.saturating_add(waiting / 4 + 64) {
            self.numbers.retain(|_, number| *number >= self.window);
        }
    }

    fn give(&mut self, buyer: BuyerKey, now_ms: u64) {
        self.numbers.insert(buyer, self.given);
        self.given += 1;
        self.at_ms = now_ms;
    }
}

#[cfg(test)]
mod tests;
