//! Arrivals of changes, drawn.

use std::fmt::Write;

/// The width of a row, in microseconds.
const ROW_US: u32 = 50_000;
/// Rows before the last, which takes all that is later.
const ROWS: u32 = 40;
const BAR_COLUMNS: usize = 60;

/// After how many microseconds each change reached each watcher.
#[derive(Debug)]
pub(super) struct Arrivals(Vec<Vec<u32>>);

impl Arrivals {
    /// One list a change.
    pub(super) fn new(mut changes: Vec<Vec<u32>>) -> Arrivals {
        changes.iter_mut().for_each(|change| change.sort_unstable());
        Arrivals(changes)
    }

    /// When the change that was quickest to anybody had reached the first.
    pub(super) fn first_ms(&self) -> f64 {
        self.0.iter().map(|change| at_ms(change, 0.0)).fold(f64::INFINITY, f64::min)
    }

    /// By when so large a part of all arrivals had come.
    pub(super) fn at_ms(&self, part: f64) -> f64 {
        let mut all: Vec<u32> = self.0.concat();
        all.sort_unstable();
        at_ms(&all, part)
    }

    /// By when so large a part had it, of the change that was slowest to them.
    pub(super) fn worst_ms(&self, part: f64) -> f64 {
        self.0.iter().map(|change| at_ms(change, part)).fold(0.0, f64::max)
    }

    /// A line for each change.
    pub(super) fn rounds(&self) -> String {
        let mut out = String::from("    change     first       p50       p99       max (ms)");
        for (number, change) in self.0.iter().enumerate() {
            let [first, half, most, last] = [0.0, 0.5, 0.99, 1.0].map(|part| at_ms(change, part));
            let number = number + 1;
            write!(out, "\n    {number:>6} {first:>9.1} {half:>9.1} {most:>9.1} {last:>9.1}").ok();
        }
        out
    }

    /// How many arrived when, of all changes together.
    pub(super) fn drawn(&self) -> String {
        let mut rows = vec![0_usize; ROWS as usize + 1];
        for us in self.0.iter().flatten() {
            rows[(us / ROW_US).min(ROWS) as usize] += 1;
        }
        let last = rows.iter().rposition(|count| *count > 0).unwrap_or(0);
        let most = rows.iter().copied().max().unwrap_or(0).max(1);
        let mut out =
            String::from("    arrivals of all changes, by the time since each was decided");
        for (row, count) in rows.iter().enumerate().take(last + 1) {
            let label = match row * ROW_US as usize / 1_000 {
                _ if row == ROWS as usize => "later".to_owned(),
                ms => format!("< {} ms", ms + ROW_US as usize / 1_000),
            };
            let bar = "█".repeat((count * BAR_COLUMNS).div_ceil(most));
            write!(out, "\n    {label:>10} {count:>7} {bar}").ok();
        }
        out
    }
}

fn at_ms(sorted_us: &[u32], part: f64) -> f64 {
    let below = |place: &usize| to_f64(*place) < part * to_f64(sorted_us.len());
    let place = (0..sorted_us.len()).rfind(below).unwrap_or(0);
    f64::from(sorted_us.get(place).copied().unwrap_or(0)) / 1_000.0
}

#[expect(clippy::cast_precision_loss, reason = "a count is far below 2^53")]
fn to_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_and_rows() {
        let quick: Vec<u32> = (1..=100).map(|number| number * 1_000).collect();
        let arrivals =
            Arrivals::new(vec![quick.iter().rev().copied().collect(), vec![3_000_000; 100]]);
        let figures = [arrivals.first_ms(), arrivals.at_ms(0.5), arrivals.worst_ms(0.99)];
        assert_eq!(figures, [1.0, 100.0, 3_000.0]);
        assert_eq!(at_ms(&quick, 0.99), 99.0);
        let drawn = arrivals.drawn();
        let rows: Vec<_> = drawn.lines().skip(1).collect();
        assert_eq!(rows.len(), 41, "{drawn}");
        assert!(rows[0].ends_with(&format!("< 50 ms      49 {}", "█".repeat(30))), "{drawn}");
        assert!(rows[40].contains("later     100 "), "{drawn}");
        assert_eq!(arrivals.rounds().lines().count(), 3);
    }
}
