//! Intake: whether a bucket takes joins, decided purely from what became of those that were passed on.
//!
//! Its first refusal begins a bad time, which ends when more joins were answered than refused within one window, or when
//! none was refused for a while. A refusal that comes late in a bad time closes it: then buyers stand in a line. A change of
//! keeper is over by then, and a cell that refuses some and answers more is never closed.

use proto::limits::{LINE_AFTER_MS, LINE_FORGET_MS, LINE_LOOK_MS};

/// See the module. Times are the caller's, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Intake {
    bad_since_ms: Option<u64>,
    refused_at_ms: u64,
    closed: bool,
    window_since_ms: u64,
    took: u32,
    refused: u32,
}

impl Intake {
    /// A join was answered.
    pub(super) fn took(&mut self, now_ms: u64) {
        self.turn(now_ms);
        self.took = self.took.saturating_add(1);
    }

    /// A join was refused for want of a cell.
    pub(super) fn refused(&mut self, now_ms: u64) {
        self.turn(now_ms);
        self.refused = self.refused.saturating_add(1);
        self.refused_at_ms = now_ms;
        let since_ms = *self.bad_since_ms.get_or_insert(now_ms);
        self.closed |= now_ms.saturating_sub(since_ms) >= LINE_AFTER_MS;
    }

    /// Whether it takes none.
    pub(super) fn is_closed(&mut self, now_ms: u64) -> bool {
        self.turn(now_ms);
        self.closed
    }

    /// Whether nothing is held against it.
    pub(super) fn is_open(&mut self, now_ms: u64) -> bool {
        self.turn(now_ms);
        self.bad_since_ms.is_none()
    }

    fn turn(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.window_since_ms) < LINE_LOOK_MS {
            return;
        }
        let forgotten = now_ms.saturating_sub(self.refused_at_ms) >= LINE_FORGET_MS;
        if self.took > self.refused || forgotten {
            self.bad_since_ms = None;
            self.closed = false;
        }
        (self.took, self.refused, self.window_since_ms) = (0, 0, now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_refuses_for_long_and_answers_fewer_is_closed() {
        // At which time so many were answered, then so many refused; whether it is closed at the time that follows.
        type Row = (&'static str, &'static [(u64, u32, u32)], u64, bool);
        let rows: [Row; 11] = [
            ("nothing", &[], 9_000, false),
            ("a great many at one moment", &[(0, 0, 9_999)], 1_999, false),
            ("a change of keeper", &[(0, 0, 50), (300, 0, 50), (1_900, 50, 0)], 5_000, false),
            ("one, and silence", &[(0, 0, 1)], 5_000, false),
            ("one, and one more later", &[(0, 0, 1), (2_000, 0, 1)], 2_000, true),
            ("all for two seconds", &[(0, 0, 9), (900, 0, 9), (2_000, 0, 9)], 2_001, true),
            ("as many as were answered", &[(0, 9, 9), (900, 9, 9), (2_000, 9, 9)], 2_001, true),
            ("fewer than were answered", &[(0, 9, 8), (900, 9, 9), (2_000, 9, 8)], 3_500, false),
            ("until it answers more", &[(0, 0, 1), (2_000, 0, 1), (3_000, 2, 1)], 4_000, false),
            ("not when it answers a few", &[(0, 0, 1), (2_000, 0, 1), (3_000, 1, 1)], 4_000, true),
            (
                "for as long as it refuses",
                &[(0, 0, 1), (2_000, 0, 1), (11_000, 0, 1)],
                12_000,
                true,
            ),
        ];
        for (what, events, at_ms, wanted) in rows {
            let mut intake = Intake::default();
            for &(now_ms, took, refused) in events {
                (0..took).for_each(|_| intake.took(now_ms));
                (0..refused).for_each(|_| intake.refused(now_ms));
            }
            assert_eq!(intake.is_closed(at_ms), wanted, "{what}");
        }
        let mut intake = Intake::default();
        [0, 2_000].into_iter().for_each(|now_ms| intake.refused(now_ms));
        assert!(intake.is_closed(11_999) && !intake.is_closed(12_999), "it is forgotten");
        assert!(intake.is_open(12_999));
    }

    proptest! {
        #[test]
        fn it_is_closed_only_after_refusals_and_opens_again(
            events in prop::collection::vec((0..1_500_u64, any::<bool>()), 0..60),
        ) {
            let (mut intake, mut now_ms, mut refused_ms) = (Intake::default(), 0, Vec::new());
            for (after_ms, took) in events {
                now_ms += after_ms;
                if took {
                    intake.took(now_ms);
                } else {
                    intake.refused(now_ms);
                    refused_ms.push(now_ms);
                }
                if intake.is_closed(now_ms) {
                    let last = refused_ms.last().copied().unwrap_or(0);
                    let long = refused_ms.iter().any(|first| last - first >= LINE_AFTER_MS);
                    prop_assert!(long, "closed at {}, refused at {:?}", now_ms, refused_ms);
                }
            }
            prop_assert!(!intake.is_closed(now_ms + LINE_FORGET_MS + LINE_LOOK_MS));
        }
    }
}
