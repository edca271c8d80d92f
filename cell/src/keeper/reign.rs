//! A keeper's reign: it takes its bucket over, lets the stages work, and takes it over again when a store contradicts.
//!
//! Taking over: raise the epoch in Postgres, which waits for commits under way; read what the bucket holds in a new
//! snapshot; load Redis under the new epoch, opening it last. Whoever kept the bucket before is refused by both from
//! then on. The reign ends when somebody else has raised the epoch, when the bucket is at rest, or when the process does.

use super::{Keeper, Queues, hold, lookup, settle, sweep, tick};
use crate::admission;
use crate::failpoint::{self, Failpoint};
use crate::inventory::{self, BucketKeys, InventoryError, LoadPlan};
use crate::ledger::{self, LedgerError};
use proto::limits::RANK_BLOCK;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The pause between two attempts to take over.
const AGAIN: Duration = Duration::from_millis(50);

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

/// Why a take-over did not succeed.
enum Failed {
    /// Somebody else keeps the bucket.
    Deposed,
    /// A store does not answer.
    Later(String),
}

impl From<LedgerError> for Failed {
    fn from(error: LedgerError) -> Failed {
        match error {
            LedgerError::Stale(_) => Failed::Deposed,
            error => Failed::Later(error.to_string()),
        }
    }
}

impl From<InventoryError> for Failed {
    fn from(error: InventoryError) -> Failed {
        Failed::Later(error.to_string())
    }
}

/// Keeps a bucket, beginning at `epoch`, until somebody else does, it is at rest, or `end` is cancelled.
pub(crate) async fn reign(
    keeper: Arc<Keeper>,
    mut queues: Queues,
    mut epoch: i64,
    end: CancellationToken,
) {
    let mut in_doubt_since = Instant::now();
    while !end.is_cancelled() {
        let reign = match take_over(&keeper, epoch, &end).await {
            Ok(reign) => reign,
            Err(Failed::Deposed) => break,
            Err(Failed::Later(why)) => {
                tracing::warn!(sale = %keeper.place.sale, bucket = keeper.place.number, why, "cannot take over yet");
                refuse_waiting(&mut queues);
                // The epoch may have been raised before the answer was lost.
                epoch = raised_epoch(&keeper).await.unwrap_or(epoch);
                tokio::select! { () = tokio::time::sleep(AGAIN) => continue, () = end.cancelled() => break }
            }
        };
        epoch = reign.epoch;
        keeper.ports.metrics.took_over(in_doubt_since.elapsed());
        tracing::info!(sale = %keeper.place.sale, bucket = keeper.place.number, epoch, took = ?in_doubt_since.elapsed(), "keeps the bucket");
        drop_moves(&mut queues);
        let ended = stages(&keeper, &mut queues, &reign).await;
        in_doubt_since = Instant::now();
        keeper.book().open = false;
        if ended == End::Rest {
            tracing::info!(sale = %keeper.place.sale, bucket = keeper.place.number, "the bucket is at rest");
            let place = &keeper.place;
            keeper.ports.archive.add(&place.sale, place.number, place.bucket);
            let inventory = keeper.ports.inventory(&keeper);
            if let Err(error) = inventory::remove(inventory, &reign.run, &reign.keys).await {
                tracing::warn!(%error, "a bucket at rest still takes room in redis");
            }
            break;
        }
    }
    keeper.ports.states.forget(&keeper.place.sale, keeper.place.number);
}

async fn take_over(keeper: &Keeper, epoch: i64, end: &CancellationToken) -> Result<Reign, Failed> {
    let (place, ports) = (&keeper.place, &keeper.ports);
    let (pool, inventory) = (ports.pool(keeper), ports.inventory(keeper));
    // Redis first: while it is away there is no point in deposing anybody.
    let run = failpoint::reply(Failpoint::TakeOverRun, inventory.run()).await?;
    let raised = ledger::take_over(pool, place.bucket, epoch, &ports.process);
    let epoch = failpoint::reply(Failpoint::TakeOverRaised, raised).await?;
    let epoch = epoch.ok_or(Failed::Deposed)?;
    let record = keeper.book().terms.record.clone();
    ledger::set_sale(pool, place.bucket, &record).await?;
    let loaded = ledger::load(pool, place.bucket, epoch);
    let mut loaded = failpoint::reply(Failpoint::TakeOverSnapshot, loaded).await?;
    // Who kept the bucket until now knows which ranks were given out, unless Redis does.
    loaded.given = {
        let book = keeper.book();
        (book.epoch > 0).then_some(book.joined)
    };
    let keys = BucketKeys::new(&place.org, &place.sale, place.bucket.bucket, epoch);
    let plan = LoadPlan::new(&loaded, |unit| super::book::index_of(&loaded.shares, unit));
    let before = inventory::load(inventory, &run, &keys, &loaded, &plan).await?;
    loaded.given = before.given.or(loaded.given);
    if before.epoch > 0 {
        let old = BucketKeys::new(&place.org, &place.sale, place.bucket.bucket, before.epoch);
        inventory::forget(inventory, &run, &old).await?;
    }
    let free = {
        let mut book = keeper.book();
        book.load(&loaded);
        book.free()
    };
    // INV-2, on both sides: what Postgres counts free is what Redis was given as free.
    if free != plan.free_units() {
        ports.metrics.broken(proto::invariant::Invariant::Inv2);
        return Err(Failed::Later(format!(
            "{free} units are free by count, {} by unit",
            plan.free_units()
        )));
    }
    Ok(Reign {
        epoch,
        run,
        keys,
        stop: end.child_token(),
        hold_batch: loaded.hold_batch,
        settle_batch: loaded.settle_batch,
        ranks: loaded.ranks,
    })
}

async fn raised_epoch(keeper: &Keeper) -> Option<i64> {
    let ports = &keeper.ports;
    let epoch = ledger::epoch_under(ports.pool(keeper), keeper.place.bucket, &ports.process);
    epoch.await.ok()?
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
        async { first(sweep::serve(keeper, reign).await) },
        async { first(tick::serve(keeper, reign).await) },
    )
    .into();
    let told = |wanted: End| ends.contains(&wanted).then_some(wanted);
    told(End::Doubt).or_else(|| told(End::Rest)).unwrap_or(End::Stopped)
}

/// Buyers who wait are told to try again: nothing is known for sure at the moment.
fn refuse_waiting(queues: &mut Queues) {
    while queues.joins.try_recv().is_ok() {}
    while queues.holds.try_recv().is_ok() {}
    while queues.lookups.try_recv().is_ok() {}
    drop_moves(queues);
}

/// What was asked of the epoch before is void: the book was read anew, and so was Redis.
fn drop_moves(queues: &mut Queues) {
    while queues.moves.try_recv().is_ok() {}
}

const _: () = assert!(RANK_BLOCK >= proto::limits::BATCH_CALLS_MAX as u64);
