//! Which unit stands at which local index in Redis.
//!
//! A take-over numbers the bucket's units from 0 in their order. While its epoch lasts an index keeps its meaning: units
//! that come are appended, and those that leave take their indices with them.

use super::ranges::Ranges;

/// The local indices of one epoch.
#[derive(Clone, Debug, Default)]
pub(super) struct Indices {
    /// The first index of a range, its unit, and how many there are.
    ranges: Vec<(u64, u64, u64)>,
    end: u64,
}

impl Indices {
    /// Those of a take-over of these units.
    pub(super) fn new(units: &Ranges) -> Indices {
        let mut indices = Indices::default();
        indices.append(units);
        indices
    }

    /// Units have come.
    pub(super) fn append(&mut self, units: &Ranges) {
        for (first, end) in units.iter() {
            self.ranges.push((self.end, first, end - first));
            self.end += end - first;
        }
    }

    /// The index behind the last.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The unit that stands or stood at an index.
    pub(super) fn unit(&self, index: u32) -> Option<u32> {
        let index = u64::from(index);
        let place = self.ranges.partition_point(|(first, _, _)| *first <= index).checked_sub(1)?;
        let (first_index, first_unit, units) = self.ranges[place];
        let place = index - first_index;
        (place < units).then(|| u32::try_from(first_unit + place).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_count_through_the_units_and_on() {
        let ranges = |pairs: &[u32]| Ranges::of_pairs(pairs).unwrap();
        let mut indices = Indices::new(&ranges(&[40, 41, 10, 12]));
        indices.append(&ranges(&[7, 7]));
        let units: Vec<_> = (0..7).map(|index| indices.unit(index)).collect();
        assert_eq!(units, [Some(10), Some(11), Some(12), Some(40), Some(41), Some(7), None]);
        assert_eq!(indices.end(), 6);
    }
}
