//! A set of unit numbers as ranges without gaps, which is how units are granted and moved.

use std::collections::BTreeMap;

/// Unit numbers, as disjoint ranges that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(BTreeMap<u32, u32>);

impl Ranges {
    /// Adds the numbers from `first` to `last`. False, and nothing is added, when one of them is there already.
    pub fn add(&mut self, first: u32, last: u32) -> bool {
        if first > last || self.touches(first, last).is_some() {
            return false;
        }
        let (mut first, mut last) = (first, last);
        if let Some((&before, &end)) = self.0.range(..first).next_back()
            && end.checked_add(1) == Some(first)
        {
            self.0.remove(&before);
            first = before;
        }
        if let Some(after) = last.checked_add(1)
            && let Some(end) = self.0.remove(&after)
        {
            last = end;
        }
        self.0.insert(first, last);
        true
    }

    /// Takes the numbers from `first` to `last` out. False, and nothing is taken, when one of them is not there.
    pub fn take(&mut self, first: u32, last: u32) -> bool {
        let Some((&begin, &end)) = self.0.range(..=first).next_back() else { return false };
        if first > last || end < last {
            return false;
        }
        self.0.remove(&begin);
        if begin < first {
            self.0.insert(begin, first - 1);
        }
        if last < end {
            self.0.insert(last + 1, end);
        }
        true
    }

    /// A range that has a number from `first` to `last`.
    pub fn touches(&self, first: u32, last: u32) -> Option<(u32, u32)> {
        let (&begin, &end) = self.0.range(..=last).next_back()?;
        (end >= first).then_some((begin, end))
    }

    /// Whether the number is there.
    pub fn contains(&self, unit: u32) -> bool {
        self.touches(unit, unit).is_some()
    }

    /// How many numbers there are.
    pub fn count(&self) -> u64 {
        self.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// The ranges in rising order: first and last number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0.iter().map(|(first, last)| (*first, *last))
    }
}

/// The ranges of an entry that moves units. None when they are no pairs of a first and a last number, or there are none.
pub fn pairs(units: &[u32]) -> Option<Vec<(u32, u32)>> {
    let (pairs, []) = units.as_chunks::<2>() else { return None };
    let rising = pairs.iter().all(|[first, last]| first <= last);
    (rising && !pairs.is_empty())
        .then(|| pairs.iter().map(|[first, last]| (*first, *last)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranges_are_a_set(steps in proptest::collection::vec((any::<bool>(), 0_u32..40, 0_u32..8), 0..60)) {
            let (mut ranges, mut plain) = (Ranges::default(), BTreeSet::new());
            for (adds, first, length) in steps {
                let numbers: BTreeSet<u32> = (first..=first + length).collect();
                if adds {
                    prop_assert_eq!(ranges.add(first, first + length), plain.is_disjoint(&numbers));
                    if plain.is_disjoint(&numbers) {
                        plain.extend(&numbers);
                    }
                } else {
                    prop_assert_eq!(ranges.take(first, first + length), plain.is_superset(&numbers));
                    if plain.is_superset(&numbers) {
                        plain.retain(|number| !numbers.contains(number));
                    }
                }
                let all: BTreeSet<u32> = ranges.iter().flat_map(|(first, last)| first..=last).collect();
                prop_assert_eq!((&all, ranges.count()), (&plain, plain.len() as u64));
                let apart = ranges.iter().zip(ranges.iter().skip(1)).all(|(one, next)| one.1 + 1 < next.0);
                prop_assert!(apart, "{:?}", ranges);
            }
        }
    }

    #[test]
    fn pairs_are_strict() {
        assert_eq!(pairs(&[1, 2, 5, 5]), Some(vec![(1, 2), (5, 5)]));
        for bad in [&[][..], &[1], &[2, 1], &[1, 2, 3]] {
            assert_eq!(pairs(bad), None, "{bad:?}");
        }
        let mut ranges = Ranges::default();
        assert!(ranges.add(0, u32::MAX) && !ranges.add(5, 5) && ranges.contains(u32::MAX));
        assert!(!ranges.add(3, 2) && !ranges.take(3, 2));
    }
}
