//! Who should keep which bucket: decided purely, from what is written and who lives.
//!
//! A bucket's heir is the living process with the highest hash of both names, so that everybody names the same one, and
//! a process that comes or goes changes only its own part. A living keeper keeps what it has until the processes have
//! been the same for a while; then it hands over what is another's.

use crate::ledger::{BucketRef, Candidate};
use proto::limits::{HAND_OVER_AGAIN_MS, HAND_OVER_PATIENCE_MS, PROCESSES_STEADY_MS};
use ring::digest::{SHA256, digest};
use std::collections::HashMap;
use std::time::{Duration, Instant};

const STEADY: Duration = Duration::from_millis(PROCESSES_STEADY_MS);
const PATIENCE: Duration = Duration::from_millis(HAND_OVER_PATIENCE_MS);
const AGAIN: Duration = Duration::from_millis(HAND_OVER_AGAIN_MS);

/// Those of `candidates` that `me` should take: mine by what is written, or a silent keeper's that fall to me.
pub(super) fn taken<'a>(
    candidates: &'a [Candidate],
    living: &'a [String],
    me: &'a str,
) -> impl Iterator<Item = &'a Candidate> {
    candidates.iter().filter(move |candidate| match &candidate.keeper {
        Some(keeper) if keeper == me => true,
        Some(keeper) if living.contains(keeper) => false,
        _ => heir(candidate, living) == Some(me),
    })
}

/// Those of `candidates` that `me` keeps and another should, with their heirs.
pub(super) fn given<'a>(
    candidates: &'a [Candidate],
    living: &'a [String],
    me: &'a str,
) -> impl Iterator<Item = (&'a Candidate, &'a str)> {
    let mine = candidates.iter().filter(move |candidate| candidate.keeper.as_deref() == Some(me));
    mine.filter_map(move |candidate| Some((candidate, heir(candidate, living)?)))
        .filter(move |(_, heir)| *heir != me)
}

/// The living process to which a bucket falls.
pub(super) fn heir<'a>(candidate: &Candidate, living: &'a [String]) -> Option<&'a str> {
    heir_of(&candidate.sale_id, candidate.bucket.bucket, living.iter())
}

/// The one of `others` to which a bucket falls: the highest hash of both names.
pub(super) fn heir_of<'a>(
    sale: &str,
    bucket: i32,
    others: impl Iterator<Item = &'a String>,
) -> Option<&'a str> {
    let weight = |process: &&String| {
        let text = format!("{sale}/{bucket}/{process}");
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest(&SHA256, text.as_bytes()).as_ref()[..16]);
        hash
    };
    others.max_by_key(weight).map(String::as_str)
}

/// What is remembered from round to round, so that buckets change hands rarely and gently.
#[derive(Debug, Default)]
pub(super) struct Patience {
    living: Vec<String>,
    since: Option<Instant>,
    /// Buckets that should be another's, since when.
    wished: HashMap<BucketRef, Instant>,
    /// Buckets that were handed over under these living processes, and when last.
    handed: HashMap<BucketRef, Instant>,
}

impl Patience {
    /// Sees who lives. Returns whether they have been the same for a while.
    pub(super) fn see(&mut self, living: &[String], now: Instant) -> bool {
        if self.living != living {
            self.living = living.to_vec();
            self.since = Some(now);
            self.handed.clear();
        }
        self.since.is_some_and(|since| now - since >= STEADY)
    }

    /// Whether a bucket was handed over a moment ago, in vain if it is here.
    pub(super) fn was_handed(&self, bucket: BucketRef, now: Instant) -> bool {
        self.handed.get(&bucket).is_some_and(|at| now - *at < AGAIN)
    }

    /// Whether a bucket may go now: one with payments under way may wait for them a while.
    pub(super) fn may_go(&mut self, bucket: BucketRef, paying: bool, now: Instant) -> bool {
        let since = *self.wished.entry(bucket).or_insert(now);
        !paying || now - since >= PATIENCE
    }

    /// A bucket was handed over.
    pub(super) fn hand(&mut self, bucket: BucketRef, now: Instant) {
        self.wished.remove(&bucket);
        self.handed.insert(bucket, now);
    }

