//! The bulkhead: how many payments of a class are under way, and how many wait; and each org's part of both.
//!
//! No org takes a place unless enough is left for others, so that one whose provider hangs leaves room for those whose
//! does not; and those who wait get their turns org by org, so that nobody waits behind another org's line.

use proto::limits::{ORG_ROOM_TIMES, PAYMENTS_UNDER_WAY_MAX, PAYMENTS_WAITING_MAX};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// The payments of one class in this process.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    seats: Arc<Semaphore>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Turns that nobody has.
    free: usize,
    /// The orgs that have a seat, by their alias.
    orgs: HashMap<i32, Part>,
    /// Orgs that wait for a turn, the next one in front.
    line: VecDeque<i32>,
}

/// What an org has of the pool.
#[derive(Debug, Default)]
struct Part {
    seats: usize,
    under_way: usize,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// A place in the pool, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pool: Pool,
    org: i32,
    _seat: OwnedSemaphorePermit,
}

/// The right to send a request to the provider, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    pool: Pool,
    org: i32,
}

impl Pool {
    /// An empty pool.
    pub(crate) fn new() -> Pool {
        let inner =
            Inner { free: PAYMENTS_UNDER_WAY_MAX, orgs: HashMap::new(), line: VecDeque::new() };
        let seats = Arc::new(Semaphore::new(PAYMENTS_UNDER_WAY_MAX + PAYMENTS_WAITING_MAX));
        Pool(Arc::new(Shared { seats, inner: Mutex::new(inner) }))
    }

    /// A place for one payment of an org. None: too many wait already.
    pub(crate) fn seat(&self, org: i32) -> Option<Seat> {
        let room = self.0.seats.available_permits();
        let has = self.lock().orgs.get(&org).map_or(0, |part| part.seats);
        if !has_room(has, room) {
            return None;
        }
        let seat = self.0.seats.clone().try_acquire_owned().ok()?;
        Some(self.seated(org, seat))
    }

    /// A place for a payment that is under way already and must come to its end. None: the pool is closed.
    pub(crate) async fn wait_for_seat(&self, org: i32) -> Option<Seat> {
        let seat = self.0.seats.clone().acquire_owned().await.ok()?;
        Some(self.seated(org, seat))
    }

    fn seated(&self, org: i32, seat: OwnedSemaphorePermit) -> Seat {
        self.lock().orgs.entry(org).or_default().seats += 1;
        Seat { pool: self.clone(), org, _seat: seat }
    }

