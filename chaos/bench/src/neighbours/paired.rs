//! Windows compared in pairs. Pure.

use crate::goodput::Point;
use crate::stats::{Median, median};

/// Two windows, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) without: Point,
    pub(crate) with: Point,
    /// Whether the flood was as large as planned.
    pub(crate) flood_kept: bool,
}

/// What the flood changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Compared {
    /// Of the ratios of p99, with the flood over without it.
    pub(crate) p99: Median,
    /// With the flood, of that without it.
    pub(crate) goodput: f64,
    /// Pairs that say nothing, because a plan was not kept.
    pub(crate) void: usize,
}

/// Compares the windows of each pair.
pub(crate) fn compare(pairs: &[Pair]) -> Compared {
    let counts = |pair: &&Pair| {
        pair.without.counts() && pair.with.counts() && pair.flood_kept && pair.without.p99_ms > 0.0
    };
    let counted: Vec<&Pair> = pairs.iter().filter(counts).collect();
    // Where nothing was answered nothing is too slow; goodput says so.
    let ratios: Vec<f64> =
        counted.iter().map(|pair| pair.with.p99_ms / pair.without.p99_ms).collect();
    let good = |point: fn(&Pair) -> Point| -> f64 {
        counted.iter().map(|pair| point(pair).good_per_s).sum()
    };
    Compared {
        p99: median(&ratios),
        goodput: good(|pair| pair.with) / good(|pair| pair.without),
        void: pairs.len() - counted.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(p99_ms: f64, good_per_s: f64) -> Point {
        Point {
            planned_per_s: 100.0,
            achieved_per_s: 100.0,
            good_per_s,
            p99_ms,
            ..Point::default()
        }
    }

    #[test]
    fn each_window_is_held_against_its_own() {
        // The machine becomes slower and slower, and the flood adds a tenth to whatever it is.
        let pairs: Vec<Pair> = (1..=30)
            .map(|number| {
                let p99_ms = f64::from(number);
                let (without, with) = (point(p99_ms, 100.0), point(p99_ms * 1.1, 98.0));
                Pair { without, with, flood_kept: true }
            })
            .collect();
        let Compared { p99, goodput, void } = compare(&pairs);
        assert!((p99.value - 1.1).abs() < 1e-9 && (goodput - 0.98).abs() < 1e-9 && void == 0);
        assert!(p99.interval.is_some_and(|(low, high)| high - low < 1e-9));
    }

    #[test]
    fn pairs_without_their_plan_do_not_count() {
        let good = Pair { without: point(2.0, 100.0), with: point(3.0, 100.0), flood_kept: true };
        let idle = Point { achieved_per_s: 94.0, ..point(9.0, 1.0) };
        let rows = [
            good,
            Pair { flood_kept: false, with: point(9.0, 1.0), ..good },
            Pair { with: idle, ..good },
            Pair { without: idle, ..good },
            Pair { without: point(0.0, 0.0), ..good },
        ];
        let Compared { p99, goodput, void } = compare(&rows);
        assert_eq!((p99, void), (Median { value: 1.5, interval: None }, 4));
        assert!((goodput - 1.0).abs() < 1e-9);
    }
}
