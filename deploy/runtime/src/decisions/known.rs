//! How what is known grows: by lists, by events, and by re-reads. Decides, and does no IO.
//!
//! Three facts keep it from going back. An entry is replaced only by one that was written later.
//! A read from before what the watch has told is not used. And an event that is older than a read
//! which covered its key is skipped, because the read has seen what came of it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::snapshot::{Entry, Snapshot};

/// Reads older than what is known, one after the other, before it is believed that etcd itself
/// went back (it was restored from a backup) rather than that one member lags.
pub(super) const BEHIND_MAX: u32 = 5;

/// Reads ahead of the watch that are remembered. Beyond that the oldest is forgotten, and an event
/// it would have skipped shows a state that the next event ends.
const FLOORS_MAX: usize = 64;

/// The keys from `from` up to but not including `to`. Etcd's keys are bytes; those that are no text
/// are not taken, but a page can end at one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: Vec<u8>,
    pub(super) to: Vec<u8>,
}

impl Range {
    pub(super) fn contains(&self, key: &str) -> bool {
        self.from.as_slice() <= key.as_bytes() && key.as_bytes() < self.to.as_slice()
    }

    /// A text that is not above `from`, and no key of the range is below it.
    fn floor(&self) -> &str {
        self.from.utf8_chunks().next().map_or("", |chunk| chunk.valid())
    }
}

/// Everything that etcd had in a range at a revision.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) range: Range,
    pub(super) cluster: u64,
    pub(super) revision: i64,
    pub(super) entries: BTreeMap<Arc<str>, Entry>,
}

/// One change of one key; no value means that it was deleted.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) key: Arc<str>,
    pub(super) mod_revision: i64,
    pub(super) value: Option<bytes::Bytes>,
}

/// How an etcd relates to what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum History {
    /// It goes on from what is known.
    Same,
    /// It does not know yet what is known here: it lags, or lost what it had.
    Behind,
    /// It is another cluster, or one that was set back: what is known did not happen there.
    Other,
}

#[derive(Debug)]
pub(super) struct Known {
    entries: BTreeMap<Arc<str>, Entry>,
    /// The watch has told, or a list has shown, everything up to here.
    seen: i64,
    /// The latest revision that anything here is from; re-reads run ahead of the watch.
    newest: i64,
    /// 0 before anything is known.
    cluster: u64,
    floors: Vec<(Range, i64)>,
    behind: u32,
}

impl Known {
    pub(super) fn new(snapshot: Snapshot) -> Self {
        let written = snapshot.entries().values().map(|entry| entry.mod_revision).max();
        Self {
            seen: snapshot.revision(),
            newest: snapshot.revision().max(written.unwrap_or(0)),
            cluster: snapshot.cluster(),
            entries: snapshot.entries().clone(),
            floors: Vec::new(),
            behind: 0,
        }
    }

    pub(super) fn seen(&self) -> i64 {
        self.seen
    }

    pub(super) fn newest(&self) -> i64 {
        self.newest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.entries.clone(), self.seen, self.cluster)
    }

    /// Judges an etcd by the header of one of its answers.
    pub(super) fn judge(&mut self, cluster: u64, revision: i64) -> History {
        if self.cluster != 0 && cluster != self.cluster {
            return History::Other;
        }
        if revision >= self.newest {
            self.behind = 0;
            return History::Same;
        }
        self.behind += 1;
        if self.behind < BEHIND_MAX { History::Behind } else { History::Other }
    }

    /// Begins a new history: forgets everything for what another etcd has. The caller has made sure
    /// that it has something.
    pub(super) fn adopt(&mut self, reads: Vec<Read>) {
        *self = Self::new(Snapshot::default());
        self.list(reads);
    }

    /// Takes a list of all ranges at one revision, which is not behind. Says whether anything changed.
    pub(super) fn list(&mut self, reads: Vec<Read>) -> bool {
        let mut changed = false;
        for read in reads {
            let (revision, cluster) = (read.revision, read.cluster);
            changed |= self.read(read).changed;
            changed |= self.seen != revision;
            self.seen = revision;
            self.cluster = cluster;
        }
        self.floors.clear();
        changed
    }

    /// Takes a re-read that is not behind.
    pub(super) fn read(&mut self, read: Read) -> Outcome {
        let Read { range, revision, entries, .. } = read;
        self.newest = self.newest.max(revision);
        let mut outcome = Outcome::default();
        let gone: Vec<Arc<str>> = self
            .entries
            .range::<str, _>((Bound::Included(range.floor()), Bound::Unbounded))
            .take_while(|(key, _)| key.as_bytes() < range.to.as_slice())
            .filter(|(key, entry)| range.contains(key) && entry.mod_revision <= revision)
            .filter(|(key, _)| !entries.contains_key(*key))
            .map(|(key, _)| Arc::clone(key))
            .collect();
        for key in gone {
            self.entries.remove(&key);
            outcome.changed = true;
            outcome.repaired += 1;
        }
        for (key, entry) in entries {
            let known = self.entries.get(&key).map_or(0, |known| known.mod_revision);
            if known < entry.mod_revision {
                outcome.changed = true;
                outcome.repaired += u64::from(entry.mod_revision <= self.seen);
                self.entries.insert(key, entry);
            }
        }
        if revision > self.seen {
            self.floors.retain(|(floor, _)| floor.from < range.from || range.to < floor.to);
            if self.floors.len() >= FLOORS_MAX {
                self.floors.remove(0);
            }
            self.floors.push((range, revision));
        }
        outcome
    }

    /// Takes the events of one answer of the watch, in their order; the answer told everything up
    /// to `told`. Says whether anything changed.
    pub(super) fn events(&mut self, events: Vec<Event>, told: i64) -> bool {
        let mut changed = false;
        for event in events {
            changed |= self.event(event);
        }
        self.seen = self.seen.max(told);
        self.newest = self.newest.max(told);
        let seen = self.seen;
        self.floors.retain(|(_, revision)| *revision > seen);
        changed
    }

    fn event(&mut self, event: Event) -> bool {
        let Event { key, mod_revision, value } = event;
        let covered =
            |(range, floor): &(Range, i64)| *floor >= mod_revision && range.contains(&key);
        let known = self.entries.get(&key).map_or(0, |known| known.mod_revision);
        if known >= mod_revision || self.floors.iter().any(covered) {
            return false;
        }
        let Some(value) = value else { return self.entries.remove(&key).is_some() };
        self.entries.insert(key, Entry { value, mod_revision });
        true
    }
}

/// What a re-read brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) changed: bool,
    /// Keys that the watch should have told of and did not. A deletion that the read saw before the
    /// watch could tell is among them, for it cannot be told apart.
    pub(super) repaired: u64,
}

#[cfg(test)]
mod tests;
