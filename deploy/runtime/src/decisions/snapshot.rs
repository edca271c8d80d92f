//! What was known at one moment.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

/// The value of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What was written.
    pub value: Bytes,
    /// The revision of etcd at which it was written: a fencing number that only rises per key.
    pub mod_revision: i64,
}

/// Keys and values at one moment; it never changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    entries: BTreeMap<Arc<str>, Entry>,
    revision: i64,
    cluster: u64,
}

impl Snapshot {
    pub(super) fn new(entries: BTreeMap<Arc<str>, Entry>, revision: i64, cluster: u64) -> Self {
        Self { entries, revision, cluster }
    }

    /// The entry of `key`.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// The entries whose keys begin with `prefix`, in the order of their keys.
    pub fn prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        self.entries
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, entry)| (&**key, entry))
    }

    /// The revision of etcd up to which everything is in here; 0 if nothing was ever seen.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The id of the etcd cluster that told it.
    pub(super) fn cluster(&self) -> u64 {
        self.cluster
    }

    pub(super) fn entries(&self) -> &BTreeMap<Arc<str>, Entry> {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_the_keys_that_begin_with_it() {
        let entry = |n: i64| Entry { value: Bytes::from_static(b"x"), mod_revision: n };
        let keys = ["/a/1", "/b", "/b/1", "/b/2", "/b0", "/c/1"];
        let entries = keys.iter().zip(1..).map(|(key, n)| (Arc::from(*key), entry(n))).collect();
        let snapshot = Snapshot::new(entries, 9, 1);
        let found: Vec<_> = snapshot.prefix("/b/").map(|(key, _)| key).collect();
        assert_eq!(found, ["/b/1", "/b/2"]);
        assert_eq!(snapshot.get("/b0").unwrap().mod_revision, 5);
        assert_eq!((snapshot.len(), snapshot.revision()), (6, 9));
    }
}
