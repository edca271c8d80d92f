//! The shape of a small sale: how many units, who comes, and to which bucket they belong.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::UNITS_MAX;
use crate::plan::{BuyerPlan, Habits, Intention, Plan, PlanShape};
use crate::scene::Hashing;

/// Within what time buyers arrive, at least and at most.
const ARRIVE_WITHIN_MS: std::ops::Range<u64> = 200..2_000;

/// Which part of the buyers belongs to the favourite bucket, at least; one in so many sales gives it all of them.
const FAVOURITE_MIN: f64 = 0.5;
const ALL_IN_ONE: u32 = 5;

/// Units a buyer, at most.
const CAP_MAX: u32 = 3;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shape {
    /// Units of the sale.
    pub(super) units: u32,
    /// Units a buyer.
    pub(super) cap: u32,
    /// Who comes when.
    pub(super) buyers: Vec<BuyerPlan>,
    /// Which part (0 to 1) of them belongs to the favourite bucket, when there are several.
    pub(super) favourite: f64,
    /// What the rest is drawn from.
    draws: u64,
}

impl Shape {
    /// The sale that is drawn from this number.
    pub(super) fn draw(seed: u64, buyers: u32) -> Shape {
        let mut draws = StdRng::seed_from_u64(seed);
        let cap = draws.random_range(1..=CAP_MAX);
        let habits = Habits {
            abandon: draws.random_range(0.0..0.05),
            cancel: draws.random_range(0.0..0.15),
            bad_card: draws.random_range(0.0..0.15),
            twice: 0.05,
            hang_up: 0.05,
        };
        let within = Duration::from_millis(draws.random_range(ARRIVE_WITHIN_MS));
        let arrive_within_us = u64::try_from(within.as_micros()).unwrap_or(u64::MAX);
        let (neighbours_per_s, neighbours_for_s) = (0, 0);
        let crowd =
            PlanShape { buyers, arrive_within_us, cap, neighbours_per_s, neighbours_for_s, habits };
        let favourite = match draws.random_ratio(1, ALL_IN_ONE) {
            true => 1.0,
            false => draws.random_range(FAVOURITE_MIN..1.0),
        };
        let buyers = Plan::draw(draws.random(), &crowd).crowd;
        // There must be somebody for every unit.
        let payers = buyers.iter().filter(|buyer| pays(buyer)).count();
        let most = UNITS_MAX.min(u32::try_from(payers).unwrap_or(u32::MAX)).max(1);
        Shape { units: draws.random_range(1..=most), cap, buyers, favourite, draws: draws.random() }
    }

    /// The names of its buyers, in their order: most of them belong to one bucket.
    pub(super) fn subjects(&self, hashing: &Hashing) -> Vec<String> {
        let mut draws = StdRng::seed_from_u64(self.draws);
        let buckets = hashing.buckets();
        let favourite = draws.random_range(0..buckets);
        let mut names = Vec::with_capacity(self.buyers.len());
        for buyer in &self.buyers {
            let wanted = if draws.random_bool(self.favourite) {
                favourite
            } else {
                draws.random_range(0..buckets)
            };
            // Whose bucket it is, only the name's hash decides: so many are tried that one in four is sure to be found.
            let mut tries = (0..1_000_u32).map(|number| format!("buyer-{}-{number}", buyer.number));
            let name = tries.find(|name| hashing.bucket(name) == wanted);
            names.push(name.unwrap_or_else(|| format!("buyer-{}", buyer.number)));
        }
        names
    }
}

/// Whether a buyer pays for what they hold, sooner or later.
fn pays(buyer: &BuyerPlan) -> bool {
    buyer.intention == Intention::Pay && (!buyer.bad_card || buyer.second_card)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_sale_and_each_has_buyers_for_all_units() {
        assert_eq!(Shape::draw(7, 100), Shape::draw(7, 100));
        let mut units = Vec::new();
        for seed in 0..500 {
            let shape = Shape::draw(seed, 100);
            let payers = shape.buyers.iter().filter(|buyer| pays(buyer)).count();
            assert!(payers >= shape.units as usize && shape.buyers.len() == 100, "seed {seed}");
            units.push(shape.units);
        }
        units.sort_unstable();
        units.dedup();
        assert_eq!(units, (1..=UNITS_MAX).collect::<Vec<_>>());
        assert!((0..50).all(|seed| Shape::draw(seed, 1).units == 1));
    }

    #[test]
    fn most_buyers_belong_to_one_bucket() {
        let mut all_in_one = 0;
        for seed in 0..40 {
            let shape = Shape::draw(seed, 100);
            let hashing = Hashing::new(&[7; 32], 4);
            let names = shape.subjects(&hashing);
            assert_eq!(names, shape.subjects(&hashing));
            let mut of_bucket: BTreeMap<u32, u32> = BTreeMap::new();
            for name in &names {
                *of_bucket.entry(hashing.bucket(name)).or_default() += 1;
            }
            let most = *of_bucket.values().max().unwrap();
            assert!(most >= 45, "seed {seed}: {of_bucket:?}");
            all_in_one += u32::from(most == 100);
        }
        assert!((1..20).contains(&all_in_one), "{all_in_one} of 40 are all in one bucket");
    }
}
