//! The report: what a run's end looks like in a terminal, at most 100 columns wide.
//!
//! It draws; it decides only whether a run counts at all. A run in which something never happened, or in which buyers
//! came late, proves nothing and is void.

mod bars;
mod chart;
mod fold;
mod latency;
mod times;

use std::fmt;
use std::io::{self, Write};

use proto::invariant::Invariant;

use crate::judge::{Judgement, Verdict};
use crate::load::{CallKind, End, LoadOutcome, Outcome, SaleLive};

pub(crate) use times::Times;

/// The most that a hundredth of the buyers may be sent off late, in microseconds.
pub const LATENESS_US_MAX: u64 = 100_000;

/// Broken promises that are told one by one.
const VIOLATIONS_TOLD_MAX: usize = 20;

/// What a run proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Every invariant was kept.
    Kept,
    /// Something is broken.
    Broken,
    /// The run was none.
    Void,
}

impl Proof {
    /// The exit code that says so.
    pub const fn exit_code(self) -> u8 {
        match self {
            Proof::Kept => 0,
            Proof::Broken => 1,
            Proof::Void => 2,
        }
    }
}

/// What ran: name and version, in the order to be told.
pub type Versions = Vec<(String, String)>;

/// What a drill found: sentences, and whether its hypothesis held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrillReport {
    /// The drill's name.
    pub name: String,
    /// What was believed before.
    pub hypothesis: String,
    /// What was done and measured.
    pub findings: Vec<String>,
    /// What is told whatever came of it.
    pub figures: Vec<String>,
    /// What speaks against the hypothesis.
    pub against: Vec<String>,
    /// Why it proves nothing: the fault was not where it should have been.
    pub void: Vec<String>,
    /// What was done, in one sentence.
    pub blow: String,
    /// How long the struck bucket took to grant again.
    pub again: Option<std::time::Duration>,
}

/// One sale of the run, as the report shows it.
#[derive(Debug)]
pub struct SaleReport<'a> {
    /// The org, for people.
    pub org: &'a str,
    /// What the load counted.
    pub live: &'a SaleLive,
}

/// Everything that a report shows.
#[derive(Debug)]
pub struct Report<'a> {
    /// What the run was drawn from.
    pub seed: u64,
    /// What ran.
    pub versions: Versions,
    /// The sales, the mega-sale first.
    pub sales: Vec<SaleReport<'a>>,
    /// What the load measured.
    pub load: &'a LoadOutcome,
    /// What the judge found.
    pub judgement: &'a Judgement,
    /// What the drill found, when there was one.
    pub drill: Option<&'a DrillReport>,
}

