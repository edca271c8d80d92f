//! What do we store?
//!
//! Decisions, in etcd, as messages of `floodgate.cell.v1`. What others act on lies where [`proto::keys`] says:
//!
//! - `orgs/{org}`: who the tenant is, its keys, and its cells. Written once by CreateOrg; only the keys change later.
//! - `cells/{cell}`: a cell that has been seen, with the keys of its tickets. Written once by the executor.
//! - `sales/{sale}`: a sale. Written by merchants' calls and moved along by the executor.
//!
//! - `transfers/{sale}/{transfer}`: units on their way. Begun and removed here, moved on by the cells at both ends.
//!
//! Processes and keepers write `processes/…` (under a lease) and `reports/…`; here they are only read. What nobody else
//! reads lies under `control/`:
//!
//! - `control/leader`: who executes, under a lease.
//! - `control/placed`: rewritten with every new org, so that two orgs placed at the same moment see one another.
//! - `control/sales/{org}/{sale}`: an org's sales; the keys of `sales/` do not name it.
//! - `control/unfinished/{org}/{sale}`: those for which something may still be due.
//! - `control/stock/{sale}/{request}`: what was asked for by each request that changed the sale's stock.
//!
//! Every write is one transaction that compares what was read (`mod_revision`), so a write never covers another one that
//! its writer has not seen. Every request is answered within [`runtime::etcd::CALL_TIMEOUT`] or fails.

mod fleet;
mod range;
mod sales;
mod transfers;

use etcd_client::{Client, Compare, CompareOp, Txn, TxnOp};
use prost::Message;
use proto::fault::{Fault, Reason};
use proto::keys;
use runtime::etcd::EtcdError;
use runtime::readiness::Readiness;

pub use fleet::Placements;
pub(crate) use fleet::cells_of;
pub use range::Page;
pub(crate) use sales::unfinished_prefix;
pub use transfers::StockChange;

/// The leader's key.
pub(crate) fn leader_key() -> String {
    format!("{}leader", keys::CONTROL)
}

/// The condition of readiness that says whether etcd answered last time.
const ETCD: &str = "etcd";

/// When a caller should try again while etcd does not answer.
const AWAY_RETRY_MS: u32 = 1_000;

/// Why something could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Etcd did not answer or refused; a write may have been done all the same.
    #[error(transparent)]
    Away(#[from] EtcdError),
    /// Somebody else wrote in between: read again.
    #[error("it was changed in between; read it again")]
    Conflict,
    /// A value that is no message of its kind.
    #[error("the value of {key} cannot be read; restore it from a backup of etcd")]
    Unreadable {
        /// Its key.
        key: String,
    },
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        match error {
            StoreError::Away(error) => {
                tracing::warn!(%error, "a call failed for want of etcd");
                Fault::later(Reason::Overloaded, AWAY_RETRY_MS)
            }
            StoreError::Conflict => Fault::new(Reason::EtagMismatch),
            StoreError::Unreadable { key } => {
                tracing::error!(key, "a value in etcd cannot be read");
                Fault::new(Reason::Internal)
            }
        }
    }
}

/// A record and the revision at which it was last written.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept<T> {
    /// What it says.
    pub value: T,
    /// Its `mod_revision`.
    pub revision: i64,
}

/// Proof of leadership: writes that carry it fail once another leader has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The `create_revision` of the leader's key.
    pub create_revision: i64,
}

impl Fence {
    fn compare(self) -> Compare {
        Compare::create_revision(leader_key(), CompareOp::Equal, self.create_revision)
    }
}

/// Orgs, cells and sales in etcd. Clones share a connection.
#[derive(Clone)]
pub struct Store {
    client: Client,
    readiness: Readiness,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// A store in the etcd at `endpoints`; nothing is connected yet. Whether etcd answers is told to `readiness`.
    ///
    /// # Errors
    /// When an endpoint is no address like `http://host:2379`.
    pub async fn connect(endpoints: &[String], readiness: Readiness) -> Result<Store, StoreError> {
        readiness.set(ETCD, false);
        Ok(Store { client: runtime::etcd::connect(endpoints).await?, readiness })
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Makes one request within the limit of time, and remembers whether etcd answered.
    pub(crate) async fn ask<T>(
        &self,
        what: &'static str,
        request: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, StoreError> {
        let answer = runtime::etcd::within(what, request).await;
        self.readiness.set(ETCD, answer.is_ok());
        Ok(answer?)
    }

    async fn get<T: Message + Default>(
        &self,
        what: &'static str,
        key: String,
    ) -> Result<Option<Kept<T>>, StoreError> {
        let answer = self.ask(what, self.client.kv_client().get(key, None)).await?;
        answer.kvs().first().map(decode).transpose()
    }

    /// Does `then` if everything compares, and returns the revision at which it was written.
    async fn commit(
        &self,
        what: &'static str,
        when: Vec<Compare>,
        then: Vec<TxnOp>,
    ) -> Result<i64, StoreError> {
        let txn = Txn::new().when(when).and_then(then);
        let answer = self.ask(what, self.client.kv_client().txn(txn)).await?;
        match answer.header() {
            Some(header) if answer.succeeded() => Ok(header.revision()),
            _ => Err(StoreError::Conflict),
        }
    }
}

fn absent(key: &str) -> Compare {
    Compare::version(key, CompareOp::Equal, 0)
}

fn unchanged(key: &str, revision: i64) -> Compare {
    Compare::mod_revision(key, CompareOp::Equal, revision)
}

fn decode<T: Message + Default>(kv: &etcd_client::KeyValue) -> Result<Kept<T>, StoreError> {
    match T::decode(kv.value()) {
        Ok(value) => Ok(Kept { value, revision: kv.mod_revision() }),
        Err(_) => {
            Err(StoreError::Unreadable { key: String::from_utf8_lossy(kv.key()).into_owned() })
        }
    }
}
