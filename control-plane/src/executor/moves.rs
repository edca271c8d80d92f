//! What the leader does for units on their way: asks buckets to hand some over, and removes transfers that are over.
//!
//! The pure parts are [`crate::moves`] and [`outcome`]; here is what one leader remembers between two passes. It looks
//! at a sale only through a snapshot that shows its own last write, or it would ask for the same units twice.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use proto::keys;
use proto::limits::{SALES_HEEDED_MAX, TRANSFERS_AT_ONCE_MAX};
use proto::wire::cell::transfer_record::State;
use proto::wire::cell::{BucketReport, SaleRecord, TransferRecord};
use runtime::decisions::Snapshot;

use super::{Executor, read};
use crate::moves::{self, Fresh, Seen};
use crate::store::{Fence, Kept, StoreError};

/// After this time the hot prefixes have been read again, and show a write whose event was lost.
const SHOWN_AFTER: Duration = Duration::from_secs(7);
/// Bytes of a transfer's id.
const TRANSFER_BYTES: usize = 16;

/// What one leader remembers.
#[derive(Debug)]
pub(super) struct Memory {
    /// A snapshot that is older than this may lack what an earlier leader has written.
    since: Write,
    sales: HashMap<String, Remembered>,
    /// Sales that may have units to move, as this pass found them.
    live: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Remembered {
    /// The last write of transfers.
    written: Option<Write>,
    fresh: Fresh,
}

/// Something that was written to etcd.
#[derive(Clone, Copy, Debug)]
struct Write {
    revision: i64,
    at: Instant,
}

impl Write {
    fn now(revision: i64) -> Write {
        Write { revision, at: Instant::now() }
    }

    /// Whether the snapshot shows it: by its revision, or because everything hot has been read since. Etcd can lose the
    /// event that would raise the revision.
    fn is_shown(&self, snapshot: &Snapshot) -> bool {
        snapshot.revision() >= self.revision || self.at.elapsed() >= SHOWN_AFTER
    }
}

impl Memory {
    /// Of a leader whose term began with `fence`.
    pub(super) fn new(fence: Fence) -> Memory {
        Memory {
            since: Write::now(fence.create_revision),
            sales: HashMap::new(),
            live: BTreeSet::new(),
        }
    }

    /// Whether the snapshot shows all that leaders have written of this sale's transfers.
    pub(super) fn is_shown(&self, snapshot: &Snapshot, sale: &str) -> bool {
        let written = self.sales.get(sale).and_then(|remembered| remembered.written);
        self.since.is_shown(snapshot) && written.is_none_or(|written| written.is_shown(snapshot))
    }

    /// A sale is of interest in the next pass as well.
    pub(super) fn goes_on(&mut self, sale: &str) {
        self.live.insert(sale.to_owned());
    }

