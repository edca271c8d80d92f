//! The funnel: how many buyers came how far, drawn as bars.

use std::io::{self, Write};

use super::fold;
use crate::judge::LedgerCounts;
use crate::load::{End, SaleLive};

/// The longest bar, in columns.
const BAR_COLUMNS: u64 = 60;

/// A column's eighths.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// Draws how many buyers of a sale came how far, and what became of the rest.
pub(super) fn funnel(
    out: &mut impl Write,
    live: &SaleLive,
    counts: Option<&LedgerCounts>,
) -> io::Result<()> {
    let widest = live.arrived().max(1);
    let steps = [
        ("arrived", live.arrived()),
        ("joined", live.joined()),
        ("admitted", live.admitted()),
        ("held", live.held()),
        ("paid", live.ended(End::Paid)),
    ];
    for (step, buyers) in steps {
        writeln!(out, "{step:>9} {buyers:>7} {}", bar(buyers, widest))?;
    }
    let ends = [
        ("came too late", End::TooLate),
        ("abandoned", End::Abandoned),
        ("cancelled", End::Cancelled),
        ("declined", End::Declined),
        ("refused", End::Refused),
        ("gave up", End::GaveUp),
    ];
    let ends: Vec<String> =
        ends.iter().map(|(what, end)| format!("{what} {}", live.ended(*end))).collect();
    writeln!(out, "{:>9} {}", "others", ends.join(", "))?;
    if let Some(counts) = counts {
        let counted = format!(
            "{:>9} held {}, paid {}, expired {}, cancelled {}, declined {}, review {}, refunded {}, \
             take-overs {}",
            "ledger",
            counts.held,
            counts.paid,
            counts.expired,
            counts.cancelled,
            counts.declined,
            counts.review,
            counts.refunded,
            counts.take_overs
        );
        fold::write(out, &counted, 10)?;
    }
    writeln!(out)
}

/// A bar whose length is to the longest as `part` to `whole`; never empty when there is anything.
fn bar(part: u64, whole: u64) -> String {
    let eighths = part.saturating_mul(BAR_COLUMNS * 8) / whole.max(1);
    let eighths = if part > 0 { eighths.max(1) } else { 0 };
    let full = usize::try_from(eighths / 8).unwrap_or(0);
    let rest = usize::try_from(eighths % 8).unwrap_or(0);
    "█".repeat(full) + EIGHTHS[rest]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion() {
        let rows = [
            (0, 10, ""),
            (1, 1_000_000, "▏"),
            (1, 60, "█"),
            (3, 120, "█▌"),
            (60, 60, &"█".repeat(60)),
        ];
        for (part, whole, expected) in rows {
            assert_eq!(bar(part, whole), expected, "{part} of {whole}");
        }
    }
}
