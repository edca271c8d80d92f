//! The plan of a run: who comes when and how they behave, all of it drawn from one number.
//!
//! The same number gives the same plan, so a run that proved something wrong can be run again. What becomes of a
//! buyer is not planned: that is what the run is for.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How a run is planned.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanShape {
    /// Buyers of the mega-sale.
    pub buyers: u32,
    /// They all arrive within this time after its start.
    pub arrive_within_us: u64,
    /// Most units that one of them wants.
    pub cap: u32,
    /// Buyers a second of the neighbour's sale.
    pub neighbours_per_s: u32,
    /// For so long neighbours may come, from the mega-sale's start on.
    pub neighbours_for_s: u32,
    /// How buyers of the mega-sale behave.
    pub habits: Habits,
}

/// Shares (0 to 1) of buyers who do something that not everybody does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Habits {
    /// Hold units and never come back.
    pub abandon: f64,
    /// Hold units and give them back.
    pub cancel: f64,
    /// Have a card that is declined.
    pub bad_card: f64,
    /// Send Reserve and Checkout twice at the same time.
    pub twice: f64,
    /// Hang up on their first Checkout and ask again: its outcome is unknown to them.
    pub hang_up: f64,
}

impl Habits {
    /// The crowd of the demo.
    pub const CROWD: Habits =
        Habits { abandon: 0.10, cancel: 0.02, bad_card: 0.03, twice: 0.02, hang_up: 0.02 };
    /// Everyday buyers: they come, take and pay.
    pub const EVERYDAY: Habits =
        Habits { abandon: 0.0, cancel: 0.0, bad_card: 0.0, twice: 0.0, hang_up: 0.0 };
}

/// What a buyer does with what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intention {
    /// Pays.
    Pay,
    /// Never comes back.
    Abandon,
    /// Gives it back.
    Cancel,
}

/// One buyer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BuyerPlan {
    /// Counted from 0 in the order of arrival.
    pub number: u32,
    /// After the sale's start.
    pub arrival_us: u64,
    /// Units that they want.
    pub quantity: u32,
    /// What they do with what they hold.
    pub intention: Intention,
    /// Their first card is declined.
    pub bad_card: bool,
    /// They have a good one, too, and try it.
    pub second_card: bool,
    /// They send Reserve and Checkout twice.
    pub twice: bool,
    /// They hang up on their first Checkout.
    pub hang_up: bool,
    /// What their own draws (jitter, request ids) begin with.
    pub draws: u64,
}

/// Everything about a run that is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The number it was all drawn from.
    pub seed: u64,
    /// Buyers of the mega-sale, in the order of their arrival.
    pub crowd: Vec<BuyerPlan>,
    /// Buyers of the neighbour's sale, in the order of their arrival.
    pub neighbours: Vec<BuyerPlan>,
    /// When a drill strikes: the share (0.1 to 0.9) of units that are held then.
    pub moment: f64,
    /// Whom it strikes, to be taken modulo the number of those it may be.
    pub victim: usize,
    /// Seeds of the keys of orgs: the crowd's and the neighbour's.
    pub org_keys: [[u8; 32]; 2],
    /// What the provider's faults are drawn from.
    pub provider_seed: u64,
}

impl Plan {
    /// Draws a plan.
    pub fn draw(seed: u64, shape: &PlanShape) -> Plan {
        // Each part has its own stream, so that more buyers in one do not change the other.
        let [mut crowd, mut neighbours, mut rest] = streams(seed);
        let neighbour_count = shape.neighbours_per_s * shape.neighbours_for_s;
        let neighbour_span_us = u64::from(shape.neighbours_for_s) * 1_000_000;
        Plan {
            seed,
            crowd: buyers(
                &mut crowd,
                shape.buyers,
                shape.arrive_within_us,
                shape.cap,
                shape.habits,
            ),
            neighbours: buyers(
                &mut neighbours,
                neighbour_count,
                neighbour_span_us,
                1,
                Habits::EVERYDAY,
            ),
            moment: rest.random_range(0.1..0.9),
            victim: rest.random_range(0..1 << 20),
            org_keys: [rest.random(), rest.random()],
            provider_seed: rest.random(),
        }
    }
}

