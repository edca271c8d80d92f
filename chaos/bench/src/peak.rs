//! The search for the most calls a second that end well: the load rises step by step until goodput does not. Pure.

/// From one step to the next.
const RISE: f64 = 1.3;
/// A step is better than the best when its goodput is so many times as high: less is noise.
const BETTER: f64 = 1.03;
/// Steps in a row that are not better, until the search ends.
const WORSE_MAX: u32 = 2;
/// Steps in all.
const STEPS_MAX: u32 = 24;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    rate: f64,
    best: (f64, f64),
    worse: u32,
    steps: u32,
}

impl Search {
    /// Begins with so many calls a second.
    pub(crate) fn from(rate: f64) -> Search {
        Search { rate, best: (rate, 0.0), worse: 0, steps: 0 }
    }

    /// What to offer next; none when the search is over.
    pub(crate) fn next(&self) -> Option<f64> {
        (self.worse < WORSE_MAX && self.steps < STEPS_MAX).then_some(self.rate)
    }

    /// Of what was offered so much ended well.
    pub(crate) fn saw(&mut self, good_per_s: f64) {
        if good_per_s > self.best.1 * BETTER {
            self.worse = 0;
        } else {
            self.worse += 1;
        }
        if good_per_s > self.best.1 {
            self.best = (self.rate, good_per_s);
        }
        self.steps += 1;
        self.rate *= RISE;
    }

    /// What was offered when most ended well, and how much that was.
    pub(crate) fn best(&self) -> (f64, f64) {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(platform: impl Fn(f64) -> f64) -> (f64, f64, u32) {
        let mut search = Search::from(100.0);
        let mut steps = 0;
        while let Some(rate) = search.next() {
            search.saw(platform(rate));
            steps += 1;
        }
        let (rate, good) = search.best();
        (rate, good, steps)
    }

    #[test]
    fn the_peak_is_found_whatever_lies_behind_it() {
        let capacity = 2_800.0;
        let plateau = |rate: f64| rate.min(capacity);
        let collapse = |rate: f64| if rate > capacity { capacity / 10.0 } else { rate };
        let slope = |rate: f64| rate.min(capacity) - (rate - capacity).max(0.0) * 0.1;
        for (name, platform) in [
            ("plateau", &plateau as &dyn Fn(f64) -> f64),
            ("collapse", &collapse),
            ("slope", &slope),
        ] {
            let (rate, good, steps) = found(platform);
            // Between two steps lies a third.
            assert!(good > capacity / RISE && good <= capacity, "{name}: {good} at {rate}");
            assert!(rate < capacity * RISE * RISE, "{name}: {rate}");
            assert!(steps < STEPS_MAX, "{name}: {steps}");
        }
    }

    #[test]
    fn single_bad_steps_do_not_end_it_and_it_does_end() {
        let bad = |rate: f64| (150.0..180.0).contains(&rate) || (280.0..290.0).contains(&rate);
        let hiccup = |rate: f64| if bad(rate) { 1.0 } else { rate.min(900.0) };
        let (_, good, _) = found(hiccup);
        assert!(good > 890.0, "{good}");
        assert_eq!(found(|rate| rate).2, STEPS_MAX);
        assert_eq!(found(|_| 0.0).2, WORSE_MAX);
    }
}
