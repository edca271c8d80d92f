//! Moves things along by itself: cells that are seen are written down, sales are warmed, made warm, and settled; while they
//! sell, units are sent to where buyers are.
//!
//! Every instance runs one; only the leader's does anything. Leadership is a hint kept by a lease: what counts is that
//! every write compares the leader's key and the revision of what it was decided on, so a deposed leader can do nothing,
//! and a step done twice is done once. The work is level-triggered: each pass looks at everything unfinished, from memory
//! ([`runtime::decisions`]), after each change in etcd and once a second. Nothing here is needed by a sale that is warm.

mod leader;
mod moves;

use std::collections::BTreeSet;
use std::time::Duration;

use prost::Message;
use proto::id::CellId;
use proto::keys;
use proto::wire::cell::sale_record::State;
use proto::wire::cell::{BucketReport, CellRecord, OrgRecord, SaleRecord, TicketKey};
use runtime::clock::Clock;
use runtime::decisions::{Decisions, DecisionsOptions, Prefix, Snapshot};
use runtime::drain::Drain;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::{self, Step};
use crate::metrics::Metrics;
use crate::plan;
use crate::store::{Fence, Kept, Store, StoreError, cells_of, unfinished_prefix};
use leader::Leadership;
use moves::Memory;

/// Time between two looks at whether somebody leads, and between two passes of a leader when nothing changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Changes that come this close together are looked at in one pass.
const GATHER: Duration = Duration::from_millis(20);
/// Bytes of a ticket key's secret.
const SECRET_BYTES: usize = 32;
/// Random bytes in a ticket key's name.
const KID_BYTES: usize = 4;

/// The executor of one instance.
#[derive(Debug)]
pub(crate) struct Executor {
    /// Where decisions lie.
    pub(crate) store: Store,
    /// The same, followed in memory; see [`followed`].
    pub(crate) decisions: Decisions,
    /// When sales are due.
    pub(crate) clock: Clock,
    /// What was done.
    pub(crate) metrics: Metrics,
    /// Milliseconds before a sale's start at which its cells get ready.
    pub(crate) warm_lead_ms: u64,
    /// Units above which a sale gets another bucket.
    pub(crate) bucket_units_max: u32,
}

/// What the executor must see of etcd: small things whole again and again, the many page by page. Reports of sales that
/// have units to move are heeded besides: see [`Memory::end_pass`].
pub(crate) fn followed(endpoints: Vec<String>) -> DecisionsOptions {
    let hot = [keys::CELLS, keys::PROCESSES, keys::TRANSFERS].map(str::to_owned);
    let hot = hot.into_iter().chain([unfinished_prefix()]);
    let cold = [keys::ORGS, keys::SALES, keys::REPORTS];
    DecisionsOptions::new(
        endpoints,
        hot.map(Prefix::hot).chain(cold.into_iter().map(Prefix::cold)).collect(),
    )
}

