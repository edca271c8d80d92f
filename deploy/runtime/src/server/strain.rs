//! Strain: which part of its connections a server reads, decided purely from how late it is and what its work is for.
//!
//! To read a call only to refuse it costs a good part of what it costs to carry one out, so at ten times of what a server
//! can do it would do nothing but refuse. What is not read costs nothing. So under strain it reads a part of its
//! connections, and all of what they say; a part of every connection would be of use to nobody, because what is old
//! comes first on each.
//!
//! Strain is one of two things. *Late*: whatever has something to do here waits too long for its turn, even what waits
//! least. *In vain*: there is too little processor time for everything, and much of it goes into refusals for want of
//! room. Where there is time enough refusals may be as many as they like: one who can do no more behind us is no reason
//! not to hear the others.
//!
//! How much is read follows from what was seen: what all connections together ask, by what those ask that are read, and
//! the most that was done of use lately. So it falls at once to what can be done, and rises at once when less is asked;
//! beyond what could be done lately it rises carefully at first, and then by halves.

use std::time::Duration;

/// All connections are read.
pub(super) const WHOLE: u32 = 1 << 16;
/// How many connections are read at least, more or less: with few there is no part of them that fits.
const READ_MIN: usize = 16;
/// A server is late when nothing waited less than this for its turn.
const LATE: Duration = Duration::from_millis(50);
/// Who has waited so long needs nobody else to say so.
pub(super) const VERY_LATE: Duration = Duration::from_millis(100);
/// It is short of processor time when its tasks wait so long for their turn on average. A timer alone makes half of it.
const SHORT: Duration = Duration::from_millis(2);
/// Fewer answers than this say nothing: what takes the time then is not calls, as after a pause of ours.
const ANSWERS_MIN: u64 = 16;
/// Of so many answers one may be in vain before less is read, ...
const IN_VAIN_MOST: u64 = 8;
/// ... and then so many are meant to be; ...
const IN_VAIN_MEANT: u64 = 16;
/// ... when there are fewer than that, more is read again.
const IN_VAIN_LEAST: u64 = 32;
/// Most that is left out at a time: seven eighths.
const FALL_MOST: u32 = 8;
/// By which part of itself the most that can be done is forgotten in a window: while more is asked, and while too much is
/// read for it all the same.
const FORGOTTEN: (u64, u64) = (64, 8);
/// A change by more than this part of itself has to show before the next one.
const SHOWS: u32 = 8;
/// The part of itself by which it rises first, and at most: as powers of a half.
const RISE: (u32, u32) = (5, 1);
/// The weight of what was before in the mean, against one of what is new.
const BEFORE: u32 = 3;

/// What was felt for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Felt {
    /// For how long.
    pub(super) took: Duration,
    /// How long something waited for its turn, at least.
    pub(super) least: Duration,
    /// The same on average.
    pub(super) mean: Duration,
    /// Calls that were answered.
    pub(super) answers: u64,
    /// Of these, refused for want of room or time.
    pub(super) in_vain: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Strain {
    share: u32,
    /// Calls a second that all connections ask; 0: not known.
    asked: u64,
    /// Calls a second that are done of use, ...
    useful: u64,
    /// ... and the most of that lately.
    done: u64,
    rise: u32,
    mean: Duration,
    /// What was changed last has yet to show.
    rests: bool,
}

impl Strain {
    /// Without any.
    pub(super) fn new() -> Strain {
        Strain {
            share: WHOLE,
            asked: 0,
            useful: 0,
            done: 0,
            rise: RISE.0,
            mean: Duration::ZERO,
            rests: false,
        }
    }

    /// Which part of so many connections is read from now on, of [`WHOLE`].
    pub(super) fn feel(&mut self, felt: Felt, connections: usize) -> u32 {
        self.mean = (self.mean * BEFORE + felt.mean) / (BEFORE + 1);
        if std::mem::take(&mut self.rests) && felt.least <= VERY_LATE {
            return self.share;
        }
        // Counted one after the other, while calls go on.
        let in_vain = felt.in_vain.min(felt.answers);
        let says = felt.answers >= ANSWERS_MIN;
        let is_late = says && felt.least > LATE;
        let wastes = |part: u64| says && self.mean > SHORT && in_vain * part > felt.answers;
        let (too_much, much) = (wastes(IN_VAIN_MOST), wastes(IN_VAIN_LEAST));
        if says {
            self.learn(felt, felt.answers - in_vain, (is_late, too_much));
        }
        let before = self.share;
        let fits = self.fits();
        if is_late || too_much {
            let fits = fits.min(before);
            let in_time = part(before, micros(LATE), micros(felt.least).max(1));
            self.share = if is_late { fits.min(in_time) } else { fits }.max(before / FALL_MOST);
            self.rise = RISE.0;
        } else if much || felt.least > LATE / 2 {
            self.rise = RISE.0;
        } else {
            let more = before + (before >> self.rise);
            self.share = if says { fits.max(more) } else { more };
            self.rise = RISE.1.max(self.rise - 1);
        }
        self.share = self.share.clamp(least(connections), WHOLE);
        self.rests = self.share.abs_diff(before) > before / SHOWS;
        self.share
    }

    /// What is asked, and what can be done.
    fn learn(&mut self, felt: Felt, useful: u64, (is_late, too_much): (bool, bool)) {
        let per_s = |count: u64| count * 1_000_000 / micros(felt.took).max(1);
        // What is quite another is another load, and no scatter.
        let blend = |known: u64, new: u64| match (known / 2..known.saturating_mul(2)).contains(&new)
        {
            true => u64::midpoint(known, new),
            false => new,
        };
        // Who is late answers what was asked before, of how many nobody knows.
        if !is_late {
            let read = u64::from(self.share.max(1));
            self.asked = blend(self.asked, per_s(felt.answers) * u64::from(WHOLE) / read);
        }
        let forgotten = match (too_much, self.share < WHOLE) {
            (true, _) => self.done / FORGOTTEN.1,
            (false, true) => self.done / FORGOTTEN.0,
            (false, false) => 0,
        };
        let useful = per_s(useful);
        self.useful = if self.useful == 0 { useful } else { u64::midpoint(self.useful, useful) };
        self.done = (self.done - forgotten).max(self.useful);
    }

    /// The part of all that is asked that can be done, and a little more: so it is seen when more can be done.
    fn fits(&self) -> u32 {
        part(WHOLE, self.done + self.done / IN_VAIN_MEANT, self.asked.max(1))
    }
}

/// The part of so many connections that is always read.
fn least(connections: usize) -> u32 {
    let part = (READ_MIN << 16) / connections.max(READ_MIN);
    u32::try_from(part).unwrap_or(WHOLE)
}

fn part(share: u32, of: u64, all: u64) -> u32 {
    u32::try_from(u64::from(share) * of.min(all) / all).unwrap_or(WHOLE)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX >> 16)
}

#[cfg(test)]
mod tests;
