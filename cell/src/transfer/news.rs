//! News of transfers: their records as etcd has them, and what this process tells etcd of its part. A record is moved on
//! only from what was seen, so whoever was slower changes nothing. Nothing waits for etcd but the news itself, which is
//! told until etcd has it.

use super::{Part, TransferId, part};
use crate::failpoint::{self, Failpoint};
use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use prost::Message;
use proto::keys;
use proto::limits::TRANSFERS_WAITING_MAX;
use proto::wire::cell::TransferRecord;
use runtime::decisions::{Decisions, Entry};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Between two attempts when etcd does not answer.
const AGAIN: Duration = Duration::from_millis(500);

/// A record as it was seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    key: String,
    /// Etcd's revision of it.
    revision: i64,
    pub(crate) id: TransferId,
    pub(crate) record: TransferRecord,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct News {
    decisions: Decisions,
    /// By key: the revision that was seen, and what should stand there instead.
    waiting: Mutex<HashMap<String, (i64, TransferRecord)>>,
    more: Notify,
}

impl News {
    /// The transfers among what has been decided.
    pub(crate) fn new(decisions: Decisions) -> News {
        News { decisions, waiting: Mutex::default(), more: Notify::new() }
    }

    /// Sees a change whenever something was decided.
    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.decisions.changed()
    }

    /// The transfers that wait for a bucket.
    pub(crate) fn of(&self, sale: &str, bucket: u32) -> Vec<(Seen, Part)> {
        let seen = self.under(&format!("{}{sale}/", keys::TRANSFERS));
        seen.into_iter()
            .filter_map(|seen| part(&seen.record, bucket).map(|part| (seen, part)))
            .collect()
    }

    /// All transfers.
    pub(crate) fn all(&self) -> Vec<Seen> {
        self.under(keys::TRANSFERS)
    }

    /// Has etcd told that a record has come further.
    pub(crate) fn tell(&self, seen: &Seen, record: TransferRecord) {
        let mut waiting = self.lock();
        // There is room soon, and the record is looked at again.
        if waiting.len() < TRANSFERS_WAITING_MAX || waiting.contains_key(&seen.key) {
            waiting.insert(seen.key.clone(), (seen.revision, record));
            self.more.notify_one();
        }
    }

    /// Tells etcd until `end` is cancelled.
    pub(crate) async fn write(&self, endpoints: Vec<String>, end: CancellationToken) {
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                () = self.more.notified() => {}
            }
            while let Err(error) = self.flush(&endpoints).await {
                tracing::warn!(%error, "cannot tell etcd of transfers yet");
                tokio::select! {
                    () = end.cancelled() => return,
                    () = tokio::time::sleep(AGAIN) => {}
                }
            }
        }
    }

    async fn flush(&self, endpoints: &[String]) -> Result<(), runtime::etcd::EtcdError> {
        let mut client = runtime::etcd::connect(endpoints).await?;
        let waiting: Vec<_> =
            self.lock().iter().map(|(key, told)| (key.clone(), told.clone())).collect();
        for (key, news) in waiting {
            let as_seen = Compare::mod_revision(key.as_str(), CompareOp::Equal, news.0);
            let put = TxnOp::put(key.as_str(), news.1.encode_to_vec(), None::<PutOptions>);
            let call = client.txn(Txn::new().when([as_seen]).and_then([put]));
            // If it is not as it was seen, it has come further already.
            let told = runtime::etcd::within("transfer", call);
            failpoint::reply(Failpoint::TransferTold, told).await?;
            let mut waiting = self.lock();
            if waiting.get(&key) == Some(&news) {
                waiting.remove(&key);
            }
        }
        Ok(())
    }

    fn under(&self, prefix: &str) -> Vec<Seen> {
        let snapshot = self.decisions.snapshot();
        snapshot.prefix(prefix).filter_map(|(key, entry)| seen(key, entry)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (i64, TransferRecord)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn seen(key: &str, entry: &Entry) -> Option<Seen> {
    let record = TransferRecord::decode(entry.value.clone()).ok()?;
    let id = TransferId::of(&record)?;
    let is_its_own = keys::transfer(&record.sale, &id.0) == key;
    is_its_own.then(|| Seen { key: key.into(), revision: entry.mod_revision, id, record })
}
