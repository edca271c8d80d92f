//! The sales of this cell, as the control plane has decided them: their records are followed, their shares accepted
//! into Postgres, and their changes taken over by keepers. Nothing here waits for etcd.

use crate::keeper::{Kept, SaleTerms};
use crate::ledger::{self, BucketRef, LedgerError, Share};
use prost::Message;
use proto::keys;
use proto::ticket::TicketKey;
use proto::wire::cell::{CellRecord, SaleRecord, sale_record::State};
use runtime::decisions::Decisions;
use sqlx::PgPool;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// What is known of sales here. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Sales {
    cell: Arc<str>,
    decisions: Decisions,
    accepted: Arc<Mutex<HashSet<(String, u32)>>>,
}

impl Sales {
    /// The sales of `cell` among what has been decided.
    pub(crate) fn new(cell: &str, decisions: Decisions) -> Sales {
        Sales { cell: cell.into(), decisions, accepted: Arc::default() }
    }

    /// Sees a change whenever something was decided.
    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.decisions.changed()
    }

    /// A sale's record.
    pub(crate) fn record(&self, sale: &str) -> Option<SaleRecord> {
        let snapshot = self.decisions.snapshot();
        let entry = snapshot.get(&format!("{}{sale}", keys::SALES))?;
        SaleRecord::decode(entry.value.clone()).ok()
    }

    /// Accepts the shares that were planned for this cell. A sale that Postgres refuses keeps no other from its share.
    pub(crate) async fn accept(&self, pool: &PgPool) -> Result<(), LedgerError> {
        for (record, number) in self.planned() {
            let key = (record.sale.clone(), number);
            if self.accepted().contains(&key) {
                continue;
            }
            let Some(plan) = record.buckets.get(number as usize) else { continue };
            let share = Share { first_unit: plan.first_unit, units: plan.units };
            match accept(pool, &record, number, share).await {
                Ok(()) => {}
                Err(error @ LedgerError::Unknown(_)) => return Err(error),
                Err(error) => {
                    tracing::error!(%error, sale = record.sale, "a share cannot be accepted");
                    continue;
                }
            }
            tracing::info!(
                sale = record.sale,
                bucket = number,
                units = share.units,
                "accepted a share"
            );
            self.accepted().insert(key);
        }
        Ok(())
    }

    /// Lets keepers know what has changed: terms, and the keys of tickets.
    pub(crate) async fn refresh(&self, kept: &Kept) {
        self.refresh_tickets(kept);
        for keeper in kept.all() {
            let Some(record) = self.record(&keeper.place.sale) else { continue };
            let known_ms = keeper.book().terms.record.update_ms;
            if record.update_ms <= known_ms {
                continue;
            }
            let Some(terms) = SaleTerms::new(record, keeper.place.number) else { continue };
            let pool = &kept.ports().standard.pool;
            // Postgres first: it decides what may be held.
            match ledger::set_sale(pool, keeper.place.bucket, &terms.record).await {
                Ok(()) => keeper.book().terms = terms,
                Err(error) => {
                    tracing::warn!(%error, sale = %keeper.place.sale, "cannot take a change over")
                }
            }
        }
    }

    fn refresh_tickets(&self, kept: &Kept) {
        let snapshot = self.decisions.snapshot();
        let entry = snapshot.get(&format!("{}{}", keys::CELLS, self.cell));
        let Some(record) = entry.and_then(|entry| CellRecord::decode(entry.value.clone()).ok())
        else {
            return;
        };
        let live: Vec<_> =
            record.ticket_keys.iter().map(|key| TicketKey::new(&key.kid, &key.secret)).collect();
        kept.ports().tickets.store(Arc::new(live));
    }

    /// Buckets of this cell whose shares should be accepted: of a sale that was called off too, so that it comes to rest.
    fn planned(&self) -> Vec<(SaleRecord, u32)> {
        let snapshot = self.decisions.snapshot();
        let mut planned = Vec::new();
        for (_, entry) in snapshot.prefix(keys::SALES) {
            let Ok(record) = SaleRecord::decode(entry.value.clone()) else { continue };
            if !matches!(record.state(), State::Warming | State::Warm | State::Cancelled) {
                continue;
            }
            for (number, plan) in (0..).zip(&record.buckets) {
                if plan.cell == *self.cell && plan.units > 0 {
                    planned.push((record.clone(), number));
                }
            }
        }
        planned
    }

    fn accepted(&self) -> std::sync::MutexGuard<'_, HashSet<(String, u32)>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(
    pool: &PgPool,
    record: &SaleRecord,
    number: u32,
    share: Share,
) -> Result<(), LedgerError> {
    let aliases = ledger::accept(pool, record, number, share).await?;
    let bucket = BucketRef { org: aliases.org, sale: aliases.sale, bucket: number.cast_signed() };
    ledger::set_sale(pool, bucket, record).await
}
