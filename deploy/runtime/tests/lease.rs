//! A lease comes back whatever becomes of etcd, and goes when its process does.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

use std::time::Duration;

use etcd_client::Client;
use floodgate_runtime::drain::Drain;
use floodgate_runtime::lease::{Lease, LeaseOptions};
use local::{Stack, StackOptions};

#[path = "support/eventually.rs"]
mod eventually;
use eventually::eventually;

const KEY: &str = "/floodgate/v1/processes/cell-1/a";
const SOON: Duration = Duration::from_secs(20);

struct Rig {
    stack: Stack,
    endpoint: String,
}

impl Rig {
    async fn new() -> Self {
        let stack = Stack::new(StackOptions::default()).await.unwrap();
        let endpoint = stack.start_etcd().await.unwrap().url;
        Self { stack, endpoint }
    }

    fn keep(&self, drain: &Drain) -> Lease {
        let options = LeaseOptions {
            endpoints: vec![self.endpoint.clone()],
            key: KEY.to_owned(),
            value: b"here".to_vec(),
            ttl_s: 2,
        };
        Lease::keep(options, drain)
    }

    /// The lease of the key, if etcd has the key.
    async fn found(&self) -> Option<i64> {
        let mut client = Client::connect([self.endpoint.as_str()], None).await.unwrap();
        let found = client.get(KEY, None).await.unwrap();
        found.kvs().first().map(|kv| kv.lease())
    }

    async fn is_kept(&self, lease: &Lease) {
        eventually("the lease is held", SOON, async || lease.is_held()).await;
        assert!(self.found().await.is_some_and(|lease| lease > 0));
    }
}

#[tokio::test]
async fn it_outlives_its_time_to_live_and_is_given_back_at_the_end() {
    let rig = Rig::new().await;
    let drain = Drain::new();
    let lease = rig.keep(&drain);
    rig.is_kept(&lease).await;
    let first = rig.found().await;
    let start = std::time::Instant::now();
    eventually("two lives have passed", SOON, async || {
        assert_eq!(rig.found().await, first);
        start.elapsed() > Duration::from_secs(5)
    })
    .await;
    drain.finish(Duration::from_secs(5)).await.unwrap();
    assert!(!lease.is_held());
    assert_eq!(rig.found().await, None);
}

#[tokio::test]
async fn it_is_taken_again_after_etcd_was_killed() {
    let rig = Rig::new().await;
    let drain = Drain::new();
    let lease = rig.keep(&drain);
    rig.is_kept(&lease).await;
    rig.stack.kill("etcd").await.unwrap();
    eventually("the loss is noticed", SOON, async || !lease.is_held()).await;
    rig.stack.restart("etcd").await.unwrap();
    rig.is_kept(&lease).await;
    drain.finish(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn it_is_taken_again_after_etcd_was_paused() {
    let rig = Rig::new().await;
    let drain = Drain::new();
    let lease = rig.keep(&drain);
    rig.is_kept(&lease).await;
    rig.stack.pause("etcd").await.unwrap();
    eventually("the loss is noticed", SOON, async || !lease.is_held()).await;
    rig.stack.resume("etcd").await.unwrap();
    rig.stack.wait_ready("etcd").await.unwrap();
    rig.is_kept(&lease).await;
    drain.finish(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn it_is_taken_again_when_the_key_is_deleted_or_the_lease_revoked() {
    let rig = Rig::new().await;
    let drain = Drain::new();
    let lease = rig.keep(&drain);
    rig.is_kept(&lease).await;
    let mut client = Client::connect([rig.endpoint.as_str()], None).await.unwrap();
    let first = rig.found().await.unwrap();
    client.delete(KEY, None).await.unwrap();
    let again = async || rig.found().await.is_some_and(|found| found != first);
    eventually("the key is back", SOON, again).await;
    let second = rig.found().await.unwrap();
    client.lease_revoke(second).await.unwrap();
    let again = async || rig.found().await.is_some_and(|found| found != second);
    eventually("the key is back", SOON, again).await;
    drain.finish(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn the_end_does_not_wait_for_an_etcd_that_is_gone() {
    let rig = Rig::new().await;
    let drain = Drain::new();
    let lease = rig.keep(&drain);
    rig.is_kept(&lease).await;
    rig.stack.pause("etcd").await.unwrap();
    drain.finish(Duration::from_secs(5)).await.unwrap();
    assert!(!lease.is_held());
}
