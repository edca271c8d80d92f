//! What this process keeps: its keepers by bucket, and what they all work with.

use super::{Elsewhere, Keeper};
use crate::archive::Archive;
use crate::inventory::Inventory;
use crate::line::Lines;
use crate::link::States;
use crate::metrics::CellMetrics;
use crate::payment::{Pool, Provider};
use crate::report::Reports;
use crate::time::CellTime;
use crate::transfer::News;
use crate::workers::Workers;
use arc_swap::ArcSwap;
use proto::limits::{BUCKETS_KEPT_MAX, SWEEPS_AT_ONCE_MAX, TAKE_OVERS_AT_ONCE_MAX};
use proto::ticket::TicketKey;
use runtime::drain::Drain;
use sqlx::PgPool;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// What the sales of one class have to themselves.
#[derive(Debug)]
pub(crate) struct ClassPorts {
    pub(crate) pool: PgPool,
    pub(crate) inventory: Inventory,
    pub(crate) provider: Provider,
    pub(crate) payments: Pool,
    pub(crate) workers: Workers,
    /// Places for those who sweep.
    pub(crate) sweepers: Semaphore,
    /// Buckets that may be taken over at the same time.
    pub(crate) take_overs: Semaphore,
}

impl ClassPorts {
    /// Nothing is under way.
    pub(crate) fn new(
        pool: PgPool,
        inventory: Inventory,
        provider: Provider,
        workers: Workers,
    ) -> ClassPorts {
        let sweepers = Semaphore::new(SWEEPS_AT_ONCE_MAX);
        let take_overs = Semaphore::new(TAKE_OVERS_AT_ONCE_MAX);
        let payments = Pool::new();
        ClassPorts { pool, inventory, provider, payments, workers, sweepers, take_overs }
    }
}

/// What keepers work with.
#[derive(Debug)]
pub(crate) struct Ports {
    /// This process's name within the cell.
    pub(crate) process: Box<str>,
    /// Calls in one batch at most.
    pub(crate) batch_calls_max: usize,
    pub(crate) time: CellTime,
    pub(crate) flash: ClassPorts,
    pub(crate) standard: ClassPorts,
    /// The live keys of tickets, the one that signs first.
    pub(crate) tickets: ArcSwap<Vec<TicketKey>>,
    pub(crate) states: States,
    /// Lines before other cells' lines.
    pub(crate) lines: Lines,
    /// Who keeps what this process does not.
    pub(crate) elsewhere: Elsewhere,
    pub(crate) reports: Reports,
    pub(crate) archive: Arc<Archive>,
    pub(crate) transfers: News,
    pub(crate) metrics: CellMetrics,
    pub(crate) drain: Drain,
    /// Cancelled when keepers are to stop.
    pub(crate) end: CancellationToken,
}

impl Ports {
    fn of(&self, keeper: &Keeper) -> &ClassPorts {
        if keeper.place.standard { &self.standard } else { &self.flash }
    }

    /// The connections to Postgres for a keeper's sale.
    pub(crate) fn pool(&self, keeper: &Keeper) -> &PgPool {
        &self.of(keeper).pool
    }

    /// The provider, by connections of a keeper's class.
    pub(crate) fn provider(&self, keeper: &Keeper) -> &Provider {
        &self.of(keeper).provider
    }

    /// The threads for a keeper's sale.
    pub(crate) fn workers(&self, keeper: &Keeper) -> &Handle {
        self.of(keeper).workers.handle()
    }

    /// The connection to Redis for a keeper's sale.
    pub(crate) fn inventory(&self, keeper: &Keeper) -> &Inventory {
        &self.of(keeper).inventory
    }

    /// The turns in which buckets of a keeper's class are taken over.
    pub(crate) fn take_overs(&self, keeper: &Keeper) -> &Semaphore {
        &self.of(keeper).take_overs
    }

    /// The places for sweeps of a keeper's class.
    pub(crate) fn sweepers(&self, keeper: &Keeper) -> &Semaphore {
        &self.of(keeper).sweepers
    }

    /// The payment pool for a keeper's sale.
    pub(crate) fn payments(&self, keeper: &Keeper) -> &Pool {
        &self.of(keeper).payments
    }
}

type BySale = HashMap<Box<str>, Vec<Arc<Keeper>>>;

/// The keepers of this process.
#[derive(Debug)]
pub(crate) struct Kept {
    ports: Arc<Ports>,
    keepers: ArcSwap<BySale>,
}

impl Kept {
    /// None yet.
    pub(crate) fn new(ports: Arc<Ports>) -> Arc<Kept> {
        Arc::new(Kept { ports, keepers: ArcSwap::default() })
    }

    /// What keepers work with.
    pub(crate) fn ports(&self) -> &Arc<Ports> {
        &self.ports
    }

    /// What routers are told.
    pub(crate) fn states(&self) -> &States {
        &self.ports.states
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &CellMetrics {
        &self.ports.metrics
    }

    /// The keeper of a bucket, if it is here.
    pub(crate) fn find(&self, sale: &str, bucket: u32) -> Option<Arc<Keeper>> {
        let keepers = self.keepers.load();
        keepers.get(sale)?.iter().find(|keeper| keeper.place.number == bucket).cloned()
    }

    /// All keepers.
    pub(crate) fn all(&self) -> Vec<Arc<Keeper>> {
        self.keepers.load().values().flatten().cloned().collect()
    }

    /// Whether nothing is kept here.
    pub(crate) fn is_empty(&self) -> bool {
        self.keepers.load().is_empty()
    }

    /// Adds a keeper. False: there are too many, or it is here already.
    pub(crate) fn add(&self, keeper: &Arc<Keeper>) -> bool {
        let mut added = false;
        self.keepers.rcu(|keepers| {
            let mut keepers = BySale::clone(keepers);
            let count: usize = keepers.values().map(Vec::len).sum();
            let of_sale = keepers.entry(keeper.place.sale.clone()).or_default();
            added = count < BUCKETS_KEPT_MAX
                && !of_sale.iter().any(|other| other.place.number == keeper.place.number);
            if added {
                of_sale.push(keeper.clone());
            }
            keepers
        });
        added
    }

    /// Removes a keeper.
    pub(crate) fn remove(&self, keeper: &Arc<Keeper>) {
        self.keepers.rcu(|keepers| {
            let mut keepers = BySale::clone(keepers);
            if let Some(of_sale) = keepers.get_mut(&keeper.place.sale) {
                of_sale.retain(|other| !Arc::ptr_eq(other, keeper));
                if of_sale.is_empty() {
                    keepers.remove(&keeper.place.sale);
                }
            }
            keepers
        });
    }
}
