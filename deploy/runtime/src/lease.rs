//! A key in etcd that says "I am here" for as long as this process is.
//!
//! A lease is a hint: it may vanish because etcd was away or wrong, and it may stand a while after
//! its process has died. Whoever acts on it needs a fence of its own. When it is lost it is taken
//! again, for as long as the process runs; it is given back when the drain begins.

use std::time::Duration;

use etcd_client::{Client, LeaseKeepAliveStream, LeaseKeeper, PutOptions};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::drain::Drain;
use crate::etcd::{self, EtcdError};

/// Times that a lease is renewed within its life: two may be lost.
const RENEWALS: u32 = 3;

/// What to hold, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseOptions {
    /// Etcd's client addresses, like `http://host:2379`.
    pub endpoints: Vec<String>,
    /// The key; nobody else writes it.
    pub key: String,
    /// What stands there.
    pub value: Vec<u8>,
    /// Seconds after which the key vanishes when this process is silent; at least 2.
    pub ttl_s: u32,
}

/// A key that is kept in etcd. Clones speak of the same one.
#[derive(Clone, Debug)]
pub struct Lease {
    held: watch::Receiver<bool>,
}

impl Lease {
    /// Puts the key and keeps it until the drain begins. Does not wait for etcd.
    pub fn keep(options: LeaseOptions, drain: &Drain) -> Self {
        let (tell, held) = watch::channel(false);
        drain.spawn("lease", keep(options, tell, drain.token()));
        Self { held }
    }

    /// Whether etcd had the key when it was last asked. A hint.
    pub fn is_held(&self) -> bool {
        *self.held.borrow()
    }

    /// A receiver that sees [`Lease::is_held`] change.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.held.clone()
    }
}

#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    #[error("it has expired or was revoked")]
    Expired,
    #[error("the key is gone or another's")]
    Taken,
    #[error("etcd ended the renewals")]
    Ended,
}

/// A lease that etcd has granted.
struct Granted {
    client: Client,
    id: i64,
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
}

async fn keep(options: LeaseOptions, tell: watch::Sender<bool>, end: CancellationToken) {
    let mut backoff = Backoff::default();
    loop {
        let granted = tokio::select! {
            granted = register(&options) => granted,
            () = end.cancelled() => return,
        };
        let lost = match granted {
            Ok(mut granted) => {
                backoff.reset();
                tell.send_replace(true);
                tracing::info!(key = options.key, lease = granted.id, "holding a lease");
                tokio::select! {
                    Err(lost) = renew(&options, &mut granted) => lost,
                    () = end.cancelled() => return revoke(&options, granted, &tell).await,
                }
            }
            Err(error) => error,
        };
        tell.send_replace(false);
        if backoff.failures() == 0 {
            tracing::warn!(key = options.key, %lost, "not holding the lease; taking it again");
        }
        tokio::select! {
            () = sleep(backoff.next()) => {}
            () = end.cancelled() => return,
        }
    }
}

async fn register(options: &LeaseOptions) -> Result<Granted, Lost> {
    let mut client = etcd::connect(&options.endpoints).await?;
    let ttl_s = i64::from(options.ttl_s);
    let id = etcd::within("grant a lease", client.lease_grant(ttl_s, None)).await?.id();
    let with_lease = Some(PutOptions::new().with_lease(id));
    let (key, value) = (options.key.as_str(), options.value.clone());
    etcd::within("put a leased key", client.put(key, value, with_lease)).await?;
    let (keeper, answers) = etcd::within("keep a lease", client.lease_keep_alive(id)).await?;
    Ok(Granted { client, id, keeper, answers })
}

/// Renews the lease until it is lost.
async fn renew(
    options: &LeaseOptions,
    granted: &mut Granted,
) -> Result<std::convert::Infallible, Lost> {
    let pause = Duration::from_secs(u64::from(options.ttl_s)) / RENEWALS;
    loop {
        sleep(pause).await;
        etcd::within("renew a lease", granted.keeper.keep_alive()).await?;
        let answer = etcd::within("renew a lease", granted.answers.message()).await?;
        if answer.ok_or(Lost::Ended)?.ttl() <= 0 {
            return Err(Lost::Expired);
        }
        // Some versions of etcd renew a lease that they have revoked: only the key counts.
        let found =
            etcd::within("read a leased key", granted.client.get(options.key.as_str(), None));
        if found.await?.kvs().first().is_none_or(|kv| kv.lease() != granted.id) {
            return Err(Lost::Taken);
        }
    }
}

/// Gives the key back now, so that nobody waits for the lease to run out.
async fn revoke(options: &LeaseOptions, mut granted: Granted, tell: &watch::Sender<bool>) {
    tell.send_replace(false);
    match etcd::within("revoke a lease", granted.client.lease_revoke(granted.id)).await {
        Ok(_) => tracing::info!(key = options.key, "gave a lease back"),
        Err(error) => tracing::warn!(key = options.key, %error, "a lease was left to run out"),
    }
}
