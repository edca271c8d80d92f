//! The archive: orders of buckets that are at rest. Nobody keeps such a bucket any more, and nothing in it changes, so any
//! process of the cell may answer for it, from the ledger.

mod report;
mod transfer;

pub(crate) use report::{RestedReports, rested_reports};
pub(crate) use transfer::rested_transfers;

use crate::keeper::{LookupAsked, Ports, Why, look_up};
use crate::ledger::{self, BucketRef, LedgerError};
use crate::link::{Asked, Reply};
use crate::refund;
use arc_swap::ArcSwap;
use proto::fault::{Fault, Reason};
use proto::id::{BuyerKey, OrderId};
use proto::limits::{ARCHIVE_BUCKETS_MAX, BATCH_CALLS_MAX, STAGE_CALLS_WAITING_MAX};
use sqlx::PgPool;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How often buckets that came to rest elsewhere are looked for.
const EVERY: Duration = Duration::from_secs(5);
/// When a caller who found the queue full may ask again.
const FULL_MS: u32 = 500;

type Resting = HashMap<(Box<str>, u32), BucketRef>;

/// The buckets of this cell that are at rest.
#[derive(Debug)]
pub(crate) struct Archive {
    resting: ArcSwap<Resting>,
    questions: mpsc::Sender<(BucketRef, LookupAsked)>,
    asked: Mutex<Option<mpsc::Receiver<(BucketRef, LookupAsked)>>>,
}

impl Archive {
    /// Nothing is known to rest.
    pub(crate) fn new() -> Archive {
        let (questions, asked) = mpsc::channel(STAGE_CALLS_WAITING_MAX);
        Archive { resting: ArcSwap::default(), questions, asked: Mutex::new(Some(asked)) }
    }

    /// A bucket has come to rest here.
    pub(crate) fn add(&self, sale: &str, number: u32, bucket: BucketRef) {
        self.resting.rcu(|resting| {
            let mut resting = Resting::clone(resting);
            resting.insert((sale.into(), number), bucket);
            resting
        });
    }

    /// A bucket that is at rest.
    pub(crate) fn find(&self, sale: &str, number: u32) -> Option<BucketRef> {
        self.resting.load().get(&(sale.into(), number)).copied()
    }

    /// Every bucket that is known to be at rest, by its sale and number.
    fn all(&self) -> Arc<Resting> {
        self.resting.load_full()
    }

    /// Takes a call for a bucket that is at rest; any other call comes back.
    pub(crate) fn take(
        &self,
        ports: &Arc<Ports>,
        (sale, number): (&str, u32),
        buyer: BuyerKey,
        asked: Asked,
        reply: Reply,
    ) -> Option<Reply> {
        let Some(bucket) = self.find(sale, number) else {
            return Some(reply);
        };
        let over = Fault::new(Reason::SaleEnded);
        let (order, why) = match asked {
            Asked::Join => {
                reply.refuse(&over);
                return None;
            }
            Asked::Reserve { quantity, request_id, .. } => {
                let order = OrderId::derive(sale, buyer, request_id);
                (order, Why::Repeat { quantity, otherwise: over })
            }
            Asked::Checkout { order, .. } => (order, Why::Checkout),
            Asked::Cancel { order } => (order, Why::Cancel),
            Asked::Show { order } => (order, Why::Show),
            Asked::Refund { order } => {
                refund::begin_at_rest(ports, bucket, buyer, order, reply);
                return None;
            }
        };
        let question = (bucket, LookupAsked { buyer, order, why, reply });
        if let Err(mpsc::error::TrySendError::Full((_, question))) =
            self.questions.try_send(question)
        {
            question.reply.refuse(&Fault::later(Reason::Overloaded, FULL_MS));
        }
        None
    }

    /// Learns what rests and answers questions until `end` is cancelled.
    pub(crate) async fn serve(self: Arc<Self>, pool: PgPool, end: CancellationToken) {
        let questions = self.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut questions) = questions else { return };
        let mut tick = tokio::time::interval(EVERY);
        let mut batch = Vec::with_capacity(BATCH_CALLS_MAX);
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                _ = tick.tick() => {
                    if let Err(error) = self.learn(&pool).await {
                        tracing::warn!(%error, "cannot see which buckets are at rest");
                    }
                }
                _ = questions.recv_many(&mut batch, BATCH_CALLS_MAX) => {}
            }
            let mut by_bucket: HashMap<BucketRef, Vec<LookupAsked>> = HashMap::new();
            for (bucket, question) in batch.drain(..) {
                by_bucket.entry(bucket).or_default().push(question);
            }
            for (bucket, questions) in by_bucket {
                look_up(&pool, bucket, questions).await;
            }
        }
    }

    async fn learn(&self, pool: &PgPool) -> Result<(), LedgerError> {
        let resting = ledger::resting(pool, ARCHIVE_BUCKETS_MAX).await?;
        let resting = resting.into_iter();
        let entry = |(sale, bucket): (String, BucketRef)| {
            ((sale.into_boxed_str(), bucket.bucket.cast_unsigned()), bucket)
        };
        self.resting.store(Arc::new(resting.map(entry).collect()));
        Ok(())
    }
}
