//! The audit: every ledger of the buckets kept here is replayed while their sales run, and held against the tables, against
//! Redis and against the heads signed before. What it finds is a difference, and there must be none.
//!
//! It reads one bucket in one transaction, on connections of its own, a bounded part at a time, and rests at least as long
//! as it worked. It never writes but the heads that it signs: at most one a second for a bucket whose ledger has grown. Of
//! those the newest stands in Postgres and in the bucket's report, where somebody outside the cell has it.
//!
//! - [`bucket`]: one bucket's audit; [`snapshot`]: what it reads of Postgres.
//! - [`compare`]: ledger and tables; [`stock`] and [`strand`]: ledger and Redis.
//! - [`difference`]: what is told.
//!
//! Its memory is that of the replays: about 200 bytes for each unit that is not free in the buckets kept here.

mod bucket;
mod compare;
mod difference;
mod metrics;
mod snapshot;
mod stock;
mod strand;

pub(crate) use metrics::AuditMetrics;

use crate::inventory::Inventory;
use crate::keeper::Kept;
use crate::ledger::{BucketRef, LedgerKey};
use bucket::{BucketAudit, Left};
use difference::Difference;
use proto::limits::AUDIT_RESTING_MAX;
use snapshot::{Named, put_head, unsigned_at_rest};
use sqlx::PgPool;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Between two rounds, when there is nothing to catch up with.
const EVERY: Duration = Duration::from_millis(500);
/// How often it looks for buckets at rest whose last rows are not signed for.
const RESTING_EVERY: Duration = Duration::from_secs(5);

/// What the audit works with.
#[derive(Debug)]
pub(crate) struct AuditPorts {
    pub(crate) kept: Arc<Kept>,
    pub(crate) pool: PgPool,
    pub(crate) inventory: Inventory,
    pub(crate) key: LedgerKey,
    pub(crate) metrics: AuditMetrics,
}

/// Audits until `end` is cancelled.
pub(crate) async fn audit(ports: AuditPorts, end: CancellationToken) {
    let mut audit = Audit { ports, buckets: BTreeMap::new(), rested_at: None };
    loop {
        let began = Instant::now();
        let left = tokio::select! {
            left = audit.round() => left,
            () = end.cancelled() => return,
        };
        let took = began.elapsed();
        let pause = match left {
            Left::Rows => took,
            Left::Nothing => EVERY.saturating_sub(took).max(took),
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = end.cancelled() => return,
        }
    }
}

struct Audit {
    ports: AuditPorts,
    buckets: BTreeMap<BucketRef, BucketAudit>,
    rested_at: Option<Instant>,
}

impl Audit {
    /// One step of every bucket.
    async fn round(&mut self) -> Left {
        self.find_buckets().await;
        let mut left = Left::Nothing;
        for audit in self.buckets.values_mut() {
            match step(&self.ports, audit).await {
                Ok(Left::Rows) => left = Left::Rows,
                Ok(Left::Nothing) => {}
                Err(error) => {
                    let (sale, bucket) = (&audit.named.sale, audit.named.bucket.bucket);
                    tracing::warn!(%error, %sale, bucket, "a bucket cannot be audited for the moment");
                }
            }
        }
        self.leave_buckets();
        let lag = self.buckets.values().map(BucketAudit::lag).sum();
        let replaying = self.buckets.values().filter(|audit| !audit.is_level()).count();
        self.ports.metrics.lag(lag, replaying);
        left
    }

    /// The buckets kept here, and some at rest of whose ledgers a part is not signed for.
    async fn find_buckets(&mut self) {
        for keeper in self.ports.kept.all() {
            let place = &keeper.place;
            let audit = self.buckets.entry(place.bucket).or_insert_with(|| {
                let named = Named {
                    bucket: place.bucket,
                    org: place.org.clone(),
                    sale: place.sale.clone(),
                };
                BucketAudit::new(named, None)
            });
            audit.keeper = Some(keeper);
        }
        if self.rested_at.is_some_and(|at| at.elapsed() < RESTING_EVERY) {
            return;
        }
        self.rested_at = Some(Instant::now());
        match unsigned_at_rest(&self.ports.pool, AUDIT_RESTING_MAX).await {
            Ok(resting) => {
                for named in resting {
                    let new = || BucketAudit::new(named.clone(), None);
                    self.buckets.entry(named.bucket).or_insert_with(new);
                }
            }
            Err(error) => tracing::warn!(%error, "buckets at rest cannot be looked for"),
        }
    }

    /// Lets go of buckets that nobody keeps here any more, once they are signed for.
    fn leave_buckets(&mut self) {
        let kept: Vec<_> = self.ports.kept.all().iter().map(|keeper| keeper.place.bucket).collect();
        let (metrics, reports) = (&self.ports.metrics, &self.ports.kept.ports().reports);
        self.buckets.retain(|bucket, audit| {
            let stays = kept.contains(bucket) || !audit.is_done();
            if !stays {
                audit.differences.broken().for_each(|invariant| metrics.left(invariant));
                reports.forget(&audit.named.sale, audit.named.bucket.bucket.cast_unsigned());
            }
            stays
        });
    }
}

async fn step(ports: &AuditPorts, audit: &mut BucketAudit) -> Result<Left, sqlx::Error> {
    let mut found = Vec::new();
    let left = audit.step(&ports.pool, &ports.inventory, &ports.key, &mut found).await;
    ports.metrics.rows(audit.take_read());
    for difference in audit.differences.new_of(found) {
        tell(ports, audit, &difference);
    }
    let left = left?;
    if let Some(head) = audit.head_to_sign() {
        let text = head.sign(ports.key.pair());
        put_head(&ports.pool, audit.named.bucket, head.seq, &text).await?;
        audit.signed(head.seq);
        ports.metrics.signed();
        if let Some(keeper) = &audit.keeper {
            ports.kept.ports().reports.head(keeper, text);
        }
    }
    Ok(left)
}

fn tell(ports: &AuditPorts, audit: &BucketAudit, difference: &Difference) {
    tracing::error!(
        org = %audit.named.org,
        sale = %audit.named.sale,
        bucket = audit.named.bucket.bucket,
        seq = audit.seq(),
        what = difference.what,
        then = difference.advice(),
        "the audit has found a difference"
    );
    ports.metrics.found(difference);
    ports.kept.metrics().broken(difference.invariant);
}
