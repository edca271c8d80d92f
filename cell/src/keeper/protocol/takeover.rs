//! The take-over: its steps in their order, and what it may believe of the line.
//!
//! A step is done again from the beginning when it fails: the epoch that was raised is never served under, and the next
//! one is raised from it. Whoever finds that somebody else was faster steps down.

use std::ops::Range;
use std::time::Duration;

use proto::limits::{RANK_BLOCK, TAKE_OVER_PAUSE_MS};

/// What a take-over does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Step {
    /// Reach Redis and see which run it is: while it is away there is no point in deposing anybody.
    Reach,
    /// Raise the epoch in Postgres, which waits for commits under way.
    Raise,
    /// See which epoch the bucket has under this process's name: raising it had no known outcome.
    Find,
    /// Read the bucket in a snapshot that begins after that.
    Read,
    /// Close the bucket in Redis to everybody, under the new epoch.
    Close,
    /// Write down what was read, in slices.
    Fill,
    /// Open it.
    Open,
    /// It is kept.
    Kept,
    /// Somebody else keeps it.
    Deposed,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Heard {
    /// It is done.
    Done,
    /// The epoch, raised or found.
    Epoch(i64),
    /// Somebody else was faster, or the bucket is at rest.
    Deposed,
    /// Nobody knows, or a store would not.
    Failed,
}

/// A take-over under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TakeOver {
    pub(crate) step: Step,
    /// The bucket's epoch, as far as is known.
    pub(crate) epoch: i64,
    /// The newest epoch under which anybody may have served: those after it were raised here and never opened.
    pub(crate) served: i64,
    /// Tries that failed once the epoch had been raised, since the bucket was kept last.
    pub(crate) failures: u32,
}

impl TakeOver {
    /// Nothing is done yet; the bucket was seen under `epoch`.
    pub(crate) fn new(epoch: i64) -> TakeOver {
        TakeOver { step: Step::Reach, epoch, served: epoch, failures: 0 }
    }

    /// Begins again: what is known is in doubt.
    pub(crate) fn again(self) -> TakeOver {
        TakeOver { step: Step::Reach, ..self }
    }

    /// What follows from what came of the step.
    pub(crate) fn heard(self, heard: Heard) -> TakeOver {
        let at = |step| TakeOver { step, ..self };
        match (self.step, heard) {
            (Step::Kept | Step::Deposed, _) => self,
            (_, Heard::Deposed) => at(Step::Deposed),
            (Step::Raise, Heard::Epoch(epoch)) => TakeOver { step: Step::Read, epoch, ..self },
            // Nobody can tell who raised it, so it may have been served under.
            (Step::Find, Heard::Epoch(epoch)) if epoch != self.epoch => {
                TakeOver { step: Step::Reach, epoch, served: epoch, ..self }
            }
            // Failing to raise, or to find, costs nobody anything.
            (Step::Find, _) => at(Step::Reach),
            (Step::Raise, Heard::Failed | Heard::Done) => at(Step::Find),
            (Step::Reach, Heard::Failed | Heard::Epoch(_)) => at(Step::Reach),
            (_, Heard::Failed | Heard::Epoch(_)) => {
                TakeOver { step: Step::Reach, failures: self.failures.saturating_add(1), ..self }
            }
            (Step::Reach, Heard::Done) => at(Step::Raise),
            (Step::Read, Heard::Done) => at(Step::Close),
            (Step::Close, Heard::Done) => at(Step::Fill),
            (Step::Fill, Heard::Done) => at(Step::Open),
            (Step::Open, Heard::Done) => {
                TakeOver { step: Step::Kept, served: self.epoch, failures: 0, ..self }
            }
        }
    }

    /// How long to wait before the next try. A store that is away is asked often; what fails after the epoch was raised
    /// is tried ever more rarely, for every try raises it again.
    pub(crate) fn pause(&self) -> Duration {
        let (first_ms, most_ms) = TAKE_OVER_PAUSE_MS;
        Duration::from_millis((first_ms << self.failures.min(16)).min(most_ms))
    }
}

/// What this process remembers of the line from its own reign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Memory {
    /// The epoch of that reign.
    pub(crate) epoch: i64,
    /// Ranks below this one were given and answered.
    pub(crate) answered: u64,
    /// No rank from here on was given: more were asked for, of which nobody has heard.
    pub(crate) asked: u64,
}

/// Where the line goes on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LineNow {
    /// The first rank to give.
    pub(crate) first: u64,
    /// Ranks below that which perhaps nobody has, and for which nobody waits.
    pub(crate) ghosts: Range<u64>,
}

