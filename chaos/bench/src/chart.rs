//! Figures drawn in text.

const COLUMNS: f64 = 50.0;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A bar whose full length stands for `most`.
pub(crate) fn bar(value: f64, most: f64) -> String {
    "█".repeat(part(value, most, COLUMNS))
}

/// A row of levels of which the highest stands for `most`.
pub(crate) fn levels(values: &[f64], most: f64) -> String {
    let highest = u8::try_from(LEVELS.len() - 1).map_or(0.0, f64::from);
    values.iter().map(|value| LEVELS[part(*value, most, highest).min(LEVELS.len() - 1)]).collect()
}

fn part(value: f64, most: f64, of: f64) -> usize {
    let part = (value / most.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to of")]
    let part = (part * of).round() as usize;
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_in_proportion() {
        for (value, most, columns) in
            [(0.0, 10.0, 0), (5.0, 10.0, 25), (10.0, 10.0, 50), (99.0, 10.0, 50), (1.0, 0.0, 50)]
        {
            assert_eq!(bar(value, most).chars().count(), columns, "{value} of {most}");
        }
        assert_eq!(levels(&[0.0, 5.0, 10.0, 20.0, -1.0], 10.0), "▁▅██▁");
        assert_eq!(levels(&[0.0], 0.0), "▁");
    }
}
