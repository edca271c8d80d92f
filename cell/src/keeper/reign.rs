//! A keeper's reign: it takes its bucket over, lets the stages work, and takes it over again when a store contradicts.
//!
//! Taking over: raise the epoch in Postgres, which waits for commits under way; read what the bucket holds in a new
//! snapshot; load Redis under the new epoch, opening it last. Whoever kept the bucket before is refused by both from
//! then on. The order of these steps is the [`super::protocol`]'s, and doing them is [`super::taking`]'s. The reign ends
//! when somebody else has raised the epoch, when the bucket is at rest, or when it is to be handed over.

use super::protocol::TakeOver;
use super::taking::{Failed, Later, take_over};
use super::{Keeper, Queues, handover, hold, lookup, settle, tick, transfer, waits};
use crate::admission;
use crate::inventory::{self, BucketKeys};
use proto::fault::{Fault, Reason};
use proto::limits::{BUCKET_CLOSED_RETRY_MS, RANK_BLOCK};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Between two tries to remove what older epochs have left.
const TIDY_AGAIN: Duration = Duration::from_secs(1);

/// One epoch of a reign, as its stages need it.
#[derive(Clone, Debug)]
pub(crate) struct Reign {
    pub(crate) epoch: i64,
    /// The run of Redis into which the bucket was loaded.
    pub(crate) run: Arc<str>,
    pub(crate) keys: BucketKeys,
    /// Ends the stages, each after the batch that it has under way.
    pub(crate) stop: CancellationToken,
    pub(super) hold_batch: i64,
    pub(super) settle_batch: i64,
    pub(crate) ranks: u64,
}

/// Why a stage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was told to.
    Stopped,
    /// What it knows is in doubt: take the bucket over again.
    Doubt,
    /// The bucket is at rest.
    Rest,
}

/// Keeps a bucket, beginning at `epoch`, until somebody else does, it is at rest, or the keeper is told to let it go.
pub(crate) async fn reign(keeper: Arc<Keeper>, mut queues: Queues, epoch: i64) {
    let end = keeper.letting_go();
    let mut at = TakeOver::new(epoch);
    let mut in_doubt_since = Instant::now();
    let mut rests = false;
    while !end.is_cancelled() {
        let taken = tokio::select! {
            taken = take_over(&keeper, &mut at, &end) => taken,
            never = keeper.waits.refuse_while_closed(&mut queues) => match never {},
        };
        let (reign, oldest) = match taken {
            Ok(taken) => taken,
            Err(Failed::Deposed) => break,
            Err(Failed::Later(later)) => {
                complain(&keeper, &at, &later);
                let (again_ms, _) = BUCKET_CLOSED_RETRY_MS;
                waits::refuse_all(&mut queues, &Fault::later(Reason::BucketMoving, again_ms));
                let pause = tokio::time::sleep(at.pause());
                tokio::select! { () = pause => continue, () = end.cancelled() => break }
            }
        };
        keeper.ports.metrics.took_over(in_doubt_since.elapsed());
        tracing::info!(sale = %keeper.place.sale, bucket = keeper.place.number, epoch = reign.epoch, took = ?in_doubt_since.elapsed(), "keeps the bucket");
        if oldest > 0 {
            let tidying = tidy(keeper.clone(), reign.clone(), oldest);
            keeper.ports.drain.spawn_call("tidy", tidying);
        }
        // What was asked of the epoch before is void: the book was read anew, and so was Redis.
        while queues.moves.try_recv().is_ok() {}
        keeper.waits.set_open(true);
        let ended = stages(&keeper, &mut queues, &reign).await;
        in_doubt_since = Instant::now();
        at = at.again();
        keeper.book().open = false;
        keeper.waits.set_open(false);
        rests = ended == End::Rest;
        if rests {
            come_to_rest(&keeper, &reign).await;
            break;
        }
    }
    keeper.ports.states.forget(&keeper.place.sale, keeper.place.number);
    keeper.ports.reports.leave(&keeper.place.sale, keeper.place.number);
    if !rests {
        handover::leave(&keeper, &mut queues, at.epoch).await;
    }
}

/// Says why a take-over must be tried again: the first time aloud, for it is tried often.
fn complain(keeper: &Keeper, at: &TakeOver, later: &Later) {
    keeper.ports.metrics.take_over_failed(later.kind);
    let (sale, bucket) = (&keeper.place.sale, keeper.place.number);
    let mut complained = keeper.complained.lock().unwrap_or_else(PoisonError::into_inner);
    if complained.replace(later.kind) == Some(later.kind) {
        tracing::debug!(%sale, bucket, epoch = at.epoch, why = later.why, "still cannot take over");
    } else {
        tracing::warn!(%sale, bucket, epoch = at.epoch, why = later.why, "cannot take over yet");
    }
}

async fn come_to_rest(keeper: &Keeper, reign: &Reign) {
    let place = &keeper.place;
    tracing::info!(sale = %place.sale, bucket = place.number, "the bucket is at rest");
    keeper.ports.archive.add(&place.sale, place.number, place.bucket);
    let inventory = keeper.ports.inventory(keeper);
    if let Err(error) = inventory::remove(inventory, &reign.run, &reign.keys).await {
        tracing::warn!(%error, "a bucket at rest still takes room in redis");
    }
}

/// Removes what earlier epochs have left in Redis, once the bucket serves again. What stays when this epoch ends first is
/// named in the record, for the next one.
async fn tidy(keeper: Arc<Keeper>, reign: Reign, oldest: i64) {
    loop {
        let inventory = keeper.ports.inventory(&keeper);
        let of = (&reign.keys, reign.epoch);
        match inventory::forget(inventory, &reign.run, of, oldest).await {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, oldest, "old epochs still take room in redis"),
        }
        tokio::select! {
            () = tokio::time::sleep(TIDY_AGAIN) => {}
            () = reign.stop.cancelled() => return,
        }
    }
}

/// Runs the stages until one of them ends, then lets the others finish their batch.
async fn stages(keeper: &Arc<Keeper>, queues: &mut Queues, reign: &Reign) -> End {
    crate::checkout::resume(keeper);
    crate::refund::resume(keeper);
    let stop = reign.stop.clone();
    let first = |end: End| {
        stop.cancel();
        end
    };
    let (joins, holds, moves, lookups) =
        (&mut queues.joins, &mut queues.holds, &mut queues.moves, &mut queues.lookups);
    let ends: [End; 6] = tokio::join!(
        async { first(admission::serve(keeper, joins, reign).await) },
        async { first(hold::serve(keeper, holds, reign).await) },
        async { first(settle::serve(keeper, moves, reign).await) },
        async { first(lookup::serve(keeper, lookups, reign).await) },
        async { first(transfer::serve(keeper, reign).await) },
        async { first(tick::serve(keeper, reign).await) },
    )
    .into();
    let told = |wanted: End| ends.contains(&wanted).then_some(wanted);
    told(End::Doubt).or_else(|| told(End::Rest)).unwrap_or(End::Stopped)
}

const _: () = assert!(RANK_BLOCK >= proto::limits::BATCH_CALLS_MAX as u64);
