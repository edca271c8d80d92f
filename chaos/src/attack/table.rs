//! What attacks came to, as a table of at most 120 columns.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use super::honest::Phase;
use super::{AttackPlan, Outcome, Tally};

/// Draws the table, and what is not as it should be.
pub(super) fn draw(
    out: &mut impl Write,
    plan: &AttackPlan,
    alone: &Phase,
    outcomes: &[Outcome],
) -> io::Result<()> {
    let lasts = plan.lasts.map_or("once each".to_owned(), |lasts| format!("for {lasts:?}"));
    writeln!(
        out,
        "{} connections {lasts}; honest clients alone: p50 {}, p99 {} of {} calls",
        plan.connections,
        ms(alone.quantile(0.5)),
        ms(alone.quantile(0.99)),
        alone.calls(),
    )?;
    writeln!(
        out,
        "{:<18}{:>7} {:>10}{:>11}{:>8}{:>28}{:>20}{:>10}{:>7}",
        "attack", "closed", "median", "longest", "MB", "told", "MiB, peak, after", "p99", "failed",
    )?;
    for outcome in outcomes {
        let mut after = outcome.tally.closed_after.clone();
        after.sort_unstable();
        let at = |place: usize| after.get(place).map_or("-".to_owned(), |after| ms(*after));
        let memory = outcome.memory;
        writeln!(
            out,
            "{:<18}{:>7} {:>10}{:>11}{:>8.1}{:>28}{:>20}{:>10}{:>7}",
            outcome.attack.name(),
            after.len(),
            at(after.len() / 2),
            at(after.len().saturating_sub(1)),
            mb(outcome.tally.sent),
            told(&outcome.tally),
            format!("{} {} {}", memory.before / 1_024, memory.peak / 1_024, memory.after / 1_024),
            ms(outcome.honest.quantile(0.99)),
            outcome.honest.failed,
        )?;
    }
    let timed = plan.lasts.is_some();
    let mut kept = true;
    for outcome in outcomes {
        for fault in outcome.faults(timed) {
            kept = false;
            let (name, hypothesis) = (outcome.attack.name(), outcome.attack.hypothesis());
            writeln!(out, "broken: {name}: {fault}; believed was: {hypothesis}")?;
        }
    }
    writeln!(out, "{}", if kept { "every attack was turned away" } else { "not every attack was" })
}

/// The codes that were told, each with how often.
fn told(tally: &Tally) -> String {
    let mut codes = BTreeMap::<String, u32>::new();
    for code in &tally.goaways {
        *codes.entry(format!("goaway {code}")).or_default() += 1;
    }
    for code in &tally.answers {
        let name = code.map_or("reset".to_owned(), |code| format!("status {code}"));
        *codes.entry(name).or_default() += 1;
    }
    let mut codes: Vec<_> = codes.into_iter().collect();
    codes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    codes
        .iter()
        .take(2)
        .map(|(name, count)| format!("{name} x{count}"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

fn mb(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 100_000).unwrap_or(u32::MAX)) / 10.0
}
