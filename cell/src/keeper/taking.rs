//! Taking a bucket over: what the protocol says comes next is done to the stores, one step after the other.

use super::protocol::{Heard, LineNow, Memory, Step, TakeOver, line};
use super::shares::Shares;
use super::{Keeper, Reign};
use crate::failpoint::{self, Failpoint};
use crate::inventory::{self, BucketKeys, InventoryError, LineHint, LoadPlan};
use crate::ledger::{self, LedgerError, Loaded};
use proto::invariant::Invariant;
use std::sync::Arc;
use tokio::sync::SemaphorePermit;
use tokio_util::sync::CancellationToken;

/// Why a take-over did not succeed.
#[derive(Debug)]
pub(super) enum Failed {
    /// Somebody else keeps the bucket, or it is at rest.
    Deposed,
    /// A store would not, or what was read cannot be.
    Later(Later),
}

/// Why a take-over must be tried again.
#[derive(Debug)]
pub(super) struct Later {
    /// In a word, for the metric.
    pub(super) kind: &'static str,
    /// For people.
    pub(super) why: String,
}

/// What came of a step, or why it must be tried again.
type Did = Result<Heard, Later>;

impl From<InventoryError> for Later {
    fn from(error: InventoryError) -> Later {
        Later { kind: "redis", why: error.to_string() }
    }
}

impl From<LedgerError> for Later {
    fn from(error: LedgerError) -> Later {
        Later { kind: "postgres", why: error.to_string() }
    }
}

/// Goes on with a take-over until the bucket is kept. Returns the reign, and the oldest epoch of which keys may be left in
/// Redis (0 for none).
pub(super) async fn take_over(
    keeper: &Keeper,
    at: &mut TakeOver,
    end: &CancellationToken,
) -> Result<(Reign, i64), Failed> {
    let mut taking = Taking { keeper, run: None, turn: None, read: None };
    loop {
        let did = match at.step {
            Step::Kept => break,
            Step::Deposed => return Err(Failed::Deposed),
            Step::Reach => taking.reach().await,
            Step::Raise => taking.raise(at.epoch).await,
            Step::Find => taking.find().await,
            Step::Read => taking.read(at).await,
            Step::Close => taking.close(at).await,
            Step::Fill => taking.fill(at.epoch).await,
            Step::Open => taking.open(at.epoch).await,
        };
        match did {
            Ok(heard) => *at = at.heard(heard),
            Err(later) => {
                *at = at.heard(Heard::Failed);
                return Err(Failed::Later(later));
            }
        }
    }
    taking.reign(at.epoch, end).map_err(Failed::Later)
}

struct Taking<'a> {
    keeper: &'a Keeper,
    run: Option<Arc<str>>,
    /// Taken while others would starve if everybody took over at once.
    turn: Option<SemaphorePermit<'a>>,
    read: Option<Read>,
}

/// A bucket as it was read.
struct Read {
    loaded: Loaded,
    plan: LoadPlan,
    keys: BucketKeys,
    line: LineNow,
    oldest: i64,
}

