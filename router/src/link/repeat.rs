//! Repeats: a call whose link was lost is sent once more, under the same request, while the budget lasts.
//!
//! This is the one layer at which a call of a buyer's is sent again by us. A cell repeats batches to its own stores, never
//! calls; whatever a process answers, "later" included, goes to the buyer as it is, who repeats when they are told to.
//! So what one lost link costs the others is bounded, however many calls it carried.

use super::nature::Again;
use proto::limits::{BUCKET_AWAY_RETRY_MS, REPEATS_AT_ONCE_MAX, REPEATS_PER_S, REPEATS_PERMILLE};
use std::time::Duration;

/// What repeats cost and what the budget holds, in thousandths of one.
const REPEAT: u64 = 1_000;

/// How many calls of one process may be repeated: a part of those that were asked, and a few in any case.
#[derive(Debug)]
pub(super) struct Budget {
    left: u64,
    asked: u64,
    at_ms: u64,
}

impl Budget {
    /// The budget of a process of which nothing was asked yet.
    pub(super) fn new(now_ms: u64) -> Budget {
        Budget { left: REPEATS_PER_S * REPEAT, asked: 0, at_ms: now_ms }
    }

    /// Takes one repeat out, when so many calls were asked altogether.
    pub(super) fn take(&mut self, asked: u64, now_ms: u64) -> bool {
        let for_calls = asked.saturating_sub(self.asked).saturating_mul(REPEATS_PERMILLE);
        let for_time = now_ms.saturating_sub(self.at_ms).saturating_mul(REPEATS_PER_S);
        let left = self.left.saturating_add(for_calls).saturating_add(for_time);
        self.left = left.min(REPEATS_AT_ONCE_MAX * REPEAT);
        (self.asked, self.at_ms) = (asked.max(self.asked), now_ms.max(self.at_ms));
        let enough = self.left >= REPEAT;
        if enough {
            self.left -= REPEAT;
        }
        enough
    }
}

/// Whether a call may be sent once more whose link was lost, after it was sent or before.
pub(super) fn may_repeat(again: Again, sent: bool) -> bool {
    !sent || again == Again::Safe
}

/// When a buyer may ask again whose bucket's process has been away for so long: the longer that lasts, the later.
pub(crate) fn again_ms(away: Duration) -> u32 {
    let (least, most) = BUCKET_AWAY_RETRY_MS;
    u32::try_from(away.as_millis()).unwrap_or(most).clamp(least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_what_was_asked_is_repeated_and_a_few_in_any_case() {
        // Calls asked, and ms later: how many of a great many are repeated.
        let rows = [
            ("a process just dialled", 0, 0, REPEATS_PER_S),
            ("a hundred calls", 100, 0, 10 + 10),
            ("a few calls", 5, 0, 10),
            ("a second later", 0, 1_000, 10 + 10),
            ("a day of silence", 0, 86_400_000, REPEATS_AT_ONCE_MAX),
            ("ten million calls", 10_000_000, 0, REPEATS_AT_ONCE_MAX),
        ];
        for (what, asked, ms, wanted) in rows {
            let mut budget = Budget::new(7);
            let taken = (0..5_000).filter(|_| budget.take(asked, 7 + ms)).count();
            assert_eq!(taken as u64, wanted, "{what}");
        }
    }

    #[test]
    fn a_storm_is_not_fed_by_its_own_repeats() {
        // Every call is lost, and every repeat counts as a call.
        let (mut budget, mut asked, mut repeats) = (Budget::new(0), 0_u64, 0_u64);
        for call in 0..100_000 {
            asked += 1;
            if budget.take(asked, call / 100) {
                (asked, repeats) = (asked + 1, repeats + 1);
            }
        }
        // r = (n + r) / 10 + 20.
        assert!(repeats <= (100_000 + 10 * 2 * REPEATS_PER_S) / 9 + 1, "{repeats}");
    }

    #[test]
    fn the_clock_and_the_count_never_go_back() {
        let mut budget = Budget::new(1_000);
        while budget.take(100, 2_000) {}
        for (asked, now_ms) in [(0, 0), (100, 2_000), (50, 1_999)] {
            assert!(!budget.take(asked, now_ms));
        }
    }

    #[test]
    fn what_does_something_more_the_second_time_is_repeated_only_if_it_was_never_sent() {
        let rows = [
            (Again::Safe, false, true),
            (Again::Safe, true, true),
            (Again::Unsent, false, true),
            (Again::Unsent, true, false),
        ];
        for (again, sent, wanted) in rows {
            assert_eq!(may_repeat(again, sent), wanted, "{again:?}, sent: {sent}");
        }
    }

    #[test]
    fn the_longer_it_lasts_the_later() {
        let rows = [
            (0, 250),
            (250, 250),
            (1_000, 1_000),
            (7_000, 7_000),
            (60_000, 10_000),
            (u64::MAX, 10_000),
        ];
        for (away_ms, again) in rows {
            assert_eq!(again_ms(Duration::from_millis(away_ms)), again, "{away_ms} ms");
        }
    }
}
