//! A bucket's local indices: which unit stands at which, while an epoch lasts.
//!
//! They are given in the order of the unit numbers when a bucket is taken over. What comes later is appended; what leaves
//! takes its indices with it, so that nothing which is gone can be found by number or by index. There may be hundreds of
//! ranges and millions of units; a look-up takes the logarithm of the ranges.

use crate::ledger::Share;
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    /// By first unit: how many units, and the first's local index.
    by_unit: BTreeMap<u32, (u32, u32)>,
    /// By first local index: how many, and the first's unit.
    by_index: BTreeMap<u32, (u32, u32)>,
    end: u32,
}

impl Shares {
    /// The indices of shares in rising order, as they are loaded.
    pub(crate) fn new(shares: &[Share]) -> Shares {
        let mut indices = Shares::default();
        indices.append(shares);
        indices
    }

    /// Where the indices end.
    pub(crate) fn end(&self) -> u32 {
        self.end
    }

    /// The unit at a local index. None: it is not ours, or no longer.
    pub(crate) fn unit(&self, index: u32) -> Option<u32> {
        find(&self.by_index, index)
    }

    /// The local index of a unit. None: it is not ours, or no longer.
    pub(crate) fn index(&self, unit: u32) -> Option<u32> {
        find(&self.by_unit, unit)
    }

    /// Units that come to stand behind all others.
    pub(crate) fn append(&mut self, shares: &[Share]) {
        for share in shares {
            self.insert(share.first_unit, share.units, self.end);
            self.end += share.units;
        }
    }

    /// Units that leave.
    pub(crate) fn remove(&mut self, shares: &[Share]) {
        for gone in shares {
            let end = gone.first_unit + gone.units;
            let touched: Vec<(u32, (u32, u32))> = self
                .by_unit
                .range(..end)
                .rev()
                .take_while(|(first, (units, _))| **first + units > gone.first_unit)
                .map(|(first, range)| (*first, *range))
                .collect();
            for (first, (units, index)) in touched {
                self.by_unit.remove(&first);
                self.by_index.remove(&index);
                if first < gone.first_unit {
                    self.insert(first, gone.first_unit - first, index);
                }
                if first + units > end {
                    self.insert(end, first + units - end, index + (end - first));
                }
            }
        }
    }

    fn insert(&mut self, first_unit: u32, units: u32, index: u32) {
        self.by_unit.insert(first_unit, (units, index));
        self.by_index.insert(index, (units, first_unit));
    }
}

/// What stands opposite `at`, by ranges whose firsts are the keys.
fn find(ranges: &BTreeMap<u32, (u32, u32)>, at: u32) -> Option<u32> {
    let (first, (count, opposite)) = ranges.range(..=at).next_back()?;
    let behind = at - first;
    (behind < *count).then(|| opposite + behind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn share(first_unit: u32, units: u32) -> Share {
        Share { first_unit, units }
    }

    #[test]
    fn what_leaves_is_found_no_more_and_what_comes_stands_last() {
        let mut shares = Shares::new(&[share(10, 3), share(50, 2)]);
        let units = |shares: &Shares| (0..8).map(|index| shares.unit(index)).collect::<Vec<_>>();
        let at = |numbers: [u32; 8]| numbers.map(|unit| (unit > 0).then_some(unit)).to_vec();
        assert_eq!(units(&shares), at([10, 11, 12, 50, 51, 0, 0, 0]));
        shares.remove(&[share(11, 1), share(50, 1)]);
        assert_eq!(units(&shares), at([10, 0, 12, 0, 51, 0, 0, 0]));
        shares.append(&[share(11, 1), share(80, 1)]);
        assert_eq!(units(&shares), at([10, 0, 12, 0, 51, 11, 80, 0]));
        assert_eq!((shares.index(11), shares.index(50), shares.end()), (Some(5), None, 7));
    }

    proptest! {
        #[test]
        fn indices_and_units_are_each_others_inverse(
            steps in prop::collection::vec((any::<bool>(), 0..40_u32, 1..8_u32), 1..60)
        ) {
            let mut shares = Shares::default();
            let mut plain: BTreeMap<u32, u32> = BTreeMap::new();
            for (comes, first, units) in steps {
                let wanted = first..first + units;
                if comes && wanted.clone().all(|unit| !plain.contains_key(&unit)) {
                    let end = shares.end();
                    shares.append(&[share(first, units)]);
                    plain.extend(wanted.clone().zip(end..));
                } else if !comes {
                    shares.remove(&[share(first, units)]);
                    plain.retain(|unit, _| !wanted.contains(unit));
                }
            }
            for unit in 0..50 {
                prop_assert_eq!(shares.index(unit), plain.get(&unit).copied());
            }
            let units: BTreeMap<u32, u32> = plain.iter().map(|(unit, index)| (*index, *unit)).collect();
            for index in 0..shares.end() {
                prop_assert_eq!(shares.unit(index), units.get(&index).copied());
            }
        }
    }
}
