//! Numbered batches: what follows from what a store said to one.
//!
//! A batch is repeated under its own number while its outcome is unknown, a few times; a store answers a repeat as it
//! answered the first. Doubt is the end of an epoch: the next one reads what is true.

use crate::inventory::InventoryError;
use crate::ledger::LedgerError;
use proto::limits::BATCH_TRIES_MAX;

/// What a store said to a batch that it did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Said {
    /// Nobody knows; it may even be carried out later.
    Unknown,
    /// The store knows another epoch, another batch, or nothing of the bucket.
    Contradicts,
    /// It is of this epoch and in its turn, and nothing of it was done.
    Refused,
}

/// What to do next with such a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Next {
    /// Send the very same once more.
    Repeat,
    /// Nothing was done: see what the refusal says.
    Refused,
    /// Take the bucket over anew.
    Doubt,
}

/// What follows from what a store said to a batch that was sent `tries` times.
pub(crate) fn after(said: Said, tries: u32) -> Next {
    match said {
        Said::Unknown if tries < BATCH_TRIES_MAX => Next::Repeat,
        // After an unknown outcome an earlier try may still arrive, so that no refusal says that nothing was done.
        Said::Refused if tries == 1 => Next::Refused,
        Said::Unknown | Said::Refused | Said::Contradicts => Next::Doubt,
    }
}

/// Why the ledger refused a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// An order has one of the units (INV-1).
    Unit,
    /// Another key says no: the cap, the ticket, or the request.
    Key,
    /// An order is not in the state, or not at the time, that its move needs.
    State,
    /// The sale is not selling, or Postgres has reasons of its own.
    Other,
}

/// What becomes of a refused batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AfterRefusal {
    /// One entry may stand in the way of the others: send each alone, under the same number.
    OneByOne,
    /// It is the answer: whoever asked is told, and a grant goes back.
    Answer,
    /// It cannot be, by what the keeper knows: take the bucket over anew.
    Doubt,
}

/// What becomes of refused holds.
pub(crate) fn hold_refused(why: Refusal, entries: usize) -> AfterRefusal {
    match why {
        Refusal::Unit | Refusal::Key if entries > 1 => AfterRefusal::OneByOne,
        // A unit that is taken was not Redis' to grant.
        Refusal::Unit => AfterRefusal::Doubt,
        Refusal::Key | Refusal::State | Refusal::Other => AfterRefusal::Answer,
    }
}

/// What becomes of refused moves.
pub(crate) fn move_refused(why: Refusal, entries: usize) -> AfterRefusal {
    match why {
        Refusal::State if entries > 1 => AfterRefusal::OneByOne,
        Refusal::State => AfterRefusal::Answer,
        Refusal::Unit | Refusal::Key | Refusal::Other => AfterRefusal::Doubt,
    }
}

/// What an error of Redis means for a batch.
pub(crate) fn said_by_redis(error: &InventoryError) -> Said {
    match error {
        InventoryError::Forgotten(_) | InventoryError::Stale(_) => Said::Contradicts,
        InventoryError::Unknown(_) => Said::Unknown,
    }
}

/// What an error of Postgres means for a batch.
pub(crate) fn said_by_ledger(error: &LedgerError) -> Said {
    match error {
        LedgerError::Stale(_) => Said::Contradicts,
        LedgerError::Unknown(_) => Said::Unknown,
        LedgerError::NotSelling
        | LedgerError::Conflict(_)
        | LedgerError::Taken(_)
        | LedgerError::Refused(_) => Said::Refused,
    }
}

impl Refusal {
    /// Why the ledger refused, as its error says.
    pub(crate) fn of(error: &LedgerError) -> Refusal {
        match error {
            LedgerError::Taken(constraint) if constraint == "unit_once" => Refusal::Unit,
            LedgerError::Taken(_) => Refusal::Key,
            LedgerError::Conflict(_) => Refusal::State,
            LedgerError::NotSelling
            | LedgerError::Refused(_)
            | LedgerError::Stale(_)
            | LedgerError::Unknown(_) => Refusal::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_only_when_nothing_can_still_arrive() {
        let last = BATCH_TRIES_MAX;
        let rows = [
            (Said::Unknown, 1, Next::Repeat),
            (Said::Unknown, last - 1, Next::Repeat),
            (Said::Unknown, last, Next::Doubt),
            (Said::Refused, 1, Next::Refused),
            (Said::Refused, 2, Next::Doubt),
            (Said::Contradicts, 1, Next::Doubt),
            (Said::Contradicts, last, Next::Doubt),
        ];
        for (said, tries, wanted) in rows {
            assert_eq!(after(said, tries), wanted, "{said:?} to try {tries}");
        }
    }

    #[test]
    fn one_entry_never_costs_the_others_and_a_taken_unit_is_never_an_answer() {
        let rows = [
            (Refusal::Unit, AfterRefusal::Doubt, AfterRefusal::Doubt),
            (Refusal::Key, AfterRefusal::Answer, AfterRefusal::Doubt),
            (Refusal::State, AfterRefusal::Answer, AfterRefusal::Answer),
            (Refusal::Other, AfterRefusal::Answer, AfterRefusal::Doubt),
        ];
        for (why, of_hold, of_move) in rows {
            assert_eq!((hold_refused(why, 1), move_refused(why, 1)), (of_hold, of_move), "{why:?}");
        }
        for why in [Refusal::Unit, Refusal::Key] {
            assert_eq!(hold_refused(why, 2), AfterRefusal::OneByOne);
        }
        assert_eq!(move_refused(Refusal::State, 2), AfterRefusal::OneByOne);
    }
}
