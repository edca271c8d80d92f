//! A keeper: the one process that drives a bucket. It alone calls the bucket's functions and commits for it.
//!
//! A call passes through here: [`Keeper::take`] puts it into the queue of its stage, and the stages (`admission`,
//! [`hold`], [`settle`], [`lookup`]) work their queues off in batches, one under way a stage. What the stages share is
//! the [`book`]: what this keeper has committed and therefore knows. [`mod@reign`] takes the bucket over, runs the stages,
//! takes it over again when either store says that something else is true, and in the end hands it over. What follows
//! from what a store says is decided in [`protocol`], purely. [`waits`] knows what would only wait.
//!
//! Promises: nothing is answered that is not committed; a keeper that was deposed writes nothing any more (INV-8).

mod book;
mod due;
mod elsewhere;
mod handover;
mod hold;
mod kept;
mod lookup;
pub(crate) mod protocol;
mod reign;
mod settle;
mod shares;
mod sweep;
mod take;
mod taking;
mod terms;
mod tick;
mod transfer;
mod waits;

pub(crate) use book::{Attempt, AttemptEnd, Book, Live};
pub(crate) use elsewhere::Elsewhere;
pub(crate) use kept::{ClassPorts, Kept, Ports};
pub(crate) use lookup::look_up;
pub(crate) use reign::{End, Reign, reign};
pub(crate) use settle::MoveAsked;
pub(crate) use terms::SaleTerms;
pub(crate) use waits::{Need, Stage, Waits};

use crate::ledger::{self, BucketRef, LedgerError};
use crate::link::Reply;
use proto::id::{BuyerKey, OrderId};
use proto::limits::STAGE_CALLS_WAITING_MAX;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc};

/// Which bucket.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) bucket: BucketRef,
    pub(crate) org: Box<str>,
    pub(crate) sale: Box<str>,
    /// The bucket's number within the sale.
    pub(crate) number: u32,
    /// Everyday commerce: it has stores' connections and a payment pool apart from flash sales'.
    pub(crate) standard: bool,
}

/// A buyer who joins.
#[derive(Debug)]
pub(crate) struct JoinAsked {
    pub(crate) buyer: BuyerKey,
    pub(crate) reply: Reply,
}

/// A hold that a valid ticket asks for.
#[derive(Debug)]
pub(crate) struct HoldAsked {
    pub(crate) buyer: BuyerKey,
    pub(crate) order: OrderId,
    pub(crate) rank: u64,
    pub(crate) quantity: u32,
    pub(crate) reply: Reply,
}

/// Something asked of an order that is not live.
#[derive(Debug)]
pub(crate) struct LookupAsked {
    pub(crate) buyer: BuyerKey,
    pub(crate) order: OrderId,
    pub(crate) why: Why,
    pub(crate) reply: Reply,
}

/// Why an order that is not live is looked for.
#[derive(Clone, Debug)]
pub(crate) enum Why {
    /// To show it.
    Show,
    /// To cancel it.
    Cancel,
    /// To pay it.
    Checkout,
    /// A request was repeated, or its ticket is of no use any more: if its order is not there, this is the refusal.
    Repeat { quantity: u32, otherwise: proto::fault::Fault },
}

/// A bucket that this process keeps. Its stages share it.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) place: Place,
    pub(crate) ports: Arc<Ports>,
    joins: mpsc::Sender<JoinAsked>,
    holds: mpsc::Sender<HoldAsked>,
    moves: mpsc::Sender<MoveAsked>,
    lookups: mpsc::Sender<LookupAsked>,
    book: Mutex<Book>,
    pub(crate) waits: Waits,
    doubted: Notify,
    let_go: handover::LetGo,
    /// What stood in the way of taking the bucket over when that was last complained of.
    complained: Mutex<Option<&'static str>>,
}

/// The other ends of a keeper's queues.
#[derive(Debug)]
pub(crate) struct Queues {
    pub(crate) joins: mpsc::Receiver<JoinAsked>,
    pub(crate) holds: mpsc::Receiver<HoldAsked>,
    pub(crate) moves: mpsc::Receiver<MoveAsked>,
    pub(crate) lookups: mpsc::Receiver<LookupAsked>,
}

impl Keeper {
    /// A keeper that has not taken its bucket over yet.
    pub(crate) fn new(place: Place, terms: SaleTerms, ports: Arc<Ports>) -> (Arc<Keeper>, Queues) {
        let (joins, joins_out) = mpsc::channel(STAGE_CALLS_WAITING_MAX);
        let (holds, holds_out) = mpsc::channel(STAGE_CALLS_WAITING_MAX);
        let (moves, moves_out) = mpsc::channel(STAGE_CALLS_WAITING_MAX);
        let (lookups, lookups_out) = mpsc::channel(STAGE_CALLS_WAITING_MAX);
        let book = Mutex::new(Book::closed(terms));
        let (waits, doubted) = (Waits::new(), Notify::new());
        let (let_go, complained) = (handover::LetGo::default(), Mutex::default());
        let keeper = Keeper {
            place,
            ports,
            joins,
            holds,
            moves,
            lookups,
            book,
            waits,
            doubted,
            let_go,
            complained,
        };
        let queues =
            Queues { joins: joins_out, holds: holds_out, moves: moves_out, lookups: lookups_out };
        (Arc::new(keeper), queues)
    }

    /// What this keeper knows. Never held over an await.
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has this keeper make sure that the bucket is still its own.
    pub(crate) fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Runs what is done on behalf of one caller on the threads of this keeper's class.
    pub(crate) fn spawn_call<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.ports.drain.spawn_call_on(self.ports.workers(self), name, task);
    }

    /// Whether it keeps its bucket under `epoch`, as far as it knows.
    pub(crate) fn is_under(&self, epoch: i64) -> bool {
        let book = self.book();
        book.open && book.epoch == epoch
    }

    /// Looks at Postgres' clock now: microseconds since 1970.
    pub(crate) async fn look_at_clock(&self) -> Result<i64, LedgerError> {
        let asked = self.ports.time.ask();
        let now_us = ledger::now_us(self.ports.pool(self)).await?;
        self.ports.time.saw(asked, now_us);
        Ok(now_us)
    }

    /// Postgres' clock in microseconds since 1970; none while nobody has seen it, so that nothing is due.
    pub(crate) fn now_us(&self) -> Option<i64> {
        self.ports.time.now_us()
    }
}
