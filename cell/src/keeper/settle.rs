//! The stage that moves orders on: a batch is committed by Postgres, known in the book, and then followed in Redis, so
//! that a unit is free only after the end of its order is written.
//!
//! Two work hand in hand, each on one batch at a time and in the same order: [`mod@commit`] writes the next batch while
//! [`follow`] tells Redis of the last one. What somebody asked for (a payment's step, a cancel, a grant to take back) takes
//! turns with what the sweep finds overdue, so that neither waits for more than one batch of the other.

mod commit;
mod follow;

use super::reign::End;
use super::{Keeper, Reign, sweep};
use crate::inventory::Settled;
use crate::ledger::Move;
use commit::Committer;
use follow::Follower;
use proto::fault::Fault;
use proto::limits::{BATCH_CALLS_MAX, FOLLOWS_WAITING_MAX};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{SemaphorePermit, mpsc, mpsc::Receiver, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// How often it is looked for what is overdue, when nothing was a moment ago.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// Something for this stage to do.
#[derive(Debug)]
pub(crate) enum MoveAsked {
    /// A move to commit, as the book of `epoch` suggests it.
    Move { step: Move, epoch: i64, reply: oneshot::Sender<Result<(), Fault>> },
    /// A grant that was never committed, to be taken back.
    Undone(Settled),
}

impl MoveAsked {
    /// A move that holds under `epoch` alone, and what comes of it: the receiver fails when that epoch ends first. The
    /// next one then finds in the ledger what there is to do. A refusal says that the order is not in the state, or not
    /// at the time, that the move needs; it does not say which, so nobody may conclude what will become of the order.
    pub(crate) fn new(step: Move, epoch: i64) -> (MoveAsked, oneshot::Receiver<Result<(), Fault>>) {
        let (reply, moved) = oneshot::channel();
        (MoveAsked::Move { step, epoch, reply }, moved)
    }

    /// A grant to take back.
    pub(crate) fn undone(settled: Settled) -> MoveAsked {
        MoveAsked::Undone(settled)
    }
}

type Reply = oneshot::Sender<Result<(), Fault>>;

/// What is to be done in one batch.
enum Work {
    /// What was asked for: moves, with those who wait for them, and grants to take back.
    Asked(Vec<(Move, Reply)>, Vec<Settled>),
    /// What the sweep found.
    Swept(Vec<Move>),
}

/// What was committed and Redis does not know yet.
#[derive(Default)]
struct Committed {
    follow: Vec<Settled>,
    /// Who is told that it is done.
    told: Vec<Reply>,
}

/// Works the queue off until it must end.
pub(super) async fn serve(
    keeper: &Arc<Keeper>,
    moves: &mut Receiver<MoveAsked>,
    reign: &Reign,
) -> End {
    // Either of the two stops both, each after the batch that it has under way.
    let stop = reign.stop.child_token();
    let (committed, follows) = mpsc::channel(FOLLOWS_WAITING_MAX);
    let ends = tokio::join!(
        commit(keeper, moves, reign, committed, &stop),
        Follower::new(keeper, reign).serve(follows, &stop),
    );
    match ends {
        (End::Doubt, _) | (_, End::Doubt) => End::Doubt,
        _ => End::Stopped,
    }
}

async fn commit(
    keeper: &Arc<Keeper>,
    moves: &mut Receiver<MoveAsked>,
    reign: &Reign,
    committed: mpsc::Sender<Committed>,
    stop: &CancellationToken,
) -> End {
    let mut committer = Committer::new(keeper, reign);
    let mut desk = Desk::new(keeper, reign.epoch);
    loop {
        let next = async {
            // First a place behind the batch that Redis follows, so that Postgres is never two ahead.
            let place = committed.reserve().await.ok()?;
            Some((place, desk.next(moves).await?))
        };
        let (place, work) = tokio::select! {
            biased;
            () = stop.cancelled() => return End::Stopped,
            next = next => match next { Some(next) => next, None => return End::Stopped },
        };
        let began = Instant::now();
        match committer.run(work).await {
            Ok(batch) => place.send(batch),
            Err(end) => return end,
        }
        desk.did(began.elapsed());
    }
}

/// Where what is to be done waits.
struct Desk<'a> {
    keeper: &'a Keeper,
    epoch: i64,
    asked: VecDeque<MoveAsked>,
    /// Whether the last batch was of what had been asked for.
    asked_last: bool,
    /// This bucket's place among those that sweep, from its batch on to the end of the rest after it.
    place: Option<SemaphorePermit<'a>>,
    rest_until: Instant,
    tick: Interval,
}

