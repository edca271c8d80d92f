//! Quantiles, medians, and how far a median can be trusted. Pure.

/// The value below which the part `q` (0 to 1) of `values` lies; 0 when there are none. Sorts them.
pub(crate) fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "a count of values is far below 2^53")]
    let rank = (values.len() as f64 * q).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to the count")]
    let rank = rank as usize;
    values.get(rank.saturating_sub(1).min(values.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// A median, and the interval in which that of all that could have been measured lies, 19 times in 20.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Median {
    pub(crate) value: f64,
    /// None when there are too few values to say.
    pub(crate) interval: Option<(f64, f64)>,
}

/// The median of independent values with its interval, by order statistics: it asks nothing of how values are spread.
pub(crate) fn median(values: &[f64]) -> Median {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len();
    let value = match count {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    };
    let rank = lower_rank(count);
    Median { value, interval: (rank > 0).then(|| (sorted[rank - 1], sorted[count - rank])) }
}

/// The largest rank, from 1, which so few as 1 in 40 medians are below; 0 when even the least of `count` values is not
/// low enough. How many values lie below a median is as with a coin.
fn lower_rank(count: usize) -> usize {
    const EACH_SIDE: f64 = 0.025;
    let mut chance = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut below = 0.0;
    for heads in 0..count {
        below += chance;
        if below > EACH_SIDE {
            return heads;
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of values is far below 2^53")]
        let next = (count - heads) as f64 / (heads + 1) as f64;
        chance *= next;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_there() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let rows: [(&[f64], f64, f64); 8] = [
            (&hundred, 0.99, 99.0),
            (&hundred, 0.5, 50.0),
            (&hundred, 1.0, 100.0),
            (&hundred, 0.0, 1.0),
            (&[7.0], 0.99, 7.0),
            (&[3.0, 1.0], 0.5, 1.0),
            (&[3.0, 1.0], 0.51, 3.0),
            (&[], 0.99, 0.0),
        ];
        for (values, q, expected) in rows {
            let found = quantile(&mut values.to_vec(), q);
            assert!((found - expected).abs() < 1e-9, "{q} of {values:?}: {found}");
        }
    }

    /// The ranks of any table of such intervals.
    #[test]
    fn the_interval_has_the_ranks_of_the_tables() {
        let rows = [(0, 0), (1, 0), (5, 0), (6, 1), (8, 1), (9, 2), (10, 2), (15, 4), (20, 6)];
        for (count, rank) in rows.into_iter().chain([(25, 8), (30, 10), (40, 14), (50, 18)]) {
            assert_eq!(lower_rank(count), rank, "of {count}");
        }
    }

    #[test]
    fn a_median_lies_in_its_interval() {
        let values: Vec<f64> = (1..=30).rev().map(f64::from).collect();
        assert_eq!(median(&values), Median { value: 15.5, interval: Some((10.0, 21.0)) });
        assert_eq!(median(&[2.0, 9.0, 1.0]), Median { value: 2.0, interval: None });
        assert_eq!(median(&[]), Median { value: 0.0, interval: None });
        // Whatever one value does, a median hardly moves.
        let mut wild = values;
        wild[0] = 1e9;
        assert_eq!(median(&wild), Median { value: 15.5, interval: Some((10.0, 21.0)) });
    }
}
