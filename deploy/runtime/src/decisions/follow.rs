//! Following etcd: connect, list, watch, re-read, and begin again when it breaks.

use std::time::Duration;

use etcd_client::{Client, WatchResponse, WatchStream};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::known::{History, Known, Range, Read};
use super::snapshot::Snapshot;
use super::{Counters, Decisions, DecisionsOptions, read};
use crate::backoff::Backoff;
use crate::etcd::{self, EtcdError};

#[derive(Debug)]
pub(super) struct Follower {
    options: DecisionsOptions,
    ranges: Vec<Range>,
    cover: Range,
    known: Known,
    /// Whether this process has listed everything: then the watch can go on where it broke.
    listed: bool,
    /// Where the next page of the cold prefixes begins: the number of the range, and the key.
    cold_at: (usize, Option<Vec<u8>>),
    decisions: Decisions,
    counters: Counters,
    backoff: Backoff,
}

/// Why following broke off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    #[error("the watch broke: {0}")]
    Watch(#[source] Box<etcd_client::Error>),
    #[error("etcd ended the watch: {reason}")]
    Ended { reason: String },
    #[error("etcd is at revision {revision}, but {known} was seen before; it lags or lost data")]
    Behind { revision: i64, known: i64 },
    #[error("this is another etcd, or one that was set back")]
    Other,
    #[error(
        "this is another etcd, or one that was set back, and it is empty; keeping what is known"
    )]
    OtherAndEmpty,
}

/// How a watch goes on after an answer.
enum Watch {
    GoesOn,
    /// It asked for what etcd has thrown away.
    Compacted,
}

impl Follower {
    pub(super) fn new(
        options: DecisionsOptions,
        ranges: Vec<Range>,
        kept: Snapshot,
        decisions: Decisions,
        counters: Counters,
    ) -> Self {
        Self {
            cover: read::cover(&ranges),
            known: Known::new(kept),
            listed: false,
            cold_at: (0, None),
            backoff: Backoff::default(),
            options,
            ranges,
            decisions,
            counters,
        }
    }

    /// Follows until `end`.
    pub(super) async fn run(mut self, end: CancellationToken) {
        loop {
            let broken = tokio::select! {
                Err(broken) = self.follow() => broken,
                () = end.cancelled() => return,
            };
            self.counters.failures.add(1);
            if self.backoff.failures() == 0 {
                tracing::warn!(%broken, age = ?self.decisions.age(), "not following etcd; trying again");
            } else {
                tracing::debug!(%broken, failures = self.backoff.failures(), "still not following etcd");
            }
            tokio::select! {
                () = sleep(self.backoff.next()) => {}
                () = end.cancelled() => return,
            }
        }
    }

    /// Follows over one connection. Returns only when it breaks.
    async fn follow(&mut self) -> Result<std::convert::Infallible, Broken> {
        let client = etcd::connect(&self.options.endpoints).await?;
        let head = read::head(&client, &self.cover).await?;
        self.decisions.touch();
        let history = self.known.judge(head.cluster, head.revision);
        if history == History::Behind {
            return Err(Broken::Behind { revision: head.revision, known: self.known.newest() });
        }
        if history == History::Other || !self.listed {
            self.list(&client, history).await?;
        }
        let mut watch = self.watch(&client).await?;
        if self.backoff.failures() > 0 {
            tracing::info!(revision = self.known.seen(), "following etcd again");
        }
        self.backoff.reset();
        let mut reread_at = self.next_reread();
        loop {
            tokio::select! {
                answer = watch.message() => {
                    let answer = answer.map_err(|error| Broken::Watch(Box::new(error)))?;
                    self.decisions.touch();
                    if let Watch::Compacted = self.take(answer)? {
                        self.list(&client, History::Same).await?;
                        watch = self.watch(&client).await?;
                    }
                }
                () = sleep_until(reread_at) => {
                    self.reread(&client).await?;
                    reread_at = self.next_reread();
                }
            }
        }
    }

    /// Reads everything at one revision.
    async fn list(&mut self, client: &Client, history: History) -> Result<(), Broken> {
        let mut reads: Vec<Read> = Vec::with_capacity(self.ranges.len());
        for range in &self.ranges {
            let revision = reads.first().map(|first| first.revision);
            reads.push(read::whole(client, range, revision).await?);
        }
        self.decisions.touch();
        self.counters.lists.add(1);
        let keys: usize = reads.iter().map(|read| read.entries.len()).sum();
        let revision = reads.first().map_or(0, |first| first.revision);
        let changed = if history == History::Other {
            if keys == 0 && !self.known.is_empty() {
                return Err(Broken::OtherAndEmpty);
            }
            tracing::warn!(
                keys,
                revision,
                known = self.known.seen(),
                "another etcd; taking what it has"
            );
            self.known.adopt(reads);
            true
        } else {
            self.check(reads.first())?;
            self.known.list(reads)
        };
        // The first list is told even when it says what the file said: from now on it is certain.
        let first = !std::mem::replace(&mut self.listed, true);
        if changed || first {
            self.publish();
        }
        tracing::info!(keys, revision, "listed etcd");
        Ok(())
    }