fn streams(seed: u64) -> [StdRng; 3] {
    let mut first = StdRng::seed_from_u64(seed);
    std::array::from_fn(|_| StdRng::seed_from_u64(first.random()))
}

fn buyers(
    draws: &mut StdRng,
    count: u32,
    span_us: u64,
    cap: u32,
    habits: Habits,
) -> Vec<BuyerPlan> {
    let mut arrivals: Vec<u64> =
        (0..count).map(|_| draws.random_range(0..span_us.max(1))).collect();
    arrivals.sort_unstable();
    (0..).zip(arrivals).map(|(number, at)| buyer(draws, number, at, cap, habits)).collect()
}

fn buyer(draws: &mut StdRng, number: u32, arrival_us: u64, cap: u32, habits: Habits) -> BuyerPlan {
    // Nobody both abandons and cancels, so one draw decides.
    let intention = match draws.random::<f64>() {
        share if share < habits.abandon => Intention::Abandon,
        share if share < habits.abandon + habits.cancel => Intention::Cancel,
        _ => Intention::Pay,
    };
    BuyerPlan {
        number,
        arrival_us,
        quantity: draws.random_range(1..=cap.max(1)),
        intention,
        bad_card: draws.random_bool(habits.bad_card),
        second_card: draws.random_bool(0.5),
        twice: draws.random_bool(habits.twice),
        hang_up: draws.random_bool(habits.hang_up),
        draws: draws.random(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> PlanShape {
        PlanShape {
            buyers: 20_000,
            arrive_within_us: 2_000_000,
            cap: 2,
            neighbours_per_s: 20,
            neighbours_for_s: 60,
            habits: Habits::CROWD,
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_does_not() {
        assert_eq!(Plan::draw(7, &shape()), Plan::draw(7, &shape()));
        assert_ne!(Plan::draw(7, &shape()).crowd, Plan::draw(8, &shape()).crowd);
    }

    #[test]
    fn more_neighbours_leave_the_crowd_as_it_is() {
        let more = PlanShape { neighbours_per_s: 40, ..shape() };
        assert_eq!(Plan::draw(7, &shape()).crowd, Plan::draw(7, &more).crowd);
    }

    #[test]
    fn a_crowd_is_as_it_was_shaped() {
        for seed in 0..5 {
            let plan = Plan::draw(seed, &shape());
            assert_eq!((plan.crowd.len(), plan.neighbours.len()), (20_000, 1_200));
            assert!(plan.crowd.is_sorted_by_key(|buyer| buyer.arrival_us));
            assert!(plan.crowd.iter().all(|b| b.arrival_us < 2_000_000));
            assert!(plan.crowd.iter().all(|b| (1..=2).contains(&b.quantity)));
            assert!(plan.neighbours.iter().all(|b| b.intention == Intention::Pay && !b.bad_card));
            let share = |has: fn(&BuyerPlan) -> bool| {
                let count = plan.crowd.iter().filter(|buyer| has(buyer)).count();
                f64::from(u32::try_from(count).unwrap()) / 20_000.0
            };
            for (found, wanted) in [
                (share(|b| b.intention == Intention::Abandon), 0.10),
                (share(|b| b.intention == Intention::Cancel), 0.02),
                (share(|b| b.bad_card), 0.03),
                (share(|b| b.twice), 0.02),
                (share(|b| b.hang_up), 0.02),
                (share(|b| b.quantity == 2), 0.5),
            ] {
                assert!((found - wanted).abs() < 0.015, "seed {seed}: {found}, not {wanted}");
            }
            assert!((0.1..0.9).contains(&plan.moment));
        }
    }
}
