//! Stock over time: how many units were paid, held and free, column by column, as the ledgers say it.

use std::io::{self, Write};

use crate::judge::Move;

/// Columns of the chart, and its rows.
const COLUMNS: usize = 80;
const ROWS: u64 = 10;

/// Units at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Level {
    live: i64,
    paid: i64,
}

/// Draws the stock of a sale from its start (unix microseconds) to the last move.
pub(super) fn draw(
    out: &mut impl Write,
    moves: &[Move],
    stock: u64,
    start_us: u64,
) -> io::Result<()> {
    let start_us = i64::try_from(start_us).unwrap_or(i64::MAX);
    let Some(last) = moves.last().filter(|last| last.at_us > start_us) else { return Ok(()) };
    let span_us = last.at_us - start_us;
    let levels = levels(moves, start_us, span_us);
    let stock = i64::try_from(stock).unwrap_or(i64::MAX).max(1);
    for row in (0..ROWS).rev() {
        // A cell shows what is there at its middle.
        let at = (stock * i64::try_from(2 * row + 1).unwrap_or(0))
            / i64::try_from(2 * ROWS).unwrap_or(1);
        let cells: String = levels.iter().map(|level| cell(*level, at)).collect();
        let label = match row {
            row if row == ROWS - 1 => stock.to_string(),
            0 => "0".to_owned(),
            _ => String::new(),
        };
        writeln!(out, "{label:>9} {}", cells.trim_end())?;
    }
    let seconds = std::time::Duration::from_micros(u64::try_from(span_us).unwrap_or(0));
    let end = format!("{:.1} s", seconds.as_secs_f64());
    writeln!(out, "{:>9} 0 s{end:>width$}", "", width = COLUMNS - 3)?;
    writeln!(out, "{:>9} █ paid  ▒ held  · free\n", "")
}

/// What was there at the end of each column.
fn levels(moves: &[Move], start_us: i64, span_us: i64) -> Vec<Level> {
    let columns = i64::try_from(COLUMNS).unwrap_or(1);
    let mut moves = moves.iter().peekable();
    let mut level = Level::default();
    let column_end = |column: i64| start_us + span_us * (column + 1) / columns;
    (0..columns)
        .map(|column| {
            while let Some(one) = moves.next_if(|one| one.at_us <= column_end(column)) {
                level.live += one.live;
                level.paid += one.paid;
            }
            level
        })
        .collect()
}

fn cell(level: Level, at: i64) -> char {
    if at < level.paid {
        '█'
    } else if at < level.paid + level.live {
        '▒'
    } else {
        '·'
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stock_is_drawn_as_it_moved() {
        let at = |at_us, live, paid| Move { at_us, live, paid, is_hold: live > 0, bucket: 0 };
        let moves = [at(1_000_000, 10, 0), at(5_000_000, -10, 10), at(10_000_000, 0, 0)];
        let mut out = Vec::new();
        draw(&mut out, &moves, 20, 0).unwrap();
        let text = String::from_utf8(out).unwrap();
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows[0].trim_start(), format!("20 {}", "·".repeat(80)));
        let bottom = format!("0 {}{}{}", "·".repeat(7), "▒".repeat(32), "█".repeat(41));
        assert_eq!(rows[9].trim_start(), bottom);
        assert!(rows[10].ends_with("10.0 s"), "{}", rows[10]);
        assert!(rows.iter().all(|row| row.chars().count() <= 100));
    }

    #[test]
    fn a_sale_that_never_moved_has_no_chart() {
        let mut out = Vec::new();
        draw(&mut out, &[], 20, 0).unwrap();
        assert!(out.is_empty());
    }
}