impl Report<'_> {
    /// What the run proved.
    pub fn proof(&self) -> Proof {
        let drill = self.drill;
        if !self.judgement.is_clean() || !self.flaws().is_empty() {
            Proof::Broken
        } else if !self.void().is_empty() {
            Proof::Void
        } else if drill.is_some_and(|drill| !drill.against.is_empty()) {
            Proof::Broken
        } else {
            Proof::Kept
        }
    }

    /// Draws it. `paint`: with colours.
    ///
    /// # Errors
    /// When `out` takes no more.
    pub fn draw(&self, out: &mut impl Write, paint: bool) -> io::Result<()> {
        self.head(out)?;
        if let Some(sale) = self.sales.first() {
            bars::funnel(out, sale.live, self.judgement.counts.first())?;
        }
        let moves = self.judgement.moves.first().map_or(&[][..], Vec::as_slice);
        let stock = self.judgement.verdicts.first().map_or(0, |verdict| verdict.stock);
        chart::draw(out, moves, stock, self.load.samples.start_us)?;
        for (number, sale) in (0..).zip(&self.sales) {
            latency::table(out, sale.org, &self.load.samples, number)?;
        }
        self.counts(out)?;
        if let Some(drill) = self.drill {
            draw_drill(out, drill)?;
        }
        self.end(out, paint)
    }

    fn head(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\nseed {}", self.seed)?;
        let versions: Vec<String> =
            self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        fold::write(out, &versions.join(", "), 0)?;
        writeln!(out)
    }

    fn counts(&self, out: &mut impl Write) -> io::Result<()> {
        let counted: Vec<String> =
            self.happened().iter().map(|(what, count)| format!("{what} {count}")).collect();
        writeln!(out, "{}", counted.join(", "))?;
        let mut refusals: Vec<(u64, &str)> = proto::fault::Reason::ALL
            .iter()
            .map(|reason| {
                let outcome = Outcome::Refused(*reason);
                (self.load.samples.count(|sample| sample.outcome == outcome), reason.label())
            })
            .filter(|(count, _)| *count > 0)
            .collect();
        refusals.sort_unstable_by(|a, b| b.cmp(a));
        let refusals: Vec<String> =
            refusals.iter().map(|(count, reason)| format!("{reason} {count}")).collect();
        fold::write(out, &format!("refused: {}", refusals.join(", ")), 9)?;
        let late = &self.load.lateness_us;
        writeln!(
            out,
            "lateness of {} arrivals: p50 {}, p99 {}, max {} (p99 at most {})",
            late.count(),
            latency::short(late.at(0.5)),
            latency::short(late.at(0.99)),
            latency::short(late.max()),
            latency::short(LATENESS_US_MAX),
        )
    }

    /// What must have happened at least once in the mega-sale.
    fn happened(&self) -> Vec<(&'static str, u64)> {
        let samples = &self.load.samples;
        let counts = self.judgement.counts.first().copied().unwrap_or_default();
        let declined = Outcome::Refused(proto::fault::Reason::CardDeclined);
        vec![
            ("repeated", samples.count(|sample| sample.sale == 0 && sample.repeat)),
            (
                "unknown",
                samples.count(|sample| sample.sale == 0 && sample.outcome == Outcome::Unknown),
            ),
            ("declined", samples.count(|sample| sample.sale == 0 && sample.outcome == declined)),
            ("expired", counts.expired),
            ("cancelled", counts.cancelled),
        ]
    }

    /// Why the run proves nothing.
    fn void(&self) -> Vec<String> {
        let mut why: Vec<String> = self
            .happened()
            .into_iter()
            .filter(|(_, count)| *count == 0)
            .map(|(what, _)| format!("nothing was {what}"))
            .collect();
        let late_us = self.load.lateness_us.at(0.99);
        if late_us > LATENESS_US_MAX {
            why.push(format!("buyers came late: p99 {}", latency::short(late_us)));
        }
        why.extend(self.drill.iter().flat_map(|drill| drill.void.iter().cloned()));
        why
    }

    /// What is wrong although no invariant is broken.
    fn flaws(&self) -> Vec<String> {
        let mut why = Vec::new();
        if !self.load.quiet {
            why.push("the pages did not show in time that no order is live".to_owned());
        }
        if let (Some(verdict), Some(sale)) = (self.judgement.verdicts.first(), self.sales.first())
            && verdict.sold < verdict.stock
            && sale.live.arrived() > verdict.stock
        {
            why.push(format!("{} units are left although buyers came for all", left(verdict)));
        }
        let neighbours = self.sales.iter().skip(1);
        for sale in neighbours.filter(|sale| sale.live.ended(End::Paid) == 0) {
            why.push(format!("nobody could buy from {}", sale.org));
        }
        why
    }

    fn end(&self, out: &mut impl Write, paint: bool) -> io::Result<()> {
        let violations = &self.judgement.violations;
        writeln!(out)?;
        let told = violations.iter().take(VIOLATIONS_TOLD_MAX);
        let broken = told.map(|violation| format!("broken: {violation}"));
        let more = violations.len().saturating_sub(VIOLATIONS_TOLD_MAX);
        let more = (more > 0).then(|| format!("broken: and {more} more"));
        let wrong = self.flaws().into_iter().map(|why| format!("wrong: {why}"));
        let void = self.void().into_iter().map(|why| format!("void: {why}"));
        for line in broken.chain(more).chain(wrong).chain(void) {
            for line in fold::lines(&line, 4) {
                writeln!(out, "{}", painted(paint, RED, &line))?;
            }
        }
        if violations.is_empty() {
            let judged: Vec<&str> = JUDGED.iter().map(|one| one.id()).collect();
            writeln!(out, "kept: {}", judged.join(", "))?;
        }
        if let Some(verdict) = self.judgement.verdicts.first() {
            let colour = if self.proof() == Proof::Kept { GREEN } else { RED };
            writeln!(out, "{}", painted(paint, colour, &verdict.to_string()))?;
        }
        Ok(())
    }
}

/// The invariants that ledgers can show.
const JUDGED: [Invariant; 9] = [
    Invariant::Inv1,
    Invariant::Inv2,
    Invariant::Inv3,
    Invariant::Inv4,
    Invariant::Inv5,
    Invariant::Inv6,
    Invariant::Inv7,
    Invariant::Inv8,
    Invariant::Inv12,
];

const RED: &str = "31";
const GREEN: &str = "32";

fn left(verdict: &Verdict) -> u64 {
    verdict.stock.saturating_sub(verdict.sold)
}

fn draw_drill(out: &mut impl Write, drill: &DrillReport) -> io::Result<()> {
    writeln!(out, "\ndrill {}", drill.name)?;
    fold::write(out, &format!("  believed: {}", drill.hypothesis), 4)?;
    for finding in drill.findings.iter().chain(&drill.figures) {
        fold::write(out, &format!("  {finding}"), 4)?;
    }
    for against in &drill.against {
        fold::write(out, &format!("  against it: {against}"), 4)?;
    }
    if drill.against.is_empty() && drill.void.is_empty() {
        writeln!(out, "  nothing speaks against that")?;
    }
    Ok(())
}

fn painted(paint: bool, colour: &str, text: &str) -> String {
    if paint { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
}

impl fmt::Display for CallKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
