//! The audit of one bucket: its ledger is followed from the first row, and held against the tables, Redis and the heads
//! that were signed. One step at a time, each bounded.
//!
//! What was read before is read again, round after round, so that a change of an old row is found too. When a bucket is
//! seen first, its ledger is replayed from row 1 in slices before anything is compared.

use super::compare;
use super::difference::{Difference, Differences};
use super::snapshot::{BucketRow, Named, Snapshot};
use super::stock::StockAudit;
use crate::inventory::Inventory;
use crate::keeper::Keeper;
use crate::ledger::LedgerKey;
use prost::Message;
use proto::chain::head::{Head, HeadFlaw};
use proto::chain::{Chain, Row, entries_of};
use proto::invariant::Invariant;
use proto::limits::{AUDIT_ORDERS_MAX, AUDIT_ROWS_MAX, AUDIT_UNITS_MAX};
use proto::replay::Replay;
use proto::wire::events::LedgerEntry;
use sqlx::PgPool;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A bucket's head is signed at most as often as this.
const SIGN_EVERY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct BucketAudit {
    pub(super) named: Named,
    /// Who keeps it here, or did.
    pub(super) keeper: Option<Arc<Keeper>>,
    pub(super) differences: Differences,
    chain: Chain,
    replay: Replay,
    /// Reads once more what was followed.
    again: Chain,
    stock: StockAudit,
    /// The newest head that was signed before; the outer None: not read yet.
    anchor: Option<Option<Head>>,
    /// Whether the ledger is such that its head may be signed.
    sound: bool,
    signed: u64,
    signed_at: Option<Instant>,
    /// Where the comparison with the table of units goes on.
    unit: u32,
    /// Which orders are compared next, by the first byte of their ids.
    part: u8,
    /// Rows that were not followed yet; none before it was looked.
    lag: Option<u64>,
    read: u64,
}

/// What a step left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// More rows are there.
    Rows,
    /// Nothing for the moment.
    Nothing,
}

impl BucketAudit {
    /// The audit of a bucket of which nothing was read.
    pub(super) fn new(named: Named, keeper: Option<Arc<Keeper>>) -> BucketAudit {
        BucketAudit {
            named,
            keeper,
            differences: Differences::default(),
            chain: Chain::default(),
            replay: Replay::default(),
            again: Chain::default(),
            stock: StockAudit::default(),
            anchor: None,
            sound: true,
            signed: 0,
            signed_at: None,
            unit: 0,
            part: 0,
            lag: None,
            read: 0,
        }
    }

    /// How far the ledger was followed.
    pub(super) fn seq(&self) -> u64 {
        self.chain.seq()
    }

    /// Rows that are still to be followed, as far as is known.
    pub(super) fn lag(&self) -> u64 {
        self.lag.unwrap_or(0)
    }

    /// Whether the ledger was followed to its end as it was at the last step.
    pub(super) fn is_level(&self) -> bool {
        self.lag == Some(0)
    }

    /// Rows followed since this was asked last.
    pub(super) fn take_read(&mut self) -> u64 {
        std::mem::take(&mut self.read)
    }

    /// Whether there is nothing more to do for a bucket that nobody keeps here.
    pub(super) fn is_done(&self) -> bool {
        self.is_level() && (!self.sound || self.signed >= self.chain.seq())
    }

    /// The head to sign now.
    pub(super) fn head_to_sign(&self) -> Option<Head> {
        let is_time = self.signed_at.is_none_or(|at| at.elapsed() >= SIGN_EVERY);
        let has_grown = self.chain.seq() > self.signed;
        let (org, sale) = (&self.named.org, &self.named.sale);
        (self.sound && self.is_level() && has_grown && is_time)
            .then(|| Head::of(org, sale, self.named.bucket.bucket.cast_unsigned(), &self.chain))
    }

    /// The head up to `seq` is signed and kept.
    pub(super) fn signed(&mut self, seq: u64) {
        self.signed = seq;
        self.signed_at = Some(Instant::now());
    }

    /// Goes on by one step.
    pub(super) async fn step(
        &mut self,
        pool: &PgPool,
        inventory: &Inventory,
        key: &LedgerKey,
        found: &mut Vec<Difference>,
    ) -> Result<Left, sqlx::Error> {
        let mut snapshot = Snapshot::begin(pool, self.named.bucket).await?;
        if self.anchor.is_none() {
            let text = snapshot.newest_head().await?;
            self.anchor = Some(text.and_then(|text| self.anchor_of(&text, key, found)));
        }
        let Some(row) = snapshot.bucket().await? else {
            found.push(Difference::new(Invariant::Inv6, "bucket", "the bucket's row is gone"));
            self.lag = Some(0);
            return Ok(Left::Nothing);
        };
        let rows = snapshot.rows(self.chain.seq(), AUDIT_ROWS_MAX).await?;
        rows.iter().for_each(|row| self.follow(row, found));
        self.read += rows.len() as u64;
        self.lag = Some(row.seq.saturating_sub(self.chain.seq()));
        if rows.len() as u64 >= AUDIT_ROWS_MAX.into() && !self.is_level() {
            snapshot.end().await?;
            return Ok(Left::Rows);
        }
        // All rows of this moment were followed: whatever is missing is not there.
        self.lag = Some(0);
        found.extend(compare::counts(&self.chain, &self.replay, &row));
        self.check_anchor_reached(found);
        self.compare_slices(&mut snapshot, found).await?;
        self.read_again(&mut snapshot, found).await?;
        snapshot.end().await?;
        if found.iter().any(|difference| difference.about == "end") {
            self.sound = false;
        }
        self.compare_redis(&row, inventory, found).await;
        Ok(Left::Nothing)
    }

