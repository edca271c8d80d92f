//! Decisions outlive every way in which a real etcd can go away.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

use std::path::PathBuf;
use std::time::Duration;

use etcd_client::Client;
use floodgate_runtime::clock::Clock;
use floodgate_runtime::decisions::{Decisions, DecisionsOptions, Prefix};
use floodgate_runtime::drain::Drain;
use floodgate_runtime::metric::Metrics;
use local::{Stack, StackOptions};

#[path = "support/eventually.rs"]
mod eventually;
#[path = "support/gate.rs"]
mod gate;
use eventually::eventually;
use gate::Gate;

const SALES: &str = "/floodgate/v1/sales/";
const ORGS: &str = "/floodgate/v1/orgs/";
const SOON: Duration = Duration::from_secs(20);

/// A real etcd, and what follows it.
struct Rig {
    stack: Stack,
    endpoint: String,
    folder: tempfile::TempDir,
}

/// One life of a process that follows.
struct Life {
    decisions: Decisions,
    metrics: Metrics,
    drain: Drain,
}

impl Rig {
    async fn new() -> Self {
        let stack = Stack::new(StackOptions::default()).await.unwrap();
        let endpoint = stack.start_etcd().await.unwrap().url;
        Self { stack, endpoint, folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("decisions")
    }

    async fn live(&self) -> Life {
        let prefixes = vec![Prefix::hot(SALES), Prefix::cold(ORGS)];
        let mut options = DecisionsOptions::new(vec![self.endpoint.clone()], prefixes);
        options.snapshot_file = Some(self.file());
        options.reread_every = Duration::from_millis(500);
        let metrics = Metrics::new("test", "0").unwrap();
        let drain = Drain::new();
        let clock = Clock::system();
        let decisions = Decisions::follow(options, clock, &metrics, &drain).await.unwrap();
        Life { decisions, metrics, drain }
    }

    async fn client(&self) -> Client {
        Client::connect([self.endpoint.as_str()], None).await.unwrap()
    }

    async fn put(&self, key: &str, value: &str) {
        self.client().await.put(key, value, None).await.unwrap();
    }
}

impl Life {
    fn value(&self, key: &str) -> Option<String> {
        let snapshot = self.decisions.snapshot();
        snapshot.get(key).map(|entry| String::from_utf8(entry.value.to_vec()).unwrap())
    }

    async fn sees(&self, key: &str, value: Option<&str>) {
        let seen = async || self.value(key).as_deref() == value;
        eventually(&format!("{key} is {value:?}"), SOON, seen).await;
    }

