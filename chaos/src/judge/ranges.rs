//! Sets of unit numbers, kept as ranges: a sale has millions.

use std::collections::BTreeMap;

/// Unit numbers: by the first of a range, the first behind it. Ranges neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// The units of an entry, pairs of the first and the last of a range; none when that is not what it names.
    pub(super) fn of_pairs(units: &[u32]) -> Option<Ranges> {
        let mut ranges = Ranges::default();
        let (pairs, rest) = units.as_chunks::<2>();
        let sound = pairs.iter().all(|[first, last]| {
            first <= last && ranges.add(u64::from(*first), u64::from(*last) + 1)
        });
        (sound && rest.is_empty() && !pairs.is_empty()).then_some(ranges)
    }

    /// Adds the units from `first` up to `end`; says whether none of them was there.
    pub(super) fn add(&mut self, first: u64, end: u64) -> bool {
        let (mut from, mut to) = (first, end);
        let mut new = true;
        while let Some((&start, &stop)) =
            self.0.range(..=end).next_back().filter(|(_, stop)| **stop >= first)
        {
            new &= stop <= first || start >= end;
            (from, to) = (from.min(start), to.max(stop));
            self.0.remove(&start);
            // Whatever else it touches begins before.
            if start <= first {
                break;
            }
        }
        self.0.insert(from, to);
        new
    }

    /// Takes the units from `first` up to `end` out; says whether all of them were there.
    pub(super) fn take(&mut self, first: u64, end: u64) -> bool {
        let touched: Vec<(u64, u64)> = self
            .0
            .range(..end)
            .rev()
            .take_while(|(_, stop)| **stop > first)
            .map(|(start, stop)| (*start, *stop))
            .collect();
        let mut found = 0;
        for (start, stop) in touched {
            self.0.remove(&start);
            found += stop.min(end) - start.max(first);
            if start < first {
                self.0.insert(start, first);
            }
            if stop > end {
                self.0.insert(end, stop);
            }
        }
        found == end - first
    }

    /// Adds all of `others`; says whether none of them was there.
    pub(super) fn add_all(&mut self, others: &Ranges) -> bool {
        others.iter().fold(true, |new, (first, end)| self.add(first, end) && new)
    }

    /// Takes all of `others` out; says whether all of them were there.
    pub(super) fn take_all(&mut self, others: &Ranges) -> bool {
        others.iter().fold(true, |all, (first, end)| self.take(first, end) && all)
    }

    /// Whether a unit is there.
    pub(super) fn has(&self, unit: u32) -> bool {
        let unit = u64::from(unit);
        self.0.range(..=unit).next_back().is_some_and(|(_, end)| unit < *end)
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.iter().map(|(first, end)| end - first).sum()
    }

    /// In rising order: the first of a range, and the first behind it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|(first, end)| (*first, *end))
    }

    /// Every unit that fits a unit number.
    pub(super) fn units(&self) -> impl Iterator<Item = u32> {
        self.iter()
            .flat_map(|(first, end)| (first..end).filter_map(|unit| u32::try_from(unit).ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_an_entry_names() {
        let read = |units: &[u32]| Ranges::of_pairs(units).map(|ranges| ranges.iter().collect());
        assert_eq!(read(&[0, 9]), Some(vec![(0, 10)]));
        assert_eq!(read(&[5, 5, 0, 4, 9, 9]), Some(vec![(0, 6), (9, 10)]));
        for wrong in [&[][..], &[1], &[2, 1], &[0, 4, 4, 6], &[0, 1, 2]] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn it_is_a_set() {
        for seed in 1..200_u64 {
            let mut dice = seed;
            let mut roll = |below: u64| {
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                dice % below
            };
            let (mut ranges, mut plain) = (Ranges::default(), BTreeSet::new());
            for _ in 0..40 {
                let (adds, first, count) = (roll(2) == 0, roll(30), 1 + roll(8));
                let units: Vec<u64> = (first..first + count).collect();
                if adds {
                    let new = units.iter().all(|unit| !plain.contains(unit));
                    plain.extend(units);
                    assert_eq!(ranges.add(first, first + count), new, "seed {seed}");
                } else {
                    let all = units.iter().all(|unit| plain.contains(unit));
                    plain.retain(|unit| !units.contains(unit));
                    assert_eq!(ranges.take(first, first + count), all, "seed {seed}");
                }
                let found: Vec<u64> = ranges.units().map(u64::from).collect();
                assert_eq!(found, plain.iter().copied().collect::<Vec<_>>(), "seed {seed}");
                assert_eq!(ranges.count(), found.len() as u64, "seed {seed}");
                let pairs: Vec<_> = ranges.iter().collect();
                assert!(pairs.windows(2).all(|pair| pair[0].1 < pair[1].0), "{pairs:?}");
                assert!((0..40).all(|unit| ranges.has(unit) == plain.contains(&u64::from(unit))));
            }
        }
    }
}