    /// The end of a pass: forgets sales that are over, and returns the prefixes of the reports that count now.
    pub(super) fn end_pass(&mut self) -> Vec<String> {
        let live = std::mem::take(&mut self.live);
        self.sales.retain(|sale, _| live.contains(sale));
        live.iter().take(SALES_HEEDED_MAX).map(|sale| format!("{}{sale}/", keys::REPORTS)).collect()
    }
}

/// What becomes of a transfer that is over: how many units the merchant got back. None: it is not over.
fn outcome(transfer: &TransferRecord) -> Option<u32> {
    let units = moves::units_of(transfer);
    match transfer.state() {
        State::Accepted => Some(0),
        State::Given if units == 0 => Some(0),
        State::Given if transfer.to.is_none() => Some(units),
        State::Given | State::Asked | State::Unspecified => None,
    }
}

/// The transfers of a sale.
pub(super) fn of_sale(snapshot: &Snapshot, sale: &str) -> Vec<Kept<TransferRecord>> {
    let prefix = format!("{}{sale}/", keys::TRANSFERS);
    let found = snapshot.prefix(&prefix).filter_map(|(key, _)| {
        let (value, revision) = read::<TransferRecord>(snapshot, key)?;
        // What lies under another key than its own would be removed under the wrong one.
        let sound = keys::transfer(&value.sale, &value.transfer) == key;
        sound.then_some(Kept { value, revision })
    });
    found.collect()
}

impl Executor {
    /// Removes the sale's transfers that are over; says whether there were any.
    pub(super) async fn finish(
        &self,
        fence: Fence,
        memory: &mut Memory,
        sale: &Kept<SaleRecord>,
        transfers: &[Kept<TransferRecord>],
    ) -> Result<bool, StoreError> {
        let is_over = |one: &&Kept<TransferRecord>| outcome(&one.value).is_some();
        let over: Vec<_> =
            transfers.iter().filter(is_over).take(TRANSFERS_AT_ONCE_MAX).cloned().collect();
        if over.is_empty() {
            return Ok(false);
        }
        memory.goes_on(&sale.value.sale);
        let back = over.iter().filter_map(|one| outcome(&one.value)).fold(0, u32::saturating_add);
        let now_ms = self.clock.now_ms();
        let mut changed = sale.value.clone();
        changed.surrendered = changed.surrendered.saturating_add(back);
        crate::sale::touch(&mut changed, now_ms);
        let counted = (back > 0).then_some((&changed, sale.revision));
        match self.store.finish_transfers(&over, counted, fence).await {
            Ok(revision) => {
                let remembered = memory.sales.entry(changed.sale.clone()).or_default();
                remembered.written = Some(Write::now(revision));
                for bucket in over.iter().flat_map(|one| [one.value.from, one.value.to]).flatten() {
                    remembered.fresh.over(bucket, now_ms);
                }
                tracing::debug!(
                    sale = changed.sale,
                    count = over.len(),
                    back,
                    "transfers are over"
                );
                self.metrics.step("finish");
            }
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Asks for the transfers that would let the sale's last units be sold.
    pub(super) async fn ask(
        &self,
        fence: Fence,
        memory: &mut Memory,
        snapshot: &Snapshot,
        sale: &Kept<SaleRecord>,
        reports: &[BucketReport],
        transfers: &[Kept<TransferRecord>],
    ) -> Result<(), StoreError> {
        let now_ms = self.clock.now_ms();
        let name = &sale.value.sale;
        if sale.value.buckets.len() < 2 || !moves::sells(&sale.value, now_ms) {
            return Ok(());
        }
        memory.goes_on(name);
        let remembered = memory.sales.entry(name.clone()).or_default();
        let mut aside = remembered.fresh.aside(reports, now_ms);
        aside.extend(silent(snapshot, &sale.value));
        let transfers: Vec<_> = transfers.iter().map(|one| one.value.clone()).collect();
        let seen =
            Seen { sale: &sale.value, reports, transfers: &transfers, aside: &aside, now_ms };
        let wishes = moves::wishes(seen);
        let mut asked = Vec::with_capacity(wishes.len());
        for wish in &wishes {
            let Ok(transfer) = crate::api::random::<TRANSFER_BYTES>() else { return Ok(()) };
            asked.push(TransferRecord {
                sale: name.clone(),
                transfer: transfer.to_vec(),
                from: Some(wish.from),
                to: Some(wish.to),
                wanted: wish.wanted,
                units: Vec::new(),
                state: State::Asked.into(),
                create_ms: now_ms,
            });
        }
        if asked.is_empty() {
            return Ok(());
        }
        match self.store.ask_transfers(&sale.value, sale.revision, &asked, fence).await {
            Ok(revision) => {
                remembered.written = Some(Write::now(revision));
                for bucket in wishes.iter().flat_map(|wish| [wish.from, wish.to]) {
                    remembered.fresh.asked(bucket, reports);
                }
                tracing::debug!(sale = name, count = asked.len(), "asked for transfers");
                self.metrics.step("ask");
                Ok(())
            }
            Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Buckets in whose cells no process lives: what they last said may be long ago, and units sent there would be locked.
fn silent(snapshot: &Snapshot, sale: &SaleRecord) -> BTreeSet<u32> {
    let lives = |cell: &str| {
        let prefix = format!("{}{cell}/", keys::PROCESSES);
        snapshot.prefix(&prefix).next().is_some()
    };
    let buckets = (0_u32..).zip(&sale.buckets);
    buckets.filter(|(_, plan)| !lives(&plan.cell)).map(|(bucket, _)| bucket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::wire::cell::UnitRange;

    #[test]
    fn what_is_over_and_what_came_back() {
        let transfer = |state: State, to: Option<u32>, units: &[u32]| TransferRecord {
            state: state.into(),
            from: Some(0),
            to,
            units: units.iter().map(|units| UnitRange { first: 0, units: *units }).collect(),
            ..TransferRecord::default()
        };
        let rows = [
            (transfer(State::Unspecified, None, &[]), None),
            (transfer(State::Asked, Some(1), &[]), None),
            (transfer(State::Asked, None, &[]), None),
            (transfer(State::Given, Some(1), &[3]), None),
            (transfer(State::Given, Some(1), &[]), Some(0)),
            (transfer(State::Given, None, &[]), Some(0)),
            (transfer(State::Given, None, &[3, 4]), Some(7)),
            (transfer(State::Accepted, Some(1), &[3]), Some(0)),
        ];
        for (transfer, expected) in rows {
            assert_eq!(outcome(&transfer), expected, "{transfer:?}");
        }
    }
}
