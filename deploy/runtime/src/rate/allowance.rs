//! A rate as one instant: the time up to which it is used up. Each call moves it on by the time that one call has; how far
//! it may run ahead of now is the burst. Pure.

const SECOND_NS: u64 = 1_000_000_000;

/// How much is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Between two calls at the full rate.
    interval_ns: u64,
    /// How far ahead of its rate a subject may run.
    burst_ns: u64,
}

impl Allowance {
    /// `per_s` calls a second, `burst` at once; at least one of each.
    pub fn new(per_s: u32, burst: u32) -> Allowance {
        let interval_ns = SECOND_NS / u64::from(per_s.max(1));
        Allowance { interval_ns, burst_ns: interval_ns * u64::from(burst.max(1)) }
    }

    /// What is used up after one more call. It may use so much of the burst as `bears` says, in thousandths, and a single
    /// call if nothing is used up.
    ///
    /// # Errors
    /// How long that call must wait, in nanoseconds.
    pub fn step(self, used_ns: u64, now_ns: u64, bears: u32) -> Result<u64, u64> {
        let next_ns = used_ns.max(now_ns).saturating_add(self.interval_ns);
        // In this order: a burst of seconds times a thousand is far from overflow.
        let may_ns = (self.burst_ns.saturating_mul(u64::from(bears)) / 1_000).max(self.interval_ns);
        let until_ns = now_ns.saturating_add(may_ns);
        if next_ns > until_ns { Err(next_ns - until_ns) } else { Ok(next_ns) }
    }

    /// What is used up after so many calls that were made, allowed or not: at most one burst more than there is.
    pub fn charged(self, used_ns: u64, now_ns: u64, calls: u32) -> u64 {
        let spent_ns = self.interval_ns.saturating_mul(calls.into());
        let most_ns = now_ns.saturating_add(self.burst_ns.saturating_mul(2));
        used_ns.max(now_ns).saturating_add(spent_ns).min(most_ns)
    }
}
