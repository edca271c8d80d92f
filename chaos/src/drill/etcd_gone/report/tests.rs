//! What speaks against it, and what does not.

use super::super::How;
use super::*;
use crate::id::OrderId;
use crate::judge::{Evidence, judge};
use crate::load::Samples;
use crate::told::{Ask, OrderTold};

const STEP_US: u64 = 1_000;

fn gone() -> Gone {
    Gone {
        how: How::Paused,
        lease: Duration::from_secs(5),
        before: 0..1_000 * STEP_US,
        without: 1_000 * STEP_US..2_000 * STEP_US,
        followed_us: 2_000 * STEP_US,
        restarts: vec![("router".to_owned(), Duration::from_millis(200))],
        ages: vec![("router".to_owned(), 26.0, false), ("cell-1/p1".to_owned(), 26.0, true)],
        followed: Some(Duration::from_secs(2)),
        told: Some(Duration::from_millis(100)),
        moved: 3,
    }
}

/// 1,000 buyers before, 1,000 without, 100 after, one a step; `fails` of those without end otherwise than paid.
fn against(gone: &Gone, fails: u64) -> DrillReport {
    let samples = Samples::new(0);
    let mut told = Vec::new();
    for n in 0..2_100_u64 {
        let at_us = n * STEP_US;
        let fails = (1_500..1_500 + fails).contains(&n);
        let state = if fails { OrderState::Expired } else { OrderState::Paid };
        let order = OrderTold { order: OrderId([0; 16]), state, units: vec![], amount_minor: 0 };
        let buyer = u32::try_from(n).ok();
        let line = |at_us, said| Told { at_us, sale: 0, buyer, call: n, said };
        told.push(line(at_us, Said::Asked(Ask::Join)));
        // Those who came just before are told afterwards, and count as having come before.
        told.push(line(at_us + 10 * STEP_US, Said::Order(order)));
        let outcome = if fails { Outcome::Unknown } else { Outcome::Done };
        let (sale, call, intended_us, latency_us) = (0, CallKind::Join, at_us, 5);
        samples.add(Sample { sale, call, intended_us, latency_us, outcome, repeat: false });
    }
    let evidence = Evidence { told, ..Evidence::default() };
    let judgement = judge(&evidence);
    gone.report(&Aftermath {
        evidence: &evidence,
        judgement: &judgement,
        samples: &samples,
        patience: 1,
    })
}

#[test]
fn more_than_a_tenth_of_a_point_less_speaks_against_it() {
    for (fails, expected) in [(0, 0), (1, 0), (2, 2)] {
        let report = against(&gone(), fails);
        assert_eq!(report.against.len(), expected, "{fails}: {:?}", report.against);
        assert!(report.void.is_empty());
    }
    let figures = against(&gone(), 2).figures;
    let line = "without them: purchases 99.800 % (998 of 1000), calls 99.800 % (998 of 1000)";
    assert!(figures[1].starts_with(line), "{figures:?}");
    assert!(figures.contains(&"purchases: -0.200 percentage points".to_owned()), "{figures:?}");
}

#[test]
fn so_does_everything_else_that_was_believed() {
    let rows: [fn(&mut Gone); 6] = [
        |gone| gone.followed = None,
        |gone| gone.told = Some(Duration::from_secs(16)),
        |gone| gone.ages[1].1 = 3.0,
        |gone| gone.ages[0].1 = f64::INFINITY,
        |gone| gone.ages[0].2 = true,
        |gone| gone.followed = Some(Duration::from_secs(16)),
    ];
    for (number, damage) in rows.into_iter().enumerate() {
        let mut gone = gone();
        damage(&mut gone);
        assert_eq!(against(&gone, 0).against.len(), 1, "row {number}");
    }
    let mut early = gone();
    early.before = 0..10;
    assert_eq!(against(&early, 0).void.len(), 1);
}
