//! The last decisions this process has seen: what the control plane wrote to etcd, kept at hand.
//!
//! Promises: a reader never waits, for etcd or for anybody. A process starts, and goes on, with what
//! it saw last, from disk if need be; nothing known is forgotten because etcd is away, failed, or
//! empty for no reason. What is known never goes back to something older.
//!
//! The order of things is etcd's: all keys are listed at one revision, then one watch covers them all
//! and resumes where it broke, so that what was written in one transaction arrives at once. Since
//! etcd can lose events, what was listed is read again and again, at a steady pace: hot prefixes
//! whole, the rest page by page.
//!
//! It does not understand values, and does not judge how old is too old: that is for the reader
//! ([`Decisions::age`]).

mod file;
mod follow;
mod known;
mod read;
mod snapshot;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::drain::Drain;
use crate::metric::{Counter, Metrics};

pub use snapshot::{Entry, Snapshot};

/// What to follow, and how.
#[derive(Clone, Debug)]
pub struct DecisionsOptions {
    /// Etcd's client addresses, like `http://host:2379`.
    pub endpoints: Vec<String>,
    /// The keys to follow.
    pub prefixes: Vec<Prefix>,
    /// Where the snapshot is kept over a restart; without one it is not kept.
    pub snapshot_file: Option<PathBuf>,
    /// The time between two re-reads, give or take a fifth.
    pub reread_every: Duration,
}

impl DecisionsOptions {
    /// Follows `prefixes` of the etcd at `endpoints`, re-reading every five seconds, without a file.
    pub fn new(endpoints: Vec<String>, prefixes: Vec<Prefix>) -> Self {
        Self { endpoints, prefixes, snapshot_file: None, reread_every: Duration::from_secs(5) }
    }
}

/// Keys that begin alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    key: String,
    hot: bool,
}

impl Prefix {
    /// Keys under `key` (`/floodgate/v1/sales/`, ending in a slash), read again whole each time.
    pub fn hot(key: impl Into<String>) -> Self {
        Self { key: key.into(), hot: true }
    }

    /// Keys under `key`, read again one page each time.
    pub fn cold(key: impl Into<String>) -> Self {
        Self { key: key.into(), hot: false }
    }
}

/// The decisions cannot be followed as asked.
#[derive(Debug, thiserror::Error)]
pub enum DecisionsError {
    /// There is nothing to follow or nobody to ask.
    #[error("decisions need an endpoint of etcd and a prefix; name at least one of each")]
    Nothing,
    /// A prefix cannot be followed.
    #[error("cannot follow the prefix {prefix:?}; make it ASCII and end it with a slash")]
    Prefix {
        /// What was given.
        prefix: String,
    },
}

/// The last decisions this process has seen. Clones share them.
#[derive(Clone, Debug)]
pub struct Decisions(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    snapshot: ArcSwap<Snapshot>,
    version: watch::Sender<u64>,
    contact: Mutex<Contact>,
    clock: Clock,
    heeded: Mutex<Vec<String>>,
}

/// When etcd last told us something: `age` before the instant `at`.
#[derive(Clone, Copy, Debug)]
struct Contact {
    at: Instant,
    age: Duration,
}

impl Decisions {
    /// Loads the snapshot file, if there is a sound one, and starts to follow etcd until the drain
    /// begins. Does not wait for etcd.
    pub async fn follow(
        options: DecisionsOptions,
        clock: Clock,
        metrics: &Metrics,
        drain: &Drain,
    ) -> Result<Self, DecisionsError> {
        let ranges = read::ranges(&options)?;
        let counters = Counters::new(metrics);
        let kept = match &options.snapshot_file {
            Some(path) => file::load(path, &ranges, &counters).await,
            None => None,
        };
        let kept = kept.unwrap_or_default();
        let age = clock.now_ms().saturating_sub(kept.contact_ms.unwrap_or(u64::MAX));
        let decisions = Self::new(kept.snapshot.clone(), Duration::from_millis(age), clock);
        decisions.export(metrics);
        if let Some(path) = options.snapshot_file.clone() {
            let (kept, token) = (decisions.clone(), drain.token());
            drain.spawn("decisions file", file::keep(path, kept, counters.clone(), token));
        }
        let follower =
            follow::Follower::new(options, ranges, kept.snapshot, decisions.clone(), counters);
        drain.spawn("decisions", follower.run(drain.token()));
        Ok(decisions)
    }