    /// Forgets wishes that came to nothing, and what was handed over long ago.
    pub(super) fn forget(&mut self, due: impl Fn(BucketRef) -> bool, now: Instant) {
        self.wished.retain(|bucket, _| due(*bucket));
        self.handed.retain(|_, at| now - *at < AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(bucket: i32, keeper: Option<&str>) -> Candidate {
        Candidate {
            bucket: BucketRef { org: 1, sale: 1, bucket },
            sale_id: "s01".into(),
            epoch: 1,
            keeper: keeper.map(Into::into),
        }
    }

    fn names(count: usize) -> Vec<String> {
        (1..=count).map(|n| format!("p{n}")).collect()
    }

    #[test]
    fn every_bucket_of_a_silent_keeper_falls_to_exactly_one_of_the_living() {
        let living = names(3);
        let candidates: Vec<_> =
            (0..300).map(|bucket| candidate(bucket, (bucket % 2 == 0).then_some("dead"))).collect();
        let count = |me: &String| taken(&candidates, &living, me).count();
        let counts: Vec<_> = living.iter().map(count).collect();
        assert_eq!(counts.iter().sum::<usize>(), 300);
        assert!(counts.iter().all(|&count| count > 60), "{counts:?}");
    }

    #[test]
    fn a_living_keeper_keeps_and_a_restarted_one_comes_back() {
        let living = names(2);
        let candidates = [candidate(0, Some("p1"))];
        assert_eq!(taken(&candidates, &living, "p1").count(), 1);
        assert_eq!(taken(&candidates, &living, "p2").count(), 0);
    }

    #[test]
    fn a_process_that_joins_is_given_its_part_and_no_other_bucket_moves() {
        // As two processes have spread them; a third one joins.
        let (two, three) = (names(2), names(3));
        let spread = |living: &[String]| -> Vec<Candidate> {
            let free = (0..300).map(|bucket| candidate(bucket, None));
            free.map(|free| candidate(free.bucket.bucket, heir(&free, living))).collect()
        };
        let before = spread(&two);
        for me in &two {
            assert_eq!(given(&before, &two, me).count(), 0, "all is as it should be");
            let gone: Vec<_> = given(&before, &three, me).collect();
            assert!((30..70).contains(&gone.len()), "{} of 150", gone.len());
            assert!(gone.iter().all(|(_, heir)| *heir == "p3"));
        }
        assert_eq!(given(&before, &three, "p3").count(), 0, "who has nothing gives nothing");
        // And when it goes again, what it had goes back to where it was.
        let after = spread(&three);
        for me in &two {
            let back: Vec<_> = taken(&after, &two, me).map(|one| one.bucket.bucket).collect();
            let was = before.iter().filter(|one| one.keeper.as_deref() == Some(me));
            assert_eq!(back, was.map(|one| one.bucket.bucket).collect::<Vec<_>>());
        }
    }

    #[test]
    fn buckets_go_once_the_processes_are_steady_and_payments_are_through() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let bucket = candidate(0, None).bucket;
        let mut patience = Patience::default();
        let rows = [
            (2, 0, false),
            (2, PROCESSES_STEADY_MS - 1, false),
            (2, PROCESSES_STEADY_MS, true),
            (3, PROCESSES_STEADY_MS + 1, false),
            (3, 2 * PROCESSES_STEADY_MS + 1, true),
        ];
        for (count, ms, wanted) in rows {
            assert_eq!(patience.see(&names(count), at(ms)), wanted, "{count} at {ms} ms");
        }

        assert!(patience.may_go(bucket, false, at(0)));
        assert!(!patience.may_go(bucket, true, at(HAND_OVER_PATIENCE_MS - 1)));
        assert!(patience.may_go(bucket, true, at(HAND_OVER_PATIENCE_MS)));
        patience.forget(|_| false, at(0));
        assert!(!patience.may_go(bucket, true, at(HAND_OVER_PATIENCE_MS)), "a new wish");

        // Whoever sends it back is not given it again at once, unless others live by then.
        patience.hand(bucket, at(0));
        assert!(patience.was_handed(bucket, at(HAND_OVER_AGAIN_MS - 1)));
        assert!(!patience.was_handed(bucket, at(HAND_OVER_AGAIN_MS)));
        patience.see(&names(2), at(1));
        assert!(!patience.was_handed(bucket, at(2)));
    }
}
