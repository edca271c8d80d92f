//! The bulkhead: how many payments of a class are under way, and how many wait.

use proto::limits::{PAYMENTS_UNDER_WAY_MAX, PAYMENTS_WAITING_MAX};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The payments of one class in this process.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    under_way: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// A place in the pool, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pool: Pool,
    _waiting: OwnedSemaphorePermit,
}

impl Pool {
    /// An empty pool.
    pub(crate) fn new() -> Pool {
        Pool {
            under_way: Arc::new(Semaphore::new(PAYMENTS_UNDER_WAY_MAX)),
            waiting: Arc::new(Semaphore::new(PAYMENTS_UNDER_WAY_MAX + PAYMENTS_WAITING_MAX)),
        }
    }

    /// A place for one payment. None: too many wait already.
    pub(crate) fn seat(&self) -> Option<Seat> {
        let waiting = self.waiting.clone().try_acquire_owned().ok()?;
        Some(Seat { pool: self.clone(), _waiting: waiting })
    }

    /// A place for a payment that is under way already and must come to its end. None: the pool is closed.
    pub(crate) async fn wait_for_seat(&self) -> Option<Seat> {
        let waiting = self.waiting.clone().acquire_owned().await.ok()?;
        Some(Seat { pool: self.clone(), _waiting: waiting })
    }
}

impl Seat {
    /// Waits until a request may be sent to the provider; hold the answer while it is under way.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.pool.under_way.clone().acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_full_when_its_limits_say_so() {
        let pool = Pool::new();
        let seats: Vec<_> = std::iter::from_fn(|| pool.seat()).collect();
        assert_eq!(seats.len(), PAYMENTS_UNDER_WAY_MAX + PAYMENTS_WAITING_MAX);
        let mut turns = Vec::new();
        for seat in &seats[..PAYMENTS_UNDER_WAY_MAX] {
            turns.push(seat.turn().await.unwrap());
        }
        assert_eq!(pool.under_way.available_permits(), 0);
        drop(turns.pop());
        assert!(seats[PAYMENTS_UNDER_WAY_MAX].turn().await.is_some());
        drop(seats);
        assert!(pool.seat().is_some());
    }
}
