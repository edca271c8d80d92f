//! What the payment provider's simulator does wrong, and how slow it is. Changed while it runs.

use serde::{Deserialize, Serialize};

/// The faults of the provider, as `POST /faults` takes and `GET /faults` tells them. A post replaces all
/// of them: what is not named is off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// How long a confirm or a capture takes, in milliseconds.
    pub latency_ms: u64,
    /// At most this much more or less, evenly spread, in milliseconds.
    pub latency_jitter_ms: u64,
    /// Whether create, cancel and refund take that long, too.
    pub latency_all: bool,
    /// Share (0 to 1) of confirms with a good card that are declined all the same.
    pub decline_rate: f64,
    /// Share (0 to 1) of refunds that are refused for good with 400, as of a payment that its bank disputes.
    pub refund_refuse_rate: f64,
    /// Share (0 to 1) of changing calls that are answered with 500 and change nothing.
    pub error_rate: f64,
    /// Share (0 to 1) of changing calls that do their work and then close the connection unanswered.
    pub lost_reply_rate: f64,
    /// With the same seed, calls that arrive in the same order meet the same fate.
    pub seed: u64,
}

impl Faults {
    /// Whether every rate is a share.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        [self.decline_rate, self.refund_refuse_rate, self.error_rate, self.lost_reply_rate]
            .iter()
            .all(|rate| (0.0..=1.0).contains(rate))
    }
}