    async fn watch(&self, client: &Client) -> Result<WatchStream, EtcdError> {
        read::watch(client, &self.cover, self.known.seen() + 1).await
    }

    /// Takes an answer of the watch; none when the stream ended.
    fn take(&mut self, answer: Option<WatchResponse>) -> Result<Watch, Broken> {
        let Some(answer) = answer else {
            return Err(Broken::Ended { reason: "the stream was closed".to_owned() });
        };
        if answer.compact_revision() > 0 {
            let (compacted, seen) = (answer.compact_revision(), self.known.seen());
            tracing::info!(compacted, seen, "etcd has thrown away what came next; listing again");
            return Ok(Watch::Compacted);
        }
        if answer.canceled() {
            return Err(Broken::Ended { reason: answer.cancel_reason().to_owned() });
        }
        let wanted = |key: &str| self.ranges.iter().any(|range| range.contains(key));
        let told = answer.events().iter().filter_map(|event| event.kv());
        let told = told.map(etcd_client::KeyValue::mod_revision).max().unwrap_or(0);
        let events = answer.events().iter().filter_map(read::event);
        let events: Vec<_> = events.filter(|event| wanted(&event.key)).collect();
        if self.known.events(events, told) {
            self.publish();
        }
        Ok(Watch::GoesOn)
    }

    /// Reads the hot prefixes and what is heeded whole, and one page of the others.
    async fn reread(&mut self, client: &Client) -> Result<(), Broken> {
        let hot = self.options.prefixes.iter().zip(&self.ranges).filter(|(prefix, _)| prefix.hot);
        let hot: Vec<Range> = hot.map(|(_, range)| range.clone()).collect();
        let heeded = read::inside(&self.ranges, &self.decisions.heeded());
        for range in hot.iter().chain(&heeded) {
            let read = read::whole(client, range, None).await?;
            self.repair(read)?;
        }
        if let Some(range) = self.next_cold() {
            let (read, more) = read::page(client, &range, None).await?;
            self.cold_at = match more {
                true => (self.cold_at.0, Some(read.range.to.clone())),
                false => (self.cold_at.0 + 1, None),
            };
            self.repair(read)?;
        }
        self.decisions.touch();
        self.counters.rereads.add(1);
        Ok(())
    }

    fn repair(&mut self, read: Read) -> Result<(), Broken> {
        self.check(Some(&read))?;
        let from = read.range.from.clone();
        let outcome = self.known.read(read);
        if outcome.repaired > 0 {
            self.counters.repaired.add(outcome.repaired);
            let from = from.escape_ascii();
            tracing::warn!(
                %from,
                keys = outcome.repaired,
                "a re-read found what the watch did not tell"
            );
        }
        if outcome.changed {
            self.publish();
        }
        Ok(())
    }

    /// A read can come from another member than the one before.
    fn check(&mut self, read: Option<&Read>) -> Result<(), Broken> {
        let Some(&Read { cluster, revision, .. }) = read else { return Ok(()) };
        match self.known.judge(cluster, revision) {
            History::Same => Ok(()),
            History::Behind => Err(Broken::Behind { revision, known: self.known.newest() }),
            History::Other => Err(Broken::Other),
        }
    }

    /// What is left of the cold range whose turn it is.
    fn next_cold(&mut self) -> Option<Range> {
        let cold: Vec<&Range> = self
            .options
            .prefixes
            .iter()
            .zip(&self.ranges)
            .filter(|(prefix, _)| !prefix.hot)
            .map(|(_, range)| range)
            .collect();
        if self.cold_at.0 >= cold.len() {
            self.cold_at = (0, None);
        }
        let range = cold.get(self.cold_at.0)?;
        let from = self.cold_at.1.clone().unwrap_or_else(|| range.from.clone());
        Some(Range { from, to: range.to.clone() })
    }

    /// Not all processes at the same moment.
    fn next_reread(&self) -> Instant {
        let pause: Duration = self.options.reread_every.mul_f64(rand::random_range(0.8..1.2));
        Instant::now() + pause
    }

    fn publish(&self) {
        self.decisions.publish(self.known.snapshot());
    }
}
