//! Elsewhere: which other process keeps a bucket, as of the last look at the cell's Postgres. It serves to answer calls
//! that came to the wrong process. It is a hint: whoever is asked there checks for themselves.

use crate::ledger::Candidate;
use arc_swap::ArcSwap;
use proto::wire::cell;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Clone, Debug)]
struct Keeping {
    process: Arc<str>,
    epoch: i64,
}

type Known = HashMap<Box<str>, HashMap<u32, Keeping>>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere(ArcSwap<Known>);

impl Elsewhere {
    /// Learns from a look at all buckets: those that another of the `living` keeps.
    pub(crate) fn learn(&self, candidates: &[Candidate], living: &[String], me: &str) {
        let names: HashMap<&str, Arc<str>> = living
            .iter()
            .filter(|other| *other != me)
            .map(|other| (other.as_str(), other.as_str().into()))
            .collect();
        self.0.rcu(|before| {
            let mut known = Known::new();
            for candidate in candidates {
                let bucket = candidate.bucket.bucket.cast_unsigned();
                // What was noted since the look began is newer.
                let newer = before.get(candidate.sale_id.as_str()).and_then(|sale| {
                    sale.get(&bucket).filter(|known| known.epoch > candidate.epoch).cloned()
                });
                let seen = candidate.keeper.as_deref().and_then(|keeper| names.get(keeper));
                let seen =
                    seen.map(|name| Keeping { process: name.clone(), epoch: candidate.epoch });
                if let Some(keeping) = newer.or(seen) {
                    let sale = known.entry(candidate.sale_id.as_str().into()).or_default();
                    sale.insert(bucket, keeping);
                }
            }
            known
        });
    }

    /// Another process keeps a bucket from `epoch` on.
    pub(crate) fn note(&self, sale: &str, bucket: u32, process: &str, epoch: i64) {
        self.0.rcu(|known| {
            let mut known = Known::clone(known);
            let sale = known.entry(sale.into()).or_default();
            if sale.get(&bucket).is_none_or(|known| known.epoch < epoch) {
                sale.insert(bucket, Keeping { process: process.into(), epoch });
            }
            known
        });
    }

    /// Who keeps a bucket, if it is another process.
    pub(crate) fn find(&self, sale: &str, bucket: u32) -> Option<cell::Elsewhere> {
        let known = self.0.load();
        let Keeping { process, epoch } = known.get(sale)?.get(&bucket)?;
        Some(cell::Elsewhere { process: process.to_string(), epoch: epoch.cast_unsigned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::BucketRef;

    fn candidate(bucket: i32, keeper: Option<&str>, epoch: i64) -> Candidate {
        let place = BucketRef { org: 1, sale: 1, bucket };
        Candidate { bucket: place, sale_id: "s01".into(), epoch, keeper: keeper.map(Into::into) }
    }

    #[test]
    fn another_living_keeper_is_known_and_the_newest_word_counts() {
        let living = ["me".to_owned(), "p2".to_owned()];
        let look = [
            candidate(0, Some("me"), 3),
            candidate(1, Some("p2"), 3),
            candidate(2, Some("dead"), 3),
            candidate(3, None, 0),
        ];
        let elsewhere = Elsewhere::default();
        elsewhere.learn(&look, &living, "me");
        let found = |bucket| elsewhere.find("s01", bucket).map(|at| (at.process, at.epoch));
        assert_eq!([0, 1, 2, 3, 4].map(found), [None, Some(("p2".into(), 3)), None, None, None]);
        assert_eq!(elsewhere.find("s02", 1), None);

        // Handed over while the next look was under way, which still shows it here.
        elsewhere.note("s01", 0, "p3", 4);
        elsewhere.note("s01", 1, "p3", 2);
        elsewhere.learn(&look, &living, "me");
        assert_eq!([0, 1].map(found), [Some(("p3".into(), 4)), Some(("p2".into(), 3))]);
        // And back again.
        elsewhere.learn(&[candidate(0, Some("me"), 5)], &living, "me");
        assert_eq!(found(0), None);
    }
}