    fn follow(&mut self, row: &Row, found: &mut Vec<Difference>) {
        let entries = match self.chain.follow(row) {
            Ok(entries) => entries,
            Err(flaw) => {
                self.sound = false;
                found.push(row_difference(row.seq, &flaw));
                self.chain.stand_at(row);
                readable(&row.entries)
            }
        };
        for entry in &entries {
            self.replay.apply(entry);
        }
        let flaws = self.replay.take_flaws().into_iter().map(|flaw| {
            let what = format!("row {}: {}", row.seq, flaw.sentence);
            Difference::new(flaw.invariant, flaw.sentence, what)
        });
        found.extend(flaws);
        if let Some(Some(anchor)) = &self.anchor
            && anchor.seq == self.chain.seq()
            && !anchor.covers(&self.chain)
        {
            self.sound = false;
            found.push(Difference::new(
                Invariant::Inv6,
                "head",
                format!(
                    "up to row {} this is not the ledger of which the head was signed",
                    anchor.seq
                ),
            ));
        }
    }

    /// The head that was signed before. What another key has signed says nothing here: keys may be changed.
    fn anchor_of(&self, text: &str, key: &LedgerKey, found: &mut Vec<Difference>) -> Option<Head> {
        let wrong = match Head::verify(text, &[key.public()]) {
            Ok(head) => {
                let is_ours = (&*head.org, &*head.sale, head.bucket.cast_signed())
                    == (&*self.named.org, &*self.named.sale, self.named.bucket.bucket);
                if is_ours {
                    return Some(head);
                }
                "it is another bucket's".to_owned()
            }
            Err(HeadFlaw::OtherKey) => {
                tracing::warn!(sale = %self.named.sale, bucket = self.named.bucket.bucket, "the newest head was signed by another key");
                return None;
            }
            Err(flaw) => flaw.to_string(),
        };
        found.push(Difference::new(
            Invariant::Inv6,
            "head",
            format!("the newest head that is kept: {wrong}"),
        ));
        None
    }

    fn check_anchor_reached(&mut self, found: &mut Vec<Difference>) {
        if let Some(Some(anchor)) = &self.anchor
            && anchor.seq > self.chain.seq()
        {
            self.sound = false;
            let what = format!(
                "the ledger ends with row {}, a head was signed for row {}: it was put back",
                self.chain.seq(),
                anchor.seq
            );
            found.push(Difference::new(Invariant::Inv6, "head", what));
        }
    }

    async fn compare_slices(
        &mut self,
        snapshot: &mut Snapshot,
        found: &mut Vec<Difference>,
    ) -> Result<(), sqlx::Error> {
        let units = snapshot.units(self.unit, AUDIT_UNITS_MAX).await?;
        let is_full = units.len() as u64 >= AUDIT_UNITS_MAX.into();
        let last = units.last().filter(|_| is_full).map(|(unit, _)| *unit);
        found.extend(compare::units(&self.replay, (self.unit, last), &units));
        self.unit = last.map_or(0, |last| last.saturating_add(1));
        let parts = self.next_parts();
        let orders = snapshot.orders(parts.clone()).await?;
        for part in parts.clone() {
            let of_part = orders.iter().filter(|(id, _)| id.0[0] == part).cloned();
            let of_part: Vec<_> = of_part.collect();
            found.extend(compare::orders(&self.replay, part, &of_part));
        }
        self.part = parts.end().wrapping_add(1);
        Ok(())
    }

    /// As many parts of the orders as one step may compare, one at least.
    fn next_parts(&self) -> RangeInclusive<u8> {
        let some = 256 * AUDIT_ORDERS_MAX / self.replay.order_count().max(1);
        let more = u8::try_from(some.saturating_sub(1)).unwrap_or(u8::MAX);
        self.part..=self.part.saturating_add(more)
    }

    async fn read_again(
        &mut self,
        snapshot: &mut Snapshot,
        found: &mut Vec<Difference>,
    ) -> Result<(), sqlx::Error> {
        let rows = snapshot.rows(self.again.seq(), AUDIT_ROWS_MAX).await?;
        for row in rows.iter().filter(|row| row.seq <= self.chain.seq()) {
            if let Err(flaw) = self.again.follow(row) {
                self.sound = false;
                found.push(row_difference(row.seq, &flaw));
                self.again.stand_at(row);
            }
        }
        if self.again.seq() < self.chain.seq() && rows.len() as u64 >= AUDIT_ROWS_MAX.into() {
            return Ok(());
        }
        if (self.again.seq(), self.again.hash()) != (self.chain.seq(), self.chain.hash()) {
            self.sound = false;
            let what = format!("the ledger up to row {} is not what it was", self.chain.seq());
            found.push(Difference::new(Invariant::Inv6, "past", what));
        }
        self.again = Chain::default();
        Ok(())
    }

    async fn compare_redis(
        &mut self,
        row: &BucketRow,
        inventory: &Inventory,
        found: &mut Vec<Difference>,
    ) {
        if let Some(keeper) = &self.keeper {
            found.extend(self.stock.go_on(&self.replay, row, keeper, inventory).await);
        }
    }
}

fn row_difference(seq: u64, flaw: &proto::chain::RowFlaw) -> Difference {
    let invariant = match flaw {
        proto::chain::RowFlaw::OlderEpoch { .. } => Invariant::Inv8,
        _ => Invariant::Inv6,
    };
    Difference::new(invariant, format!("row {seq}"), format!("row {seq} cannot follow: {flaw}"))
}

/// What can still be read of a row that is not what was written.
fn readable(entries: &[u8]) -> Vec<LedgerEntry> {
    let raw = entries_of(entries).unwrap_or_default();
    raw.iter().filter_map(|entry| LedgerEntry::decode(*entry).ok()).collect()
}