    /// Gives turns to those who wait and may have one. Those that nobody waits for any more are returned: to drop them
    /// takes the lock.
    fn serve(&self, inner: &mut Inner) -> Vec<Turn> {
        let (mut unwanted, mut passed) = (Vec::new(), 0);
        while passed < inner.line.len() {
            let Some(org) = inner.line.pop_front() else { break };
            let Some(part) = inner.orgs.get_mut(&org) else { continue };
            if !has_room(part.under_way, inner.free) {
                inner.line.push_back(org);
                passed += 1;
                continue;
            }
            let Some(next) = part.waiting.pop_front() else { continue };
            (part.under_way, inner.free, passed) = (part.under_way + 1, inner.free - 1, 0);
            unwanted.extend(next.send(Turn { pool: self.clone(), org }).err());
            if !part.waiting.is_empty() {
                inner.line.push_back(org);
            }
        }
        unwanted
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget_if_gone(&mut self, org: i32) {
        let gone = |part: &Part| part.seats == 0 && part.under_way == 0 && part.waiting.is_empty();
        if self.orgs.get(&org).is_some_and(gone) {
            self.orgs.remove(&org);
        }
    }
}

/// Whether an org that has so many places may have one more, when so many are left.
fn has_room(has: usize, room: usize) -> bool {
    has < room * ORG_ROOM_TIMES
}

impl Seat {
    /// Waits until a request may be sent to the provider; hold the answer while it is under way.
    pub(crate) async fn turn(&self) -> Option<Turn> {
        let given = {
            let mut inner = self.pool.lock();
            let free = inner.free;
            let part = inner.orgs.entry(self.org).or_default();
            // Whoever waits may have no turn now: else they would have been given one.
            if part.waiting.is_empty() && has_room(part.under_way, free) {
                part.under_way += 1;
                inner.free -= 1;
                drop(inner);
                return Some(Turn { pool: self.pool.clone(), org: self.org });
            }
            let (give, given) = oneshot::channel();
            part.waiting.push_back(give);
            if part.waiting.len() == 1 {
                inner.line.push_back(self.org);
            }
            given
        };
        given.await.ok()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inner = self.pool.lock();
        if let Some(part) = inner.orgs.get_mut(&self.org) {
            part.seats -= 1;
        }
        inner.forget_if_gone(self.org);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let unwanted = {
            let mut inner = self.pool.lock();
            inner.free += 1;
            if let Some(part) = inner.orgs.get_mut(&self.org) {
                part.under_way -= 1;
            }
            let unwanted = self.pool.serve(&mut inner);
            inner.forget_if_gone(self.org);
            unwanted
        };
        drop(unwanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    const SEATS: usize = PAYMENTS_UNDER_WAY_MAX + PAYMENTS_WAITING_MAX;

    fn now<T>(future: impl Future<Output = Option<T>>) -> Option<T> {
        future.now_or_never().flatten()
    }

    #[test]
    fn it_is_full_when_its_limits_say_so_and_one_org_leaves_room() {
        let pool = Pool::new();
        let seats: Vec<_> = std::iter::from_fn(|| pool.seat(1)).collect();
        assert_eq!(seats.len(), (SEATS * 8).div_ceil(9), "eight ninths");
        let turns: Vec<_> = seats.iter().map_while(|seat| now(seat.turn())).collect();
        assert_eq!(turns.len(), (PAYMENTS_UNDER_WAY_MAX * 8).div_ceil(9));
        let other = pool.seat(2).unwrap();
        assert!(now(other.turn()).is_some(), "another org pays meanwhile");
        let mut rest = Vec::new();
        while let Some(seat) = now(pool.wait_for_seat(1)) {
            rest.push(seat);
        }
        assert_eq!(seats.len() + rest.len() + 1, SEATS);
        drop((seats, rest, turns));
        assert!(pool.seat(1).is_some() && now(other.turn()).is_some());
    }

    #[test]
    fn nobody_waits_behind_another_orgs_line() {
        let pool = Pool::new();
        let seats: Vec<_> = (0..200).map(|_| pool.seat(1).unwrap()).collect();
        let mut turns: VecDeque<_> = seats.iter().map_while(|seat| now(seat.turn())).collect();
        // Others take what is left, so that all must wait.
        let others: Vec<_> = (10..20).map(|org| pool.seat(org).unwrap()).collect();
        let taken: Vec<_> = others.iter().filter_map(|seat| now(seat.turn())).collect();
        let mut long: Vec<_> = seats[100..].iter().map(|seat| Box::pin(seat.turn())).collect();
        assert!(long.iter_mut().all(|turn| turn.as_mut().now_or_never().is_none()));
        let late = pool.seat(2).unwrap();
        let mut late_turn = Box::pin(late.turn());
        assert!(late_turn.as_mut().now_or_never().is_none());
        turns.pop_front();
        assert!(late_turn.now_or_never().flatten().is_some(), "the first turn that is free");
        drop(taken);
        let served: Vec<_> =
            long.iter_mut().filter_map(|turn| turn.as_mut().now_or_never().flatten()).collect();
        assert!(served.len() <= 2, "who has eight ninths gets no more: {}", served.len());
    }

    #[test]
    fn every_turn_comes_back_whoever_goes_away() {
        let seed = rand::random();
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let pool = Pool::new();
        let seats: Vec<_> = (0..300).map(|number| pool.seat(number % 4).unwrap()).collect();
        let (mut waiting, mut turns) = (Vec::new(), Vec::new());
        for _ in 0..3_000 {
            match rng.random_range(0..4) {
                0 | 1 => {
                    let seat = &seats[rng.random_range(0..seats.len())];
                    let mut turn = Box::pin(seat.turn());
                    match turn.as_mut().now_or_never() {
                        Some(turn) => turns.push(turn.unwrap()),
                        None => waiting.push(turn),
                    }
                }
                2 if !turns.is_empty() => drop(turns.swap_remove(rng.random_range(0..turns.len()))),
                _ if !waiting.is_empty() => {
                    let mut one = waiting.swap_remove(rng.random_range(0..waiting.len()));
                    match one.as_mut().now_or_never() {
                        Some(turn) => turns.push(turn.unwrap()),
                        // Given up, perhaps while a turn is on its way.
                        None => drop(one),
                    }
                }
                _ => {}
            }
            assert!(turns.len() <= PAYMENTS_UNDER_WAY_MAX);
        }
        drop((waiting, turns));
        drop(seats);
        let inner = pool.lock();
        assert_eq!((inner.free, inner.orgs.len()), (PAYMENTS_UNDER_WAY_MAX, 0), "{inner:?}");
    }
}
