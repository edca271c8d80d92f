//! Times: how long something took, many times over, told in three figures and drawn as a histogram.

use std::io::{self, Write};
use std::time::Duration;

/// The longest bar, in columns.
const BAR_COLUMNS: usize = 50;

/// Upper bounds of the histogram's rows, in milliseconds; whatever is longer stands in a last one.
const BOUNDS_MS: [u64; 16] = [
    50, 100, 200, 300, 400, 600, 800, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000,
    30_000,
];

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// Adds some.
    pub(crate) fn extend(&mut self, times: impl IntoIterator<Item = Duration>) {
        self.0.extend(times);
        self.0.sort_unstable();
    }

    /// The time below which this share (0 to 1) of them is; none without any.
    pub(crate) fn at(&self, share: f64) -> Option<Duration> {
        let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let below = |place: &u32| f64::from(*place) < f64::from(count) * share.clamp(0.0, 1.0);
        let place = (0..count).rfind(below).unwrap_or(0);
        self.0.get(usize::try_from(place).unwrap_or(0)).copied()
    }

    /// Draws them under what they are the times of; nothing without any.
    ///
    /// # Errors
    /// When `out` takes no more.
    pub(crate) fn draw(&self, out: &mut impl Write, what: &str) -> io::Result<()> {
        let (Some(half), Some(most), Some(longest)) = (self.at(0.5), self.at(0.99), self.at(1.0))
        else {
            return Ok(());
        };
        let [half, most, longest] = [half, most, longest].map(|time| time.as_millis());
        writeln!(out, "{what}: p50 {half} ms, p99 {most} ms, max {longest} ms")?;
        let mut from_ms = 0;
        let mut rows = Vec::new();
        for to_ms in BOUNDS_MS.into_iter().chain([u64::MAX]) {
            let within = |took: &&Duration| {
                let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                (from_ms..to_ms).contains(&ms)
            };
            rows.push((to_ms, self.0.iter().filter(within).count()));
            from_ms = to_ms;
        }
        let first = rows.iter().position(|row| row.1 > 0).unwrap_or(0);
        let last = rows.iter().rposition(|row| row.1 > 0).unwrap_or(0);
        let most = rows.iter().map(|row| row.1).max().unwrap_or(0).max(1);
        for (to_ms, count) in rows.get(first..=last).unwrap_or_default() {
            let label = match *to_ms {
                u64::MAX => "longer".to_owned(),
                ms => format!("< {ms} ms"),
            };
            let bar = "█".repeat((count * BAR_COLUMNS).div_ceil(most));
            writeln!(out, "{label:>10} {count:>4} {bar}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_and_rows() {
        let mut times = Times::default();
        assert_eq!(times.at(0.5), None);
        times.extend((1..=100).map(|number| Duration::from_millis(number * 10)));
        let figures = [0.0, 0.5, 0.99, 1.0].map(|share| times.at(share).unwrap().as_millis());
        assert_eq!(figures, [10, 500, 990, 1_000]);
        let mut out = Vec::new();
        times.draw(&mut out, "it took").unwrap();
        let drawn = String::from_utf8(out).unwrap();
        let rows: Vec<&str> = drawn.lines().collect();
        assert_eq!(rows[0], "it took: p50 500 ms, p99 990 ms, max 1000 ms");
        // The rows between the first and the last that have any: the shortest with 4, the longest bar for 20.
        assert_eq!((rows.len(), rows[1].contains("< 50 ms    4 █")), (10, true), "{drawn}");
        assert!(rows[9].ends_with("< 1500 ms    1 ███"), "{drawn}");
    }
}