    /// Decisions that nobody changes, at revision 1. For tests of readers.
    pub fn fixed<K: Into<Arc<str>>, V: Into<Bytes>>(
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let entry = |value: V| Entry { value: value.into(), mod_revision: 1 };
        let entries = entries.into_iter().map(|(key, value)| (key.into(), entry(value)));
        let snapshot = Snapshot::new(entries.collect(), 1, 1);
        let decisions = Self::new(Snapshot::default(), Duration::ZERO, Clock::system());
        decisions.publish(snapshot);
        decisions
    }

    /// From now on reads keys under these prefixes again whole each time, too, and under those named before no more. They
    /// lie below followed prefixes and end in a slash; others are left out. For the few of many cold keys that count now.
    pub fn heed(&self, prefixes: Vec<String>) {
        *self.0.heeded.lock().unwrap_or_else(PoisonError::into_inner) = prefixes;
    }

    fn heeded(&self) -> Vec<String> {
        self.0.heeded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is known now. It does not change; take a new one for each piece of work.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot.load_full()
    }

    /// A receiver of the snapshot's version, a number that rises with every change.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    /// The revision of etcd up to which everything is in the snapshot; 0 if nothing was ever seen.
    pub fn revision(&self) -> i64 {
        self.0.snapshot.load().revision()
    }

    /// Whether anything was ever seen, in this life or, by the file, in an earlier one.
    pub fn is_known(&self) -> bool {
        self.revision() > 0
    }

    /// Whether etcd itself has told everything in this life of the process. Before that, what a snapshot lacks may have
    /// been decided since the file was written. Ask first and take the snapshot then.
    pub fn is_current(&self) -> bool {
        *self.0.version.borrow() > 0
    }

    /// The time since etcd last answered; since the start of the process if it never did.
    pub fn age(&self) -> Duration {
        let contact = *self.0.contact.lock().unwrap_or_else(PoisonError::into_inner);
        contact.age + contact.at.elapsed()
    }

    fn new(snapshot: Snapshot, age: Duration, clock: Clock) -> Self {
        Self(Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(snapshot),
            version: watch::Sender::new(0),
            contact: Mutex::new(Contact { at: Instant::now(), age }),
            clock,
            heeded: Mutex::default(),
        }))
    }

    fn export(&self, metrics: &Metrics) {
        let age = self.clone();
        metrics.observe(
            "floodgate_decisions_age_seconds",
            "Time since etcd last answered this process",
            &[],
            move || age.age().as_secs_f64(),
        );
        let current = self.clone();
        metrics.observe(
            "floodgate_decisions_current",
            "1 once etcd has told everything in this life of the process; 0 while it works from disk",
            &[],
            move || f64::from(u8::from(current.is_current())),
        );
        let keys = self.clone();
        metrics.observe(
            "floodgate_decisions_keys",
            "Keys of etcd that this process knows",
            &[],
            move || u32::try_from(keys.snapshot().len()).map_or(f64::MAX, f64::from),
        );
    }

    fn touch(&self) {
        *self.0.contact.lock().unwrap_or_else(PoisonError::into_inner) =
            Contact { at: Instant::now(), age: Duration::ZERO };
    }

    /// The wall time of the last contact, in unix milliseconds.
    fn contact_ms(&self) -> u64 {
        let age_ms = u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX);
        self.0.clock.now_ms().saturating_sub(age_ms)
    }

    /// Only what etcd told in this life comes here, beginning with a list of everything.
    fn publish(&self, snapshot: Snapshot) {
        self.0.snapshot.store(Arc::new(snapshot));
        self.0.version.send_modify(|version| *version += 1);
    }
}

/// What happens while decisions are followed.
#[derive(Clone, Debug)]
struct Counters {
    lists: Counter,
    rereads: Counter,
    failures: Counter,
    repaired: Counter,
    damaged: Counter,
}

impl Counters {
    fn new(metrics: &Metrics) -> Self {
        let count = |name, help| Counter::new(metrics, name, help, &[]);
        Self {
            lists: count("floodgate_decisions_lists_total", "Times that everything was listed"),
            rereads: count(
                "floodgate_decisions_rereads_total",
                "Times that the hot prefixes and a page of the others were read again",
            ),
            failures: count(
                "floodgate_decisions_failures_total",
                "Times that following etcd broke off and was begun again",
            ),
            repaired: count(
                "floodgate_decisions_repaired_total",
                "Keys that a re-read found different from what the watch had told",
            ),
            damaged: count(
                "floodgate_decisions_file_failures_total",
                "Snapshot files that were damaged or could not be written",
            ),
        }
    }
}
