//! Who leads: the instance whose lease holds the leader's key.
//!
//! The key's `create_revision` is the number of the term and rises with every new leader. An instance may believe that
//! it leads a while after it does not (a pause, a lease wrongly revoked); that harms nothing, because its writes compare
//! that number.

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, LeaseKeepAliveStream, LeaseKeeper, PutOptions, Txn, TxnOp,
};
use tokio::time::sleep;

use crate::store::{Fence, Store, StoreError, leader_key};

/// Seconds of silence after which another instance may lead.
const TTL_S: i64 = 5;
/// Time between renewals: two may be lost.
const RENEW_EVERY: Duration = Duration::from_millis(1_500);

/// A term of leading.
pub(super) struct Leadership {
    client: Client,
    fence: Fence,
    lease: i64,
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
}

/// Why a term is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the lease has run out")]
    Expired,
    #[error("the key is gone or another's")]
    Taken,
}

impl Leadership {
    /// Leads if nobody does.
    pub(super) async fn take(store: &Store) -> Result<Option<Leadership>, StoreError> {
        let mut client = store.client();
        let leader = store.ask("see who leads", client.get(leader_key(), None)).await?;
        if !leader.kvs().is_empty() {
            return Ok(None);
        }
        let lease = store.ask("get a lease", client.lease_grant(TTL_S, None)).await?.id();
        let value = format!("pid {}", std::process::id());
        let put = TxnOp::put(leader_key(), value, Some(PutOptions::new().with_lease(lease)));
        let nobody = Compare::version(leader_key(), CompareOp::Equal, 0);
        let txn = Txn::new().when(vec![nobody]).and_then(vec![put]);
        let taken = store.ask("lead", client.txn(txn)).await?;
        let Some(header) = taken.header().filter(|_| taken.succeeded()) else {
            store.ask("give a lease back", client.lease_revoke(lease)).await?;
            return Ok(None);
        };
        let fence = Fence { create_revision: header.revision() };
        let kept = store.ask("keep a lease", client.lease_keep_alive(lease)).await?;
        let (keeper, answers) = kept;
        Ok(Some(Leadership { client, fence, lease, keeper, answers }))
    }

    pub(super) fn fence(&self) -> Fence {
        self.fence
    }

    /// Keeps leading until it is lost.
    pub(super) async fn renew(&mut self, store: &Store) -> Lost {
        loop {
            sleep(RENEW_EVERY).await;
            if let Err(lost) = self.renew_once(store).await {
                return lost;
            }
        }
    }

    async fn renew_once(&mut self, store: &Store) -> Result<(), Lost> {
        store.ask("renew a lease", self.keeper.keep_alive()).await?;
        let answer = store.ask("renew a lease", self.answers.message()).await?;
        if answer.is_none_or(|answer| answer.ttl() <= 0) {
            return Err(Lost::Expired);
        }
        // Some versions of etcd renew a lease that they have revoked: only the key counts.
        let found = store.ask("see who leads", self.client.get(leader_key(), None)).await?;
        let mine = |kv: &etcd_client::KeyValue| kv.create_revision() == self.fence.create_revision;
        if found.kvs().first().is_some_and(mine) { Ok(()) } else { Err(Lost::Taken) }
    }

    /// Lets others lead at once.
    pub(super) async fn resign(mut self, store: &Store) {
        match store.ask("give a lease back", self.client.lease_revoke(self.lease)).await {
            Ok(_) => tracing::info!(term = self.fence.create_revision, "resigned"),
            Err(error) => tracing::warn!(%error, "the leader's lease was left to run out"),
        }
    }
}
