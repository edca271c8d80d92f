//! Concurrency: the calls of one class that are under way at one process, shared by that class's streams.
//!
//! A call is let in or refused by two loads and an addition; what was seen of answers is added up a frame at a time.
//! Calls that wait for the payment provider have a bound of their own: how long they take says nothing about the cell,
//! and its payment pool is the bulkhead that they wait for.

use super::nature::Nature;
use super::pace::{Pace, Seen};
use crate::shed::Worth;
use proto::limits::LINK_PAYMENTS_UNDER_WAY_MAX;
use runtime::metric::Gauge;
use runtime::server::Lateness;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// See the module.
#[derive(Debug)]
pub(crate) struct Concurrency {
    begin: Instant,
    /// What may be under way, and what is: read by whoever scrapes, too.
    limit: Gauge,
    under_way: Gauge,
    /// Calls under way that wait for the provider.
    paying: AtomicU64,
    lateness: Lateness,
    fine_us: AtomicU64,
    ends_us: AtomicU64,
    pace: Mutex<Pace>,
}

impl Concurrency {
    /// Nothing is under way, in a router that is so late itself.
    pub(super) fn new(limit: Gauge, under_way: Gauge, lateness: Lateness) -> Concurrency {
        let pace = Pace::new(0);
        limit.set(pace.limit().into());
        Concurrency {
            begin: Instant::now(),
            limit,
            under_way,
            paying: AtomicU64::new(0),
            lateness,
            fine_us: AtomicU64::new(pace.fine_us()),
            ends_us: AtomicU64::new(pace.ends_us()),
            pace: Mutex::new(pace),
        }
    }

    /// For how many more calls of this nature there is room.
    pub(super) fn room(&self, nature: Nature, now: Instant) -> usize {
        if nature.pays {
            let most = u64::from(LINK_PAYMENTS_UNDER_WAY_MAX);
            return whole(most.saturating_sub(self.paying.load(Ordering::Relaxed)));
        }
        // Where no answers come nobody else looks at the time.
        if self.us(now) >= self.ends_us.load(Ordering::Relaxed) {
            self.saw(Seen::default(), now);
        }
        room(level(&self.limit), level(&self.under_way), nature.worth)
    }

    /// A call was let in.
    pub(super) fn enter(&self, nature: Nature) {
        if nature.pays {
            self.paying.fetch_add(1, Ordering::Relaxed);
        } else {
            self.under_way.add(1);
        }
    }

    /// A call that was let in is under way no more.
    pub(super) fn leave(&self, nature: Nature) {
        if nature.pays {
            self.paying.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.under_way.add(-1);
        }
    }

    /// Up to what a round trip is fine.
    pub(super) fn fine_us(&self) -> u64 {
        self.fine_us.load(Ordering::Relaxed)
    }

    /// Answers came, whose callers have left.
    pub(super) fn saw(&self, seen: Seen, now: Instant) {
        let mut pace = self.lock();
        let under_way = u32::try_from(level(&self.under_way)).unwrap_or(u32::MAX);
        pace.late(self.lateness.us());
        pace.see(seen, under_way, self.us(now));
        self.limit.set(pace.limit().into());
        self.fine_us.store(pace.fine_us(), Ordering::Relaxed);
        self.ends_us.store(pace.ends_us(), Ordering::Relaxed);
    }

    fn us(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.begin);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For how many more calls of this worth there is room.
fn room(limit: u64, under_way: u64, worth: Worth) -> usize {
    whole((limit * u64::from(worth.bears()) / 1_000).saturating_sub(under_way))
}

fn level(gauge: &Gauge) -> u64 {
    u64::try_from(gauge.value()).unwrap_or(0)
}

fn whole(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::nature::nature;
    use super::*;
    use proto::limits::LINK_UNDER_WAY;
    use proto::wire::cell::call::Kind;
    use runtime::metric::Metrics;
    use std::time::Duration;

    fn concurrency() -> Concurrency {
        let metrics = Metrics::new("test", "0").unwrap();
        let gauge = |name| Gauge::new(&metrics, name, "", &[]);
        Concurrency::new(
            gauge("floodgate_limit"),
            gauge("floodgate_under_way"),
            Lateness::default(),
        )
    }

    #[test]
    fn the_order_of_sacrifice() {
        use Worth::{Checkout, Display, Join, Poll, Reserve};
        // So many of a hundred are under way; who is still let in.
        let rows: [(u64, &[Worth]); 6] = [
            (49, &[Display, Poll, Join, Reserve, Checkout]),
            (50, &[Poll, Join, Reserve, Checkout]),
            (65, &[Join, Reserve, Checkout]),
            (80, &[Reserve, Checkout]),
            (90, &[Checkout]),
            (100, &[]),
        ];
        for (under_way, let_in) in rows {
            let has_room = |worth: &Worth| room(100, under_way, *worth) > 0;
            let who: Vec<_> = Worth::ALL.into_iter().filter(has_room).collect();
            assert_eq!(who, let_in, "{under_way} of 100");
        }
    }

    #[test]
    fn payments_are_counted_by_themselves() {
        let concurrency = concurrency();
        let (pay, hold) =
            (nature(Some(&Kind::Checkout(Default::default()))), Kind::Reserve(Default::default()));
        let hold = nature(Some(&hold));
        let now = concurrency.begin;
        let before = concurrency.room(hold, now);
        (0..LINK_PAYMENTS_UNDER_WAY_MAX).for_each(|_| concurrency.enter(pay));
        assert_eq!((concurrency.room(pay, now), concurrency.room(hold, now)), (0, before));
        concurrency.leave(pay);
        (0..before).for_each(|_| concurrency.enter(hold));
        assert_eq!((concurrency.room(pay, now), concurrency.room(hold, now)), (1, 0));
    }

    #[test]
    fn who_asks_looks_at_the_time_where_nobody_answers() {
        let concurrency = concurrency();
        let hold = nature(Some(&Kind::Reserve(Default::default())));
        (0..100).for_each(|_| concurrency.enter(hold));
        for second in 0..40 {
            concurrency.room(hold, concurrency.begin + Duration::from_millis(100 * second));
        }
        assert_eq!(level(&concurrency.limit), u64::from(LINK_UNDER_WAY.0));
        assert_eq!(concurrency.room(hold, concurrency.begin), 0);
    }
}
