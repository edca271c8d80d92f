//! Samples: every call with its latency, from which histograms of any stretch of a run are made afterwards.

use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;
use proto::fault::Reason;

/// The longest latency that is told apart from longer ones: a minute.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Latencies are kept to three digits.
const DIGITS: u8 = 3;

/// Which call it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallKind {
    /// `Join`
    Join,
    /// `GetTicket`
    GetTicket,
    /// `Reserve`
    Reserve,
    /// `Checkout`
    Checkout,
    /// `CancelOrder`
    CancelOrder,
    /// `GetOrder`
    GetOrder,
}

impl CallKind {
    /// All of them, in the order of a purchase.
    pub const ALL: [CallKind; 6] = [
        CallKind::Join,
        CallKind::GetTicket,
        CallKind::Reserve,
        CallKind::Checkout,
        CallKind::CancelOrder,
        CallKind::GetOrder,
    ];

    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            CallKind::Join => "Join",
            CallKind::GetTicket => "GetTicket",
            CallKind::Reserve => "Reserve",
            CallKind::Checkout => "Checkout",
            CallKind::CancelOrder => "CancelOrder",
            CallKind::GetOrder => "GetOrder",
        }
    }
}

/// How a call ended for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With an answer.
    Done,
    /// With a refusal: nothing was changed.
    Refused(Reason),
    /// Without the client knowing.
    Unknown,
}

/// One call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Which sale, counted from 0.
    pub sale: u8,
    /// Which call.
    pub call: CallKind,
    /// When it was meant to begin, unix microseconds.
    pub intended_us: u64,
    /// From when it was meant to begin until its end.
    pub latency_us: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether it was the same call once more.
    pub repeat: bool,
}

/// All calls of a run.
#[derive(Debug)]
pub struct Samples {
    /// When the run started, unix microseconds.
    pub start_us: u64,
    all: Mutex<Vec<Sample>>,
}

impl Samples {
    /// Those of a run that starts then (unix microseconds).
    pub fn new(start_us: u64) -> Samples {
        Samples { start_us, all: Mutex::default() }
    }

    /// Adds a call.
    pub fn add(&self, sample: Sample) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
    }

    /// Takes all calls out.
    pub fn take(&self) -> Samples {
        let all = std::mem::take(&mut *self.all.lock().unwrap_or_else(PoisonError::into_inner));
        Samples { start_us: self.start_us, all: Mutex::new(all) }
    }

    /// How many calls are so.
    pub fn count(&self, is: impl Fn(&Sample) -> bool) -> u64 {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        u64::try_from(all.iter().filter(|sample| is(sample)).count()).unwrap_or(u64::MAX)
    }

    /// The latencies of those calls that are so.
    pub fn latency(&self, is: impl Fn(&Sample) -> bool) -> Latency {
        let mut latency = Latency::default();
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|sample| is(sample)).for_each(|one| latency.add(one.latency_us.into()));
        latency
    }
}

/// A histogram of microseconds.
#[derive(Clone, Debug)]
pub struct Latency(Option<Histogram<u64>>);

impl Default for Latency {
    fn default() -> Self {
        // The bounds are constants that the library accepts; without it there would be no figures, not wrong ones.
        Latency(Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS).ok())
    }
}

impl Latency {
    /// Adds a latency.
    pub fn add(&mut self, us: u64) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(us.max(1));
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// The latency below which this share (0 to 1) of them is, in microseconds; 0 when there are none.
    pub fn at(&self, share: f64) -> u64 {
        self.0.as_ref().map_or(0, |histogram| histogram.value_at_quantile(share))
    }

    /// The longest, in microseconds.
    pub fn max(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_of_the_calls_asked_for() {
        let samples = Samples::new(0);
        for latency_us in 1..=1000 {
            let call = if latency_us > 500 { CallKind::Join } else { CallKind::Reserve };
            let (sale, intended_us) = (0, 0);
            let outcome = Outcome::Refused(Reason::Overloaded);
            let repeat = latency_us % 2 == 0;
            samples.add(Sample { sale, call, intended_us, latency_us, outcome, repeat });
        }
        let samples = samples.take();
        let joins = samples.latency(|sample| sample.call == CallKind::Join);
        assert_eq!((joins.count(), joins.at(0.5), joins.max()), (500, 750, 1000));
        assert_eq!(samples.count(|sample| sample.repeat), 500);
        assert_eq!(Latency::default().at(0.99), 0);
    }
}
