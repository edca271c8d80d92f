//! The tally: what many small sales add up to, drawn.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use super::sale::Sold;
use super::{HYPOTHESIS, NAME};
use crate::report::{Proof, Times};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    at_once: usize,
    units: u64,
    buyers: usize,
    /// How many sales had so many buckets.
    buckets: BTreeMap<usize, u32>,
    sales: u32,
    sold_out: u32,
    sold_out_told: usize,
    transfers: u32,
    moved: u64,
    violations: usize,
    lost_acknowledgements: u64,
    broken_seeds: Vec<u64>,
    after: Times,
    waits: Times,
    standstills: Times,
    /// What is wrong with the platform as a whole.
    pub(super) flaws: Vec<String>,
    /// How long all of it took.
    pub(super) took: Duration,
}

impl Tally {
    /// Of no sale yet.
    pub(super) fn new(at_once: usize) -> Tally {
        Tally { at_once, ..Tally::default() }
    }

    /// Adds a sale.
    pub(super) fn add(&mut self, sold: &Sold) {
        self.sales += 1;
        self.units += sold.verdict.stock;
        self.buyers += sold.buyers;
        *self.buckets.entry(sold.buckets).or_default() += 1;
        self.sold_out += u32::from(sold.verdict.sold == sold.verdict.stock);
        self.sold_out_told += sold.sold_out_told;
        self.transfers += sold.flow.transfers;
        self.moved += sold.flow.moved;
        self.violations += sold.violations.len();
        self.lost_acknowledgements += sold.verdict.lost_acknowledgements;
        if sold.proof() == Proof::Broken {
            self.broken_seeds.push(sold.seed);
        }
        self.after.extend(sold.after);
        self.waits.extend(sold.flow.waits.iter().copied());
        self.standstills.extend([sold.flow.standstill]);
    }

    /// What they proved together.
    pub(super) fn proof(&self) -> Proof {
        match self.sales {
            _ if !self.broken_seeds.is_empty() || !self.flaws.is_empty() => Proof::Broken,
            0 => Proof::Void,
            _ => Proof::Kept,
        }
    }

    /// Draws it.
    ///
    /// # Errors
    /// When `out` takes no more.
    pub(super) fn draw(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\n{NAME}: {HYPOTHESIS}")?;
        let buckets = self.buckets.iter().map(|(buckets, sales)| format!("{sales} with {buckets}"));
        let buckets: Vec<String> = buckets.collect();
        let Tally { sales, sold_out, units, buyers, violations, .. } = self;
        writeln!(
            out,
            "{sales} sales, {} at a time, in {:.0} s; buckets: {}; {units} units, {buyers} buyers",
            self.at_once,
            self.took.as_secs_f64(),
            buckets.join(", ")
        )?;
        writeln!(
            out,
            "{sold_out} sold out exactly, {} broken; {violations} violations, {} lost acknowledgements",
            self.broken_seeds.len(),
            self.lost_acknowledgements
        )?;
        writeln!(
            out,
            "SOLD_OUT was told {} times; {} transfers moved {} units",
            self.sold_out_told, self.transfers, self.moved
        )?;
        self.after.draw(out, "from the start to the last payment")?;
        self.waits.draw(out, "a unit that came back lay free")?;
        self.standstills.draw(out, "the longest time of each sale with free units and no hold")?;
        for flaw in &self.flaws {
            writeln!(out, "wrong: {flaw}")?;
        }
        for seed in &self.broken_seeds {
            writeln!(out, "the same again: floodgate-chaos drill {NAME} --trials 1 --seed {seed}")?;
        }
        let said = match self.proof() {
            Proof::Kept => "kept: every sale sold out exactly, with every invariant",
            Proof::Broken => "broken",
            Proof::Void => "void: there was no sale",
        };
        writeln!(out, "{said}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::flow::Flow;
    use super::*;
    use crate::judge::Verdict;

    fn sold(seed: u64, units: u64) -> Sold {
        let flow = Flow {
            waits: vec![Duration::from_millis(120)],
            standstill: Duration::from_millis(400),
            transfers: 2,
            moved: 5,
            last_paid_us: Some(9),
        };
        Sold {
            seed,
            buckets: 2,
            buyers: 100,
            favourite: 0.75,
            after: Some(Duration::from_millis(3_210)),
            flow,
            sold_out_told: 60,
            verdict: Verdict { sold: units, stock: 20, ..Verdict::default() },
            violations: Vec::new(),
            flaws: Vec::new(),
            evidence: None,
        }
    }

    fn drawn(tally: &Tally) -> String {
        let mut out = Vec::new();
        tally.draw(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn sales_add_up() {
        let mut tally = Tally::new(20);
        assert_eq!(tally.proof(), Proof::Void);
        (0..3).for_each(|seed| tally.add(&sold(seed, 20)));
        let drawn = drawn(&tally);
        for words in [
            "3 sales, 20 at a time",
            "buckets: 3 with 2; 60 units, 300 buyers",
            "3 sold out exactly, 0 broken",
            "told 180 times; 6 transfers moved 15 units",
            "last payment: p50 3210 ms",
            "lay free: p50 120 ms",
            "no hold: p50 400 ms",
        ] {
            assert!(drawn.contains(words), "{words}: {drawn}");
        }
        assert_eq!(tally.proof(), Proof::Kept);
        let line = sold(7, 20).to_string();
        assert!(line.starts_with("sale 7: 20 of 20 sold in 3.2 s, 2 buckets, 75 %"));
        assert!(line.chars().count() <= 100 && line.ends_with("kept"), "{line}");
    }

    #[test]
    fn one_broken_sale_breaks_them_all_and_names_its_seed() {
        let rows: [fn(&mut Sold); 2] = [
            |sold| sold.violations.push("INV-3 everybody was told too early".to_owned()),
            |sold| sold.flaws.push("1 units are left".to_owned()),
        ];
        for damage in rows {
            let mut tally = Tally::new(20);
            tally.add(&sold(1, 20));
            let mut broken = sold(77, 19);
            damage(&mut broken);
            tally.add(&broken);
            assert_eq!(tally.proof(), Proof::Broken);
            let drawn = drawn(&tally);
            assert!(drawn.contains("small-sales --trials 1 --seed 77"), "{drawn}");
            assert!(drawn.contains("1 sold out exactly, 1 broken") && drawn.ends_with("broken\n"));
            assert!(broken.to_string().contains("BROKEN"));
        }
        let mut tally = Tally::new(20);
        tally.add(&sold(1, 20));
        tally.flaws.push("payment pi_1 took money for no order of any sale".to_owned());
        assert_eq!(tally.proof(), Proof::Broken);
    }
}
