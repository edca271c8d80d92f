//! A transfer: units on their way from one bucket to another, of this cell or of any; from the merchant, who adds them; or
//! back to the merchant.
//!
//! ```text
//! ASKED ──the giver gives up what is free──▶ GIVEN ──the receiver accepts──▶ ACCEPTED
//! ```
//!
//! The record in etcd is news. What is so stands in the Postgres of giver and receiver, each of which does its part once
//! under the transfer's id and first writes, then tells: so a record that is old, told twice or lost changes nothing. What
//! is decided here takes values and does no IO; a keeper carries it out, or the archive for a bucket at rest.

#[cfg(test)]
mod model;
mod news;

pub(crate) use news::{News, Seen};

use crate::ledger::{LedgerError, Share};
use proto::limits::TRANSFER_UNITS_MAX;
use proto::wire::cell::transfer_record::State;
use proto::wire::cell::{TransferRecord, UnitRange};

/// A transfer's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransferId(pub [u8; 16]);

/// What a transfer waits for a bucket to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// To give up units, or to say that it gives none.
    Give,
    /// To accept what was given up.
    Accept,
}

/// What to do about a transfer next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Take out what is free, at most so many units, and give it up.
    GiveUp {
        /// How many at most.
        most: u32,
    },
    /// Accept these units.
    Accept {
        /// In rising order, without neighbours that could be one.
        units: Vec<Share>,
    },
    /// The part is written down: the record should say so.
    Tell(TransferRecord),
}

/// What came of asking Postgres to write a part down.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It stands there, with these units.
    Written(Vec<Share>),
    /// It does not, for a reason that passes.
    Refused,
    /// It does not, because Postgres has the units otherwise.
    Contradicted,
    /// Nobody knows; or somebody else keeps the bucket by now.
    Unknown,
}

/// What follows from an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum After {
    /// Book and Redis follow, and the record is told.
    Follow,
    /// What was taken out goes back; the transfer is looked at again later.
    Again,
    /// Nothing helps but somebody who looks: the units stay where they are, and the transfer as it is.
    Leave,
    /// The bucket is taken over again, which reads what is so.
    TakeOver,
}

impl TransferId {
    /// The id in a record. None: it is not one.
    pub fn of(record: &TransferRecord) -> Option<TransferId> {
        Some(TransferId(record.transfer[..].try_into().ok()?))
    }
}

/// What a record waits for `bucket` to do, if anything. A record that cannot be carried out waits for nobody.
pub fn part(record: &TransferRecord, bucket: u32) -> Option<Part> {
    match record.state() {
        State::Asked if record.from == Some(bucket) => Some(Part::Give),
        State::Given
            if record.to == Some(bucket) && units(record).is_some_and(|all| !all.is_empty()) =>
        {
            Some(Part::Accept)
        }
        _ => None,
    }
}

/// What to do about the part of a record that waits, where Postgres has `written` of it.
pub fn next(record: &TransferRecord, part: Part, written: Option<&[Share]>) -> Step {
    match (part, written) {
        (_, Some(written)) => Step::Tell(told(record, part, written)),
        (Part::Give, None) => Step::GiveUp { most: record.wanted.min(TRANSFER_UNITS_MAX) },
        (Part::Accept, None) => Step::Accept { units: units(record).unwrap_or_default() },
    }
}

/// What follows when Postgres was asked to write down a part with `units`.
pub fn after(part: Part, units: &[Share], outcome: &Outcome) -> After {
    match (outcome, part) {
        (Outcome::Written(written), _) if written == units => After::Follow,
        // Redis has free what is not, or this part was written by somebody else in the meantime.
        (Outcome::Written(_) | Outcome::Unknown, _) | (Outcome::Contradicted, Part::Give) => {
            After::TakeOver
        }
        (Outcome::Refused, _) => After::Again,
        (Outcome::Contradicted, Part::Accept) => After::Leave,
    }
}

/// The record once a part of it is written down with `units`.
pub fn told(record: &TransferRecord, part: Part, units: &[Share]) -> TransferRecord {
    match part {
        Part::Give => {
            let range = |share: &Share| UnitRange { first: share.first_unit, units: share.units };
            let units = units.iter().map(range).collect();
            TransferRecord { state: State::Given.into(), units, ..record.clone() }
        }
        Part::Accept => TransferRecord { state: State::Accepted.into(), ..record.clone() },
    }
}

/// Unit numbers as ranges, in rising order.
pub fn ranges(mut units: Vec<u32>) -> Vec<Share> {
    units.sort_unstable();
    joined(units.into_iter().map(|first_unit| Share { first_unit, units: 1 }))
}

impl From<Result<Vec<Share>, LedgerError>> for Outcome {
    fn from(committed: Result<Vec<Share>, LedgerError>) -> Outcome {
        match committed {
            Ok(written) => Outcome::Written(written),
            Err(LedgerError::Stale(_) | LedgerError::Unknown(_)) => Outcome::Unknown,
            Err(LedgerError::Taken(_) | LedgerError::Conflict(_)) => Outcome::Contradicted,
            Err(LedgerError::Refused(_) | LedgerError::NotSelling) => Outcome::Refused,
        }
    }
}

/// The units of a record, as Postgres would list them. None: there cannot be such units.
fn units(record: &TransferRecord) -> Option<Vec<Share>> {
    let is_range = |range: &UnitRange| {
        let end = range.first.checked_add(range.units);
        range.units > 0 && end.is_some_and(|end| i32::try_from(end).is_ok())
    };
    if !record.units.iter().all(is_range) {
        return None;
    }
    let mut units: Vec<Share> = record
        .units
        .iter()
        .map(|range| Share { first_unit: range.first, units: range.units })
        .collect();
    units.sort_unstable_by_key(|share| share.first_unit);
    Some(joined(units.into_iter()))
}

/// Rising ranges, neighbours made one.
fn joined(ranges: impl Iterator<Item = Share>) -> Vec<Share> {
    let mut all: Vec<Share> = Vec::new();
    for share in ranges {
        match all.last_mut() {
            Some(last) if last.first_unit + last.units >= share.first_unit => {
                let end = (share.first_unit + share.units).max(last.first_unit + last.units);
                last.units = end - last.first_unit;
            }
            _ => all.push(share),
        }
    }
    all
}

#[cfg(test)]
mod tests;