/// Where the line goes on: by Redis' record, if that is to be believed; else by what this process remembers, if it was
/// the last to serve; else behind the last block that was committed, and nobody is waited for in it.
pub(crate) fn line(
    record: Option<u64>,
    memory: Option<Memory>,
    served: i64,
    (cursor, committed): (u64, u64),
) -> LineNow {
    let memory = memory.filter(|memory| memory.epoch == served);
    match (record, memory) {
        (Some(rank), memory) => {
            let first = rank.max(memory.map_or(0, |memory| memory.answered));
            LineNow { first, ghosts: first..first }
        }
        (None, Some(memory)) => {
            // Nobody is given a rank that is not committed.
            let first = memory.asked.min(committed).max(memory.answered);
            LineNow { first, ghosts: memory.answered..first }
        }
        (None, None) => {
            let first_ghost = committed.saturating_sub(RANK_BLOCK).max(cursor).min(committed);
            LineNow { first: committed, ghosts: first_ghost..committed }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_in_their_order_and_failures_begin_anew() {
        let mut at = TakeOver::new(4);
        let heard = [
            (Step::Reach, Heard::Done),
            (Step::Raise, Heard::Epoch(5)),
            (Step::Read, Heard::Done),
            (Step::Close, Heard::Done),
            (Step::Fill, Heard::Failed),
            (Step::Reach, Heard::Failed),
            (Step::Reach, Heard::Done),
            (Step::Raise, Heard::Epoch(6)),
            (Step::Read, Heard::Done),
            (Step::Close, Heard::Done),
            (Step::Fill, Heard::Done),
        ];
        for (step, heard) in heard {
            assert_eq!(at.step, step);
            at = at.heard(heard);
        }
        assert_eq!((at.step, at.epoch, at.served, at.failures), (Step::Open, 6, 4, 1));
        let kept = at.heard(Heard::Done);
        let wanted = TakeOver { step: Step::Kept, epoch: 6, served: 6, failures: 0 };
        assert_eq!(kept, wanted);
        assert_eq!(kept.again(), TakeOver { step: Step::Reach, ..wanted });
    }

    #[test]
    fn an_epoch_that_nobody_can_vouch_for_may_have_been_served_under() {
        let raising = TakeOver { step: Step::Raise, ..TakeOver::new(4) };
        let finding = raising.heard(Heard::Failed);
        assert_eq!(finding.step, Step::Find);
        let found = finding.heard(Heard::Epoch(5));
        assert_eq!((found.step, found.epoch, found.served), (Step::Reach, 5, 5));
        for other in [Heard::Epoch(4), Heard::Failed, Heard::Done] {
            let at = finding.heard(other);
            assert_eq!((at.step, at.epoch, at.served, at.failures), (Step::Reach, 4, 4, 0));
        }
        for step in [Step::Reach, Step::Raise, Step::Find, Step::Read, Step::Close, Step::Fill] {
            let at = TakeOver { step, ..TakeOver::new(4) };
            assert_eq!(at.heard(Heard::Deposed).step, Step::Deposed);
        }
    }

    #[test]
    fn what_raises_epochs_in_vain_is_tried_ever_more_rarely() {
        let (first_ms, most_ms) = TAKE_OVER_PAUSE_MS;
        let pause_ms = |failures| TakeOver { failures, ..TakeOver::new(1) }.pause().as_millis();
        assert_eq!(pause_ms(0), first_ms.into());
        assert_eq!(pause_ms(1), u128::from(first_ms) * 2);
        assert_eq!(pause_ms(u32::MAX), most_ms.into());
    }

    #[test]
    fn a_rank_is_believed_of_whoever_can_know_it() {
        let memory = Memory { epoch: 4, answered: 90, asked: 95 };
        let now = |first, ghosts| LineNow { first, ghosts };
        let rows = [
            // (Redis' record, memory, served, cursor) with 600 ranks committed
            (Some(97), Some(memory), 4, 0, now(97, 97..97)),
            (Some(97), None, 4, 0, now(97, 97..97)),
            // An older record is not believed against what buyers were told.
            (Some(80), Some(memory), 4, 0, now(90, 90..90)),
            (None, Some(memory), 4, 0, now(95, 90..95)),
            // Somebody else has served since.
            (None, Some(memory), 5, 0, now(600, 88..600)),
            (None, None, 4, 100, now(600, 100..600)),
            (None, None, 4, 600, now(600, 600..600)),
        ];
        for (record, memory, served, cursor, wanted) in rows {
            assert_eq!(
                line(record, memory, served, (cursor, 600)),
                wanted,
                "{record:?} {memory:?}"
            );
        }
    }
}