impl<'a> Desk<'a> {
    fn new(keeper: &'a Keeper, epoch: i64) -> Desk<'a> {
        let mut tick = tokio::time::interval(SWEEP_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let asked = VecDeque::with_capacity(BATCH_CALLS_MAX);
        let rest_until = Instant::now();
        Desk { keeper, epoch, asked, asked_last: false, place: None, rest_until, tick }
    }

    /// Waits for the next batch. None: nobody can ask any more.
    async fn next(&mut self, moves: &mut Receiver<MoveAsked>) -> Option<Work> {
        let sweepers = self.keeper.ports.sweepers(self.keeper);
        let most = self.keeper.ports.batch_calls_max;
        loop {
            while self.asked.len() < most
                && let Ok(asked) = moves.try_recv()
            {
                self.asked.push_back(asked);
            }
            if Instant::now() >= self.rest_until {
                self.place = None;
            }
            let (is_asked, rests) = (!self.asked.is_empty(), self.place.is_some());
            let is_due = !rests && !sweep::due(self.keeper, 1).is_empty();
            if asked_first(is_asked, is_due, self.asked_last) {
                return Some(self.asked());
            }
            tokio::select! {
                biased;
                Ok(permit) = sweepers.acquire(), if is_due => {
                    (self.asked_last, self.place) = (false, Some(permit));
                    return Some(Work::Swept(sweep::due(self.keeper, sweep::slice(self.keeper, most))));
                }
                // Others sweep at the moment, so it is their turn after all.
                () = std::future::ready(()), if is_asked => return Some(self.asked()),
                asked = moves.recv() => self.asked.push_back(asked?),
                () = tokio::time::sleep_until(self.rest_until), if rests => {}
                _ = self.tick.tick(), if !is_due && !rests => {}
            }
        }
    }

    /// The last batch took `took`.
    fn did(&mut self, took: Duration) {
        if self.place.is_some() && !self.asked_last {
            self.rest_until = Instant::now() + sweep::rest_after(self.keeper, took);
        }
    }

    fn asked(&mut self) -> Work {
        self.asked_last = true;
        let (steps, undone) = next_batch(&mut self.asked, self.epoch);
        Work::Asked(steps, undone)
    }
}

/// Whether what was asked for goes before what is due. Only when it did so last time is it the sweep's turn, so that
/// neither waits for more than one batch of the other.
fn asked_first(is_asked: bool, is_due: bool, asked_last: bool) -> bool {
    is_asked && !(is_due && asked_last)
}

/// A batch in which every order stands once; a second move of an order waits for the next one. What an earlier epoch
/// asked for is dropped.
fn next_batch(waiting: &mut VecDeque<MoveAsked>, now: i64) -> (Vec<(Move, Reply)>, Vec<Settled>) {
    let (mut steps, mut undone, mut again) = (Vec::new(), Vec::new(), VecDeque::new());
    let mut orders = HashSet::new();
    for asked in waiting.drain(..) {
        match asked {
            MoveAsked::Undone(settled) => undone.push(settled),
            MoveAsked::Move { epoch, .. } if epoch != now => {}
            MoveAsked::Move { step, reply, .. } if orders.insert(step.order) => {
                steps.push((step, reply))
            }
            asked @ MoveAsked::Move { .. } => again.push_back(asked),
        }
    }
    *waiting = again;
    (steps, undone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::id::OrderId;
    use proto::wire::events::ledger_entry::Kind;

    #[test]
    fn payments_and_cancels_stand_behind_one_batch_of_the_sweep_at_most() {
        let (mut asked, mut swept, mut last) = (0, 0, false);
        let mut served = String::new();
        // Fifty cancels' batches come while there are a hundred batches to sweep.
        while swept < 100 {
            last = asked_first(asked < 50, true, last);
            served.push(if last { 'a' } else { 's' });
            (asked, swept) = (asked + i32::from(last), swept + i32::from(!last));
        }
        assert_eq!(served, format!("{}{}", "as".repeat(50), "s".repeat(50)));
        assert!(asked_first(true, false, true), "nothing is due");
        assert!(!asked_first(false, false, false), "nothing is asked");
    }

    #[test]
    fn an_order_stands_in_a_batch_once_and_earlier_epochs_are_void() {
        let ask = |order, kind, epoch| {
            MoveAsked::new(Move::plain(OrderId([order; 16]), kind, Vec::new()), epoch).0
        };
        let mut waiting = VecDeque::from([
            ask(1, Kind::Paying, 7),
            ask(2, Kind::Cancelled, 6),
            ask(1, Kind::Paid, 7),
            ask(3, Kind::Cancelled, 7),
        ]);
        let mut batch = || {
            let (steps, _) = next_batch(&mut waiting, 7);
            let kinds = steps.iter().map(|(step, _)| (step.order.0[0], step.kind));
            kinds.collect::<Vec<_>>()
        };
        assert_eq!(batch(), [(1, Kind::Paying), (3, Kind::Cancelled)]);
        assert_eq!(batch(), [(1, Kind::Paid)]);
        assert_eq!(batch(), []);
    }
}