impl Taking<'_> {
    async fn reach(&mut self) -> Did {
        let inventory = self.keeper.ports.inventory(self.keeper);
        self.run = Some(failpoint::reply(Failpoint::TakeOverRun, inventory.run()).await?);
        self.turn = self.keeper.ports.take_overs(self.keeper).acquire().await.ok();
        Ok(Heard::Done)
    }

    async fn raise(&mut self, epoch: i64) -> Did {
        let (place, ports) = (&self.keeper.place, &self.keeper.ports);
        let raised =
            ledger::take_over(ports.pool(self.keeper), place.bucket, epoch, &ports.process);
        let raised = failpoint::reply(Failpoint::TakeOverRaised, raised).await?;
        Ok(raised.map_or(Heard::Deposed, Heard::Epoch))
    }

    async fn find(&mut self) -> Did {
        let (place, ports) = (&self.keeper.place, &self.keeper.ports);
        let found = ledger::keeper_of(ports.pool(self.keeper), place.bucket).await?;
        // Where somebody else's name stands, raising it tells.
        let ours = found.filter(|(process, _)| **process == *ports.process);
        Ok(ours.map_or(Heard::Done, |(_, epoch)| Heard::Epoch(epoch)))
    }

    async fn read(&mut self, at: &TakeOver) -> Did {
        let (place, ports) = (&self.keeper.place, &self.keeper.ports);
        let pool = ports.pool(self.keeper);
        let record = self.keeper.book().terms.record.clone();
        ledger::set_sale(pool, place.bucket, &record).await?;
        let loaded = ledger::load(pool, place.bucket, at.epoch);
        let mut loaded = match failpoint::reply(Failpoint::TakeOverSnapshot, loaded).await {
            Err(LedgerError::Stale(_)) => return Ok(Heard::Deposed),
            loaded => loaded?,
        };
        let line = line(None, self.memory(), at.served, (loaded.cursor, loaded.ranks));
        loaded.given = Some(line.first);
        let keys = BucketKeys::new(&place.org, &place.sale, place.bucket.bucket, at.epoch);
        // It takes a while where orders are many, and others want this thread.
        let planned = tokio::task::spawn_blocking(move || {
            let shares = Shares::new(&loaded.shares);
            let plan = LoadPlan::new(&loaded, |unit| shares.index(unit));
            (loaded, plan)
        });
        let (loaded, plan) = planned.await.map_err(|error| left_out(&error.to_string()))?;
        // INV-2, on both sides: what Postgres counts free is what Redis will be given as free.
        let held: usize = loaded.holders.iter().map(|holder| holder.units.len()).sum();
        let free = i64::from(loaded.granted) - i64::try_from(held).unwrap_or(i64::MAX);
        if free != i64::from(plan.free_units()) {
            ports.metrics.broken(Invariant::Inv2);
            let why = format!("{free} units are free by count, {} by unit", plan.free_units());
            return Err(Later { kind: "counts", why });
        }
        self.read = Some(Read { loaded, plan, keys, line, oldest: 0 });
        Ok(Heard::Done)
    }

    async fn close(&mut self, at: &TakeOver) -> Did {
        let memory = self.memory().filter(|memory| memory.epoch == at.served);
        let hint =
            LineHint { served: at.served, answered: memory.map_or(0, |memory| memory.answered) };
        let inventory = self.keeper.ports.inventory(self.keeper);
        let (run, read) = self.known()?;
        let of = (&read.keys, at.epoch);
        let before = inventory::close(inventory, run, of, &read.plan, hint).await?;
        if before.given.is_some() {
            let gate = (read.loaded.cursor, read.loaded.ranks);
            read.line = line(before.given, memory, at.served, gate);
            read.loaded.given = Some(read.line.first);
        }
        read.oldest = before.oldest;
        Ok(Heard::Done)
    }

    async fn fill(&mut self, epoch: i64) -> Did {
        let inventory = self.keeper.ports.inventory(self.keeper);
        let (run, read) = self.known()?;
        inventory::fill(inventory, run, (&read.keys, epoch), &read.plan).await?;
        Ok(Heard::Done)
    }

    async fn open(&mut self, epoch: i64) -> Did {
        let inventory = self.keeper.ports.inventory(self.keeper);
        let (run, read) = self.known()?;
        inventory::open(inventory, run, (&read.keys, epoch)).await?;
        Ok(Heard::Done)
    }

    fn reign(mut self, epoch: i64, end: &CancellationToken) -> Result<(Reign, i64), Later> {
        let keeper = self.keeper;
        let (run, read) = self.known()?;
        keeper.book().load(&read.loaded, read.line.ghosts.clone());
        let reign = Reign {
            epoch,
            run: run.clone(),
            keys: read.keys.clone(),
            stop: end.child_token(),
            hold_batch: read.loaded.hold_batch,
            settle_batch: read.loaded.settle_batch,
            ranks: read.loaded.ranks,
        };
        Ok((reign, read.oldest))
    }

    fn memory(&self) -> Option<Memory> {
        self.keeper.book().memory()
    }

    fn known(&mut self) -> Result<(&Arc<str>, &mut Read), Later> {
        match (&self.run, &mut self.read) {
            (Some(run), Some(read)) => Ok((run, read)),
            _ => Err(left_out("a step was left out")),
        }
    }
}

fn left_out(why: &str) -> Later {
    Later { kind: "defect", why: why.into() }
}
