//! The tally: what many trials add up to, and how long recoveries took, drawn.

use std::io::{self, Write};
use std::time::Duration;

use super::Trial;
use crate::drill::Drill;
use crate::report::{Proof, Times};

/// See the module.
#[derive(Clone, Debug)]
pub struct Tally {
    drill: Drill,
    counted: u32,
    voids: u32,
    violations: usize,
    lost_acknowledgements: u64,
    broken_seeds: Vec<u64>,
    again: Times,
    took: Duration,
    /// Whether too many trials were void.
    pub(super) missing: bool,
}

impl Tally {
    /// Of no trial yet.
    pub fn new(drill: Drill) -> Tally {
        Tally {
            drill,
            counted: 0,
            voids: 0,
            violations: 0,
            lost_acknowledgements: 0,
            broken_seeds: Vec::new(),
            again: Times::default(),
            took: Duration::ZERO,
            missing: false,
        }
    }

    /// Adds a trial. A broken promise counts in a void one, too.
    pub fn add(&mut self, trial: &Trial) {
        match trial.proof() {
            Proof::Void => self.voids += 1,
            Proof::Kept => self.counted += 1,
            Proof::Broken => {
                self.counted += 1;
                self.broken_seeds.push(trial.seed);
            }
        }
        self.violations += trial.violations.len();
        self.lost_acknowledgements += trial.verdict.lost_acknowledgements;
        self.again.extend(trial.drill.again);
        self.took += trial.took;
    }

    /// Trials that are not void.
    pub fn counted(&self) -> u32 {
        self.counted
    }

    /// Trials that are.
    pub fn voids(&self) -> u32 {
        self.voids
    }

    /// What they proved together.
    pub fn proof(&self) -> Proof {
        if !self.broken_seeds.is_empty() {
            Proof::Broken
        } else if self.missing || self.counted == 0 {
            Proof::Void
        } else {
            Proof::Kept
        }
    }

    /// The time to granting again below which this share (0 to 1) of the trials is; none without any.
    pub fn again_at(&self, share: f64) -> Option<Duration> {
        self.again.at(share)
    }

    /// Draws it.
    ///
    /// # Errors
    /// When `out` takes no more.
    pub fn draw(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\ndrill {}: {}", self.drill.name(), self.drill.hypothesis())?;
        writeln!(
            out,
            "{} trials in {:.0} s, {} void, {} broken; {} violations, {} lost acknowledgements",
            self.counted,
            self.took.as_secs_f64(),
            self.voids,
            self.broken_seeds.len(),
            self.violations,
            self.lost_acknowledgements
        )?;
        self.again.draw(out, "granting again")?;
        if !self.broken_seeds.is_empty() {
            let again = format!("floodgate-chaos drill {} --trials 1 --seed", self.drill.name());
            for seed in &self.broken_seeds {
                writeln!(out, "the same again: {again} {seed}")?;
            }
        }
        let said = match self.proof() {
            Proof::Kept => "kept: every invariant in every trial",
            Proof::Broken => "broken",
            Proof::Void => "void: too many trials proved nothing",
        };
        writeln!(out, "{said}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Verdict;
    use crate::report::DrillReport;

    fn trial(seed: u64, again_ms: Option<u64>) -> Trial {
        let again = again_ms.map(Duration::from_millis);
        Trial {
            number: seed,
            seed,
            moment: 0.5,
            drill: DrillReport { again, ..DrillReport::default() },
            verdict: Verdict::default(),
            violations: Vec::new(),
            flaws: Vec::new(),
            took: Duration::from_secs(1),
            evidence: None,
        }
    }

    fn drawn(tally: &Tally) -> String {
        let mut out = Vec::new();
        tally.draw(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn trials_add_up() {
        let mut tally = Tally::new(Drill::RedisKilled);
        (1..=100).for_each(|number| tally.add(&trial(number, Some(number * 10))));
        let mut void = trial(101, None);
        void.drill.void.push("nothing was free".to_owned());
        tally.add(&void);
        let figures = [0.5, 0.99, 1.0].map(|share| tally.again_at(share).unwrap().as_millis());
        assert_eq!(figures, [500, 990, 1_000]);
        assert_eq!((tally.counted(), tally.voids(), tally.proof()), (100, 1, Proof::Kept));
        let drawn = drawn(&tally);
        for words in ["100 trials", "1 void", "0 broken", "p50 500 ms", "<  50 ms", "< 1500 ms"] {
            let words = words.replace("<  ", "< ");
            assert!(drawn.contains(&words), "{words}: {drawn}");
        }
    }

    #[test]
    fn one_broken_trial_breaks_them_all_and_names_its_seed() {
        let rows: [fn(&mut Trial); 3] = [
            |trial| trial.violations.push("INV-1 unit 7 is sold twice".to_owned()),
            |trial| trial.flaws.push("cell-1/p1 is exited".to_owned()),
            |trial| trial.drill.against.push("that is more than 2s".to_owned()),
        ];
        for damage in rows {
            let mut tally = Tally::new(Drill::RedisKilled);
            tally.add(&trial(1, Some(10)));
            let mut broken = trial(77, Some(10));
            damage(&mut broken);
            tally.add(&broken);
            tally.add(&trial(3, Some(10)));
            assert_eq!(tally.proof(), Proof::Broken);
            assert!(drawn(&tally).contains("redis-killed --trials 1 --seed 77"));
            assert!(broken.to_string().contains("BROKEN"));
        }
    }

    #[test]
    fn a_violation_in_a_void_trial_is_one() {
        let mut trial = trial(1, None);
        trial.drill.void.push("nothing was free".to_owned());
        trial.violations.push("INV-6 an order is gone".to_owned());
        assert_eq!(trial.proof(), Proof::Broken);
    }

    #[test]
    fn no_trial_proves_nothing() {
        assert_eq!(Tally::new(Drill::RedisKilled).proof(), Proof::Void);
    }
}
