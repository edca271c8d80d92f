//! Differences: what the audit found that cannot be so. Each is told once.

use proto::invariant::Invariant;
use proto::limits::AUDIT_DIFFERENCES_MAX;
use std::collections::BTreeMap;

/// Something that cannot be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// Which promise it breaks.
    pub(super) invariant: Invariant,
    /// What it is about: what is told of that once is not told again.
    pub(super) about: String,
    /// What is wrong.
    pub(super) what: String,
}

impl Difference {
    pub(super) fn new(
        invariant: Invariant,
        about: impl Into<String>,
        what: impl Into<String>,
    ) -> Difference {
        Difference { invariant, about: about.into(), what: what.into() }
    }

    /// What to do.
    pub(super) fn advice(&self) -> &'static str {
        match self.invariant {
            Invariant::Inv3 => {
                "no unit is lost by this: restart the keeper's process, which loads Redis anew, and keep its log"
            }
            _ => {
                "pause the sale, leave the database as it is, export the ledger and hold it against a head from outside \
                 the cell: floodgate ledger export, floodgate ledger verify --head"
            }
        }
    }
}

/// The differences of one bucket that were told.
#[derive(Debug, Default)]
pub(super) struct Differences {
    told: BTreeMap<String, Invariant>,
}

impl Differences {
    /// Those of `found` that are new. After [`AUDIT_DIFFERENCES_MAX`] nobody learns anything by more.
    pub(super) fn new_of(&mut self, found: Vec<Difference>) -> Vec<Difference> {
        let mut fresh = Vec::new();
        for difference in found {
            let has_room = self.told.len() < AUDIT_DIFFERENCES_MAX;
            if has_room && !self.told.contains_key(&difference.about) {
                self.told.insert(difference.about.clone(), difference.invariant);
                fresh.push(difference);
            }
        }
        fresh
    }

    /// Which promises are broken here, once for each difference.
    pub(super) fn broken(&self) -> impl Iterator<Item = Invariant> {
        self.told.values().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_once_and_not_too_many() {
        let some = |about: usize| Difference::new(Invariant::Inv2, about.to_string(), "x");
        let mut differences = Differences::default();
        assert_eq!(differences.new_of(vec![some(1), some(1), some(2)]).len(), 2);
        assert_eq!(differences.new_of(vec![some(2)]), []);
        let many = (10..1_000).map(some).collect();
        assert_eq!(differences.new_of(many).len() + 2, AUDIT_DIFFERENCES_MAX);
        assert_eq!(differences.broken().count(), AUDIT_DIFFERENCES_MAX);
    }
}