impl Executor {
    /// Runs until the drain begins: leads when nobody else does.
    pub(crate) async fn run(self, drain: Drain) {
        let end = drain.token();
        while !end.is_cancelled() {
            match Leadership::take(&self.store).await {
                Ok(Some(leadership)) => self.lead(leadership, &end).await,
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "cannot see who leads"),
            }
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                () = end.cancelled() => {}
            }
        }
    }

    async fn lead(&self, mut leadership: Leadership, end: &CancellationToken) {
        let fence = leadership.fence();
        tracing::info!(term = fence.create_revision, "leading");
        self.metrics.leader.set(1);
        tokio::select! {
            lost = leadership.renew(&self.store) => {
                tracing::warn!(term = fence.create_revision, %lost, "leading no more");
            }
            () = self.work(fence) => {}
            () = end.cancelled() => leadership.resign(&self.store).await,
        }
        self.metrics.leader.set(0);
    }

    async fn work(&self, fence: Fence) {
        let mut changed = self.decisions.changed();
        let mut memory = Memory::new(fence);
        loop {
            changed.mark_unchanged();
            let snapshot = self.decisions.snapshot();
            if let Err(error) = self.pass(fence, &mut memory, &snapshot).await {
                tracing::warn!(%error, "a pass over all sales broke off");
                sleep(LOOK_EVERY).await;
            }
            tokio::select! {
                _ = changed.changed() => sleep(GATHER).await,
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Does all that is due, as far as the snapshot shows.
    async fn pass(
        &self,
        fence: Fence,
        memory: &mut Memory,
        snapshot: &Snapshot,
    ) -> Result<(), StoreError> {
        for cell in unknown_cells(snapshot) {
            let Some(record) = new_cell(&cell, self.clock.now_ms()) else { continue };
            if done(self.store.create_cell(&record, fence).await)? {
                tracing::info!(%cell, "a cell is seen for the first time");
                self.metrics.step("cell");
            }
        }
        let mut late = 0;
        let prefix = unfinished_prefix();
        for (key, _) in snapshot.prefix(&prefix) {
            let Some((_, id)) = key.rsplit_once('/') else { continue };
            let Some(sale) = read_sale(snapshot, id) else { continue };
            late += i64::from(is_late(&sale.value, self.clock.now_ms()));
            self.look_at(fence, memory, snapshot, sale).await?;
        }
        self.decisions.heed(memory.end_pass());
        self.metrics.late.set(late);
        Ok(())
    }

    /// Does what is due for one sale.
    async fn look_at(
        &self,
        fence: Fence,
        memory: &mut Memory,
        snapshot: &Snapshot,
        sale: Kept<SaleRecord>,
    ) -> Result<(), StoreError> {
        let shown = memory.is_shown(snapshot, &sale.value.sale);
        if !shown {
            memory.goes_on(&sale.value.sale);
        }
        let transfers = moves::of_sale(snapshot, &sale.value.sale);
        if shown && self.finish(fence, memory, &sale, &transfers).await? {
            return Ok(());
        }
        let reports = reports(snapshot, &sale.value);
        let now_ms = self.clock.now_ms();
        let lead_ms = self.warm_lead_ms;
        let on_their_way = !shown || !transfers.is_empty();
        match lifecycle::due(&sale.value, &reports, on_their_way, now_ms, lead_ms) {
            Some(step) => self.advance(fence, snapshot, sale, &reports, step).await,
            None if !shown => Ok(()),
            None => self.ask(fence, memory, snapshot, &sale, &reports, &transfers).await,
        }
    }

    async fn advance(
        &self,
        fence: Fence,
        snapshot: &Snapshot,
        sale: Kept<SaleRecord>,
        reports: &[BucketReport],
        step: Step,
    ) -> Result<(), StoreError> {
        let Kept { value: mut sale, revision } = sale;
        let label = match step {
            Step::Plan => {
                let cells = org_cells(snapshot, &sale.org);
                sale.buckets = plan::buckets(&sale, &cells, self.bucket_units_max);
                if sale.buckets.is_empty() {
                    tracing::error!(
                        org = sale.org,
                        sale = sale.sale,
                        "the sale's org has no cells"
                    );
                    return Ok(());
                }
                sale.set_state(State::Warming);
                "plan"
            }
            Step::Warm => {
                sale.set_state(State::Warm);
                "warm"
            }
            Step::Settle { sold } => {
                sale.sold = sold;
                sale.set_state(State::Settled);
                self.metrics.check_sold(&sale);
                self.metrics.check_granted(&sale, reports);
                "settle"
            }
        };
        crate::sale::touch(&mut sale, self.clock.now_ms());
        if done(self.store.replace_sale(&sale, revision, Some(fence)).await)? {
            tracing::info!(org = sale.org, sale = sale.sale, step = label, "a sale moves on");
            self.metrics.step(label);
        }
        Ok(())
    }
}

/// Whether a write was done; one that lost a race is looked at again in the next pass.
fn done(written: Result<i64, StoreError>) -> Result<bool, StoreError> {
    match written {
        Ok(_) => Ok(true),
        Err(StoreError::Conflict) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the sale should sell by now and cannot.
fn is_late(sale: &SaleRecord, now_ms: u64) -> bool {
    let waits = matches!(sale.state(), State::Scheduled | State::Warming);
    waits && sale.start_ms <= now_ms && now_ms < sale.end_ms
}

/// Cells of which a process lives and nothing is written.
fn unknown_cells(snapshot: &Snapshot) -> BTreeSet<CellId> {
    let names = snapshot.prefix(keys::PROCESSES).filter_map(|(key, _)| {
        let (cell, _) = key.strip_prefix(keys::PROCESSES)?.split_once('/')?;
        cell.parse::<CellId>().ok()
    });
    names.filter(|cell| snapshot.get(&keys::cell(cell)).is_none()).collect()
}

fn new_cell(cell: &CellId, now_ms: u64) -> Option<CellRecord> {
    let key = || {
        let kid: [u8; KID_BYTES] = crate::api::random().ok()?;
        let secret: [u8; SECRET_BYTES] = crate::api::random().ok()?;
        Some(TicketKey { kid: proto::id::hex(&kid), secret: secret.to_vec() })
    };
    let ticket_keys = vec![key()?, key()?];
    Some(CellRecord { cell: cell.to_string(), ticket_keys, create_ms: now_ms, overflow: false })
}

fn read_sale(snapshot: &Snapshot, id: &str) -> Option<Kept<SaleRecord>> {
    let (value, revision) = read::<SaleRecord>(snapshot, &format!("{}{id}", keys::SALES))?;
    Some(Kept { value, revision })
}

fn org_cells(snapshot: &Snapshot, org: &str) -> Vec<CellId> {
    let org = read::<OrgRecord>(snapshot, &format!("{}{org}", keys::ORGS));
    org.map(|(org, _)| cells_of(&org)).unwrap_or_default()
}

/// What keepers say of a sale's buckets: the number in the key counts, one report a bucket.
fn reports(snapshot: &Snapshot, sale: &SaleRecord) -> Vec<BucketReport> {
    let buckets = (0_u32..).zip(&sale.buckets).map(|(bucket, _)| bucket);
    let report = |bucket| {
        let (report, _) = read::<BucketReport>(snapshot, &keys::report(&sale.sale, bucket))?;
        Some(BucketReport { bucket, ..report })
    };
    buckets.filter_map(report).collect()
}

fn read<T: Message + Default>(snapshot: &Snapshot, key: &str) -> Option<(T, i64)> {
    let entry = snapshot.get(key)?;
    match T::decode(entry.value.as_ref()) {
        Ok(value) => Some((value, entry.mod_revision)),
        Err(_) => {
            tracing::error!(key, "a value in etcd cannot be read");
            None
        }
    }
}