    /// What a counter or gauge without labels stands at.
    fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.text().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    async fn end(self) {
        self.drain.finish(Duration::from_secs(5)).await.unwrap();
    }
}

fn sale(n: usize) -> String {
    format!("{SALES}{n:04}")
}

#[tokio::test]
async fn changes_arrive_as_they_are_made_and_only_of_the_prefixes() {
    let rig = Rig::new().await;
    rig.put(&sale(1), "a").await;
    rig.put("/floodgate/v1/other/1", "x").await;
    let life = rig.live().await;
    let mut changed = life.decisions.changed();
    life.sees(&sale(1), Some("a")).await;
    changed.wait_for(|version| *version > 0).await.unwrap();
    rig.put(&sale(1), "b").await;
    rig.put("/floodgate/v1/other/2", "y").await;
    rig.put(&format!("{ORGS}acme"), "org").await;
    life.sees(&sale(1), Some("b")).await;
    life.sees(&format!("{ORGS}acme"), Some("org")).await;
    rig.client().await.delete(sale(1), None).await.unwrap();
    life.sees(&sale(1), None).await;
    assert_eq!(life.decisions.snapshot().len(), 1);
    assert!(life.decisions.age() < SOON);
    life.end().await;
}

#[tokio::test]
async fn everything_is_listed_however_many_pages_it_takes() {
    let rig = Rig::new().await;
    let mut client = rig.client().await;
    for n in 0..700 {
        client.put(sale(n), n.to_string(), None).await.unwrap();
        client.put(format!("{ORGS}{n:04}"), n.to_string(), None).await.unwrap();
    }
    let life = rig.live().await;
    eventually("all keys are known", SOON, async || life.decisions.snapshot().len() == 1_400).await;
    assert_eq!(life.decisions.snapshot().prefix(SALES).count(), 700);
    assert_eq!(life.value(&sale(699)).unwrap(), "699");
    // Once through all cold pages, and again from the first: nothing is mended, and nothing lost.
    eventually("the pages are walked", SOON, async || {
        life.metric("floodgate_decisions_rereads_total") >= 5.0
    })
    .await;
    assert_eq!(life.metric("floodgate_decisions_repaired_total"), 0.0);
    assert_eq!(life.metric("floodgate_decisions_keys"), 1_400.0);
    life.end().await;
}

#[tokio::test]
async fn a_process_starts_from_disk_when_etcd_is_gone() {
    let rig = Rig::new().await;
    rig.put(&sale(1), "a").await;
    let life = rig.live().await;
    life.sees(&sale(1), Some("a")).await;
    let revision = life.decisions.revision();
    life.end().await;

    let life = rig.live().await;
    let mut changed = life.decisions.changed();
    let told = changed.wait_for(|version| *version > 0);
    tokio::time::timeout(SOON, told).await.expect("what did not change is told once").unwrap();
    assert!(life.decisions.is_current());
    life.end().await;
    rig.stack.kill("etcd").await.unwrap();

    let life = rig.live().await;
    assert!(life.decisions.is_known() && !life.decisions.is_current());
    assert_eq!(life.metric("floodgate_decisions_current"), 0.0);
    assert_eq!(life.value(&sale(1)).as_deref(), Some("a"));
    assert_eq!(life.decisions.revision(), revision);
    eventually("the age grows", SOON, async || {
        life.decisions.age() > Duration::from_secs(1)
            && life.metric("floodgate_decisions_age_seconds") > 1.0
    })
    .await;
    eventually("it tries", SOON, async || life.metric("floodgate_decisions_failures_total") > 1.0)
        .await;
    assert_eq!(life.value(&sale(1)).as_deref(), Some("a"));
    assert!(!life.decisions.is_current());

    rig.stack.restart("etcd").await.unwrap();
    rig.put(&sale(2), "b").await;
    life.sees(&sale(2), Some("b")).await;
    assert_eq!(life.value(&sale(1)).as_deref(), Some("a"));
    assert!(life.decisions.is_current());
    assert_eq!(life.metric("floodgate_decisions_current"), 1.0);
    life.end().await;
}

#[tokio::test]
async fn the_watch_goes_on_where_it_broke_after_a_kill() {
    let rig = Rig::new().await;
    rig.put(&sale(1), "a").await;
    let life = rig.live().await;
    life.sees(&sale(1), Some("a")).await;
    for n in 2..5 {
        rig.stack.kill("etcd").await.unwrap();
        assert_eq!(life.value(&sale(1)).as_deref(), Some("a"));
        rig.stack.restart("etcd").await.unwrap();
        rig.put(&sale(n), "b").await;
        life.sees(&sale(n), Some("b")).await;
    }
    assert_eq!(life.metric("floodgate_decisions_lists_total"), 1.0, "it resumed by revision");
    life.end().await;
}

#[tokio::test]
async fn a_paused_etcd_is_noticed_and_followed_again() {
    let rig = Rig::new().await;
    rig.put(&sale(1), "a").await;
    let life = rig.live().await;
    life.sees(&sale(1), Some("a")).await;
    rig.stack.pause("etcd").await.unwrap();
    eventually("the pause is noticed", SOON, async || {
        life.metric("floodgate_decisions_failures_total") >= 1.0
    })
    .await;
    assert!(life.decisions.age() > Duration::from_secs(2));
    assert_eq!(life.value(&sale(1)).as_deref(), Some("a"));
    rig.stack.resume("etcd").await.unwrap();
    rig.stack.wait_ready("etcd").await.unwrap();
    rig.put(&sale(1), "b").await;
    life.sees(&sale(1), Some("b")).await;
    eventually("contact", SOON, async || life.decisions.age() < Duration::from_secs(1)).await;
    life.end().await;
}

#[tokio::test]
async fn what_was_compacted_away_while_disconnected_is_listed() {
    let mut rig = Rig::new().await;
    rig.put(&sale(1), "a").await;
    rig.put(&sale(2), "a").await;
    let mut gate = Gate::open(rig.stack.endpoint("etcd").unwrap().address).await;
    let direct = std::mem::replace(&mut rig.endpoint, format!("http://{}", gate.address));
    let life = rig.live().await;
    rig.endpoint = direct;
    life.sees(&sale(2), Some("a")).await;
    gate.shut();
    eventually("the break is noticed", SOON, async || {
        life.metric("floodgate_decisions_failures_total") >= 1.0
    })
    .await;
    let mut client = rig.client().await;
    client.delete(sale(1), None).await.unwrap();
    client.put(sale(2), "b", None).await.unwrap();
    let put = client.put(sale(2), "c", None).await.unwrap();
    client.compact(put.header().unwrap().revision(), None).await.unwrap();
    gate.reopen().await;
    life.sees(&sale(2), Some("c")).await;
    assert_eq!(life.value(&sale(1)), None);
    assert_eq!(life.metric("floodgate_decisions_lists_total"), 2.0);
    rig.put(&sale(3), "d").await;
    life.sees(&sale(3), Some("d")).await;
    life.end().await;
}

#[tokio::test]
async fn a_damaged_file_is_reported_and_ignored() {
    let rig = Rig::new().await;
    rig.put(&sale(1), "a").await;
    let life = rig.live().await;
    life.sees(&sale(1), Some("a")).await;
    life.end().await;
    let mut bytes = std::fs::read(rig.file()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(rig.file(), &bytes).unwrap();
    rig.stack.kill("etcd").await.unwrap();

    let life = rig.live().await;
    assert!(!life.decisions.is_known());
    assert_eq!(life.metric("floodgate_decisions_file_failures_total"), 1.0);
    rig.stack.restart("etcd").await.unwrap();
    life.sees(&sale(1), Some("a")).await;
    life.end().await;

    rig.stack.kill("etcd").await.unwrap();
    let life = rig.live().await;
    assert_eq!(life.value(&sale(1)).as_deref(), Some("a"), "the damaged file was replaced");
    life.end().await;
}

#[tokio::test]
async fn an_etcd_that_lost_everything_erases_nothing_until_it_has_something() {
    let rig = Rig::new().await;
    rig.put(&sale(1), "a").await;
    for _ in 0..20 {
        rig.put(&sale(2), "b").await;
    }
    let life = rig.live().await;
    life.sees(&sale(2), Some("b")).await;
    rig.stack.kill("etcd").await.unwrap();
    std::fs::remove_dir_all(rig.stack.folder().join("etcd/data")).unwrap();
    rig.stack.restart("etcd").await.unwrap();
    let failures = life.metric("floodgate_decisions_failures_total");
    eventually("it keeps to what it knows", SOON * 2, async || {
        life.metric("floodgate_decisions_failures_total") > failures + 7.0
    })
    .await;
    assert_eq!(life.value(&sale(1)).as_deref(), Some("a"));
    rig.put(&sale(3), "c").await;
    life.sees(&sale(3), Some("c")).await;
    assert_eq!(life.value(&sale(1)), None);
    life.end().await;
}
