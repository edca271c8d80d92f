//! Whatever etcd does, what is known only goes forward, and ends where etcd is.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const CLUSTER: u64 = 7;
const KEYS: [&str; 5] = ["/s/a", "/s/b", "/s/c", "/s/d", "/s/e"];

fn range(from: &str, to: &str) -> Range {
    Range { from: from.into(), to: to.into() }
}

fn put(key: &str, mod_revision: i64) -> Event {
    Event { key: key.into(), mod_revision, value: Some(Bytes::from(mod_revision.to_string())) }
}

fn deleted(key: &str, mod_revision: i64) -> Event {
    Event { key: key.into(), mod_revision, value: None }
}

fn read(range: Range, revision: i64, entries: &[(&str, i64)]) -> Read {
    let entry = |(key, mod_revision): &(&str, i64)| {
        let value = Bytes::from(mod_revision.to_string());
        (Arc::from(*key), Entry { value, mod_revision: *mod_revision })
    };
    Read { range, cluster: CLUSTER, revision, entries: entries.iter().map(entry).collect() }
}

fn listed(revision: i64, entries: &[(&str, i64)]) -> Known {
    let mut known = Known::new(Snapshot::default());
    assert_eq!(known.judge(CLUSTER, revision), History::Same);
    known.list(vec![read(range("/s/", "/s0"), revision, entries)]);
    known
}

fn keys(known: &Known) -> Vec<(String, i64)> {
    let snapshot = known.snapshot();
    snapshot.prefix("").map(|(key, entry)| (key.to_owned(), entry.mod_revision)).collect()
}

#[test]
fn an_event_older_than_what_is_known_changes_nothing() {
    let mut known = listed(10, &[("/s/a", 9)]);
    assert!(!known.events(vec![put("/s/a", 8), deleted("/s/a", 9)], 9));
    assert_eq!(keys(&known), [("/s/a".to_owned(), 9)]);
    assert_eq!(known.seen(), 10);
}

#[test]
fn a_reread_repairs_what_the_watch_lost() {
    let mut known = listed(10, &[("/s/a", 3), ("/s/b", 4)]);
    known.events(vec![put("/s/c", 15)], 15);
    let outcome = known.read(read(range("/s/", "/s0"), 15, &[("/s/b", 12), ("/s/c", 15)]));
    assert_eq!(outcome, Outcome { changed: true, repaired: 2 });
    assert_eq!(keys(&known), [("/s/b".to_owned(), 12), ("/s/c".to_owned(), 15)]);
}

#[test]
fn a_page_says_nothing_about_keys_outside_of_it() {
    let mut known = listed(10, &[("/s/a", 3), ("/s/b", 4), ("/s/c", 5)]);
    let outcome = known.read(read(range("/s/a\0", "/s/c"), 10, &[]));
    assert_eq!(outcome, Outcome { changed: true, repaired: 1 });
    assert_eq!(keys(&known), [("/s/a".to_owned(), 3), ("/s/c".to_owned(), 5)]);
}

#[test]
fn a_page_can_end_at_a_key_that_is_no_text() {
    let mut known = listed(10, &[("/s/a", 3), ("/s/b", 4)]);
    let odd = Range { from: b"/s/a\xff\0".to_vec(), to: b"/s0".to_vec() };
    known.read(read(odd, 10, &[]));
    assert_eq!(keys(&known), [("/s/a".to_owned(), 3)]);
}

#[test]
fn the_watch_that_lags_behind_a_reread_does_not_undo_it() {
    let mut known = listed(10, &[]);
    // Written at 11 and deleted at 12, both before the read.
    known.read(read(range("/s/", "/s0"), 12, &[]));
    assert!(!known.events(vec![put("/s/a", 11)], 11));
    assert!(keys(&known).is_empty());
    assert!(!known.events(vec![deleted("/s/a", 12)], 12));
    assert!(known.events(vec![put("/s/a", 13)], 13));
    assert_eq!(keys(&known), [("/s/a".to_owned(), 13)]);
}

#[test]
fn an_etcd_that_lags_is_not_believed_until_it_insists() {
    let mut known = listed(10, &[("/s/a", 9)]);
    for _ in 1..BEHIND_MAX {
        assert_eq!(known.judge(CLUSTER, 9), History::Behind);
    }
    assert_eq!(known.judge(CLUSTER, 10), History::Same);
    for _ in 1..BEHIND_MAX {
        assert_eq!(known.judge(CLUSTER, 9), History::Behind);
    }
    assert_eq!(known.judge(CLUSTER, 9), History::Other);
    known.adopt(vec![read(range("/s/", "/s0"), 5, &[("/s/b", 4)])]);
    assert_eq!(keys(&known), [("/s/b".to_owned(), 4)]);
    assert_eq!(known.judge(CLUSTER, 5), History::Same);
    assert_eq!(known.judge(CLUSTER + 1, 500), History::Other);
}

/// What etcd had, revision by revision.
struct Etcd {
    events: Vec<Event>,
}

impl Etcd {
    fn write(&mut self, random: &mut StdRng) {
        let key = KEYS[random.random_range(0..KEYS.len())];
        let revision = self.revision() + 1;
        let exists = self.state(key, self.revision()).is_some();
        let event = if exists && random.random_bool(0.4) { deleted } else { put };
        self.events.push(event(key, revision));
    }

    fn revision(&self) -> i64 {
        i64::try_from(self.events.len()).unwrap() + 1
    }

    /// The revision at which the key was written last, if it existed at `revision`.
    fn state(&self, key: &str, revision: i64) -> Option<i64> {
        let events = self.events.iter().take_while(|event| event.mod_revision <= revision);
        let last = events.filter(|event| &*event.key == key).last()?;
        last.value.as_ref().map(|_| last.mod_revision)
    }

    fn read(&self, from: usize, to: usize, revision: i64) -> Read {
        let to_key = KEYS.get(to).copied().unwrap_or("/s0");
        let range = range(KEYS[from], to_key);
        let states = KEYS[from..to].iter().map(|key| (*key, self.state(key, revision)));
        let entries: Vec<_> = states.filter_map(|(key, at)| Some((key, at?))).collect();
        read(range, revision, &entries)
    }
}

/// Per key, the first revision at which etcd had what was shown, not before what was shown earlier.
struct Shown([i64; KEYS.len()]);

impl Shown {
    fn check(&mut self, known: &Known, etcd: &Etcd, seed: u64) {
        let snapshot = known.snapshot();
        for (key, at) in KEYS.iter().zip(&mut self.0) {
            let shown = snapshot.get(key).map(|entry| entry.mod_revision);
            let since = (*at..=etcd.revision()).find(|at| etcd.state(key, *at) == shown);
            *at = since.unwrap_or_else(|| panic!("seed {seed}: {key} went back to {shown:?}"));
        }
    }
}

#[test]
fn under_lag_loss_and_stale_reads_it_goes_forward_and_arrives() {
    for seed in 0..3_000 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut etcd = Etcd { events: Vec::new() };
        let mut known = listed(etcd.revision(), &[]);
        let mut shown = Shown([0; KEYS.len()]);
        let mut told = 0;
        for _ in 0..60 {
            match random.random_range(0..10) {
                0..4 => etcd.write(&mut random),
                4..7 => {
                    let upto = random.random_range(told..=etcd.events.len());
                    let batch = &etcd.events[told..upto];
                    let revision = batch.last().map_or(0, |event| event.mod_revision);
                    let kept = batch.iter().filter(|_| random.random_bool(0.9));
                    known.events(kept.cloned().collect(), revision);
                    told = upto;
                }
                7 => {
                    let (revision, all) = (etcd.revision(), 0..KEYS.len());
                    assert_eq!(known.judge(CLUSTER, revision), History::Same);
                    known.list(vec![etcd.read(all.start, all.end, revision)]);
                    told = etcd.events.len();
                }
                _ => {
                    let from = random.random_range(0..KEYS.len());
                    let to = random.random_range(from..KEYS.len()) + 1;
                    let stale = random.random_bool(0.2);
                    let lag = if stale { random.random_range(0..3) } else { 0 };
                    let revision = (etcd.revision() - lag).max(1);
                    if known.judge(CLUSTER, revision) == History::Same {
                        known.read(etcd.read(from, to, revision));
                    }
                }
            }
            shown.check(&known, &etcd, seed);
        }
        assert_eq!(known.judge(CLUSTER, etcd.revision()), History::Same);
        known.read(etcd.read(0, KEYS.len(), etcd.revision()));
        shown.check(&known, &etcd, seed);
        for key in KEYS {
            let found = known.snapshot().get(key).map(|entry| entry.mod_revision);
            assert_eq!(found, etcd.state(key, etcd.revision()), "seed {seed}: {key}");
        }
    }
}
