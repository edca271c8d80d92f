//! Claims: which buckets this process should keep.
//!
//! Every process gives a sign of life in the cell's own Postgres, so that keepers are found without etcd. Whose keeper
//! is silent is claimed by one of the living, the same one in everybody's eyes. All of this is a hint: what counts is
//! the epoch that the claimant raises, and two who claim the same bucket cannot both raise it.
//!
//! Who stops in good order takes its sign of life back once its keepers have ended, so that others claim at once. A name
//! belongs to whoever started under it last: the one before finds that out and ends, for two would depose each other
//! without end.

use crate::failpoint::{self, Failpoint};
use crate::keeper::{Keeper, Kept, Place, SaleTerms, reign};
use crate::ledger::{self, Beat, Candidate};
use crate::sales::Sales;
use proto::limits::BUCKETS_KEPT_MAX;
use ring::digest::{SHA256, digest};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

const EVERY: Duration = Duration::from_millis(300);
/// A process that gave no sign of life for so long is taken for dead.
const FRESH: Duration = Duration::from_millis(1_500);

/// Claims buckets until `end` is cancelled. Cancels `replaced`, and begins the drain, when another process has started
/// under this one's name.
pub(crate) async fn claim(
    kept: Arc<Kept>,
    sales: Sales,
    end: CancellationToken,
    replaced: CancellationToken,
) {
    let mut claims = Claims {
        kept,
        sales,
        end,
        keepers: TaskTracker::new(),
        incarnation: Uuid::new_v4(),
        has_name: false,
    };
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changed = claims.sales.changed();
    loop {
        tokio::select! {
            () = claims.end.cancelled() => break,
            _ = tick.tick() => {}
            // Nothing new will come when nobody follows decisions any more; the tick goes on.
            Ok(()) = changed.changed() => {}
        }
        match claims.round().await {
            Ok(true) => {}
            Ok(false) => {
                replaced.cancel();
                claims.kept.ports().drain.begin();
            }
            Err(error) => tracing::warn!(%error, "cannot look after this cell's buckets"),
        }
    }
    claims.leave().await;
}

struct Claims {
    kept: Arc<Kept>,
    sales: Sales,
    end: CancellationToken,
    keepers: TaskTracker,
    /// This start of the process.
    incarnation: Uuid,
    /// Whether a sign of life was given.
    has_name: bool,
}

impl Claims {
    /// False: the process's name is another's by now.
    async fn round(&mut self) -> Result<bool, ledger::LedgerError> {
        failpoint::reach(Failpoint::ClaimBeat).await;
        let ports = self.kept.ports();
        let pool = &ports.standard.pool;
        let asked = Instant::now();
        let beat = Beat {
            process: &ports.process,
            incarnation: self.incarnation,
            is_first: !self.has_name,
            fresh: FRESH,
        };
        let life = ledger::beat(pool, beat).await?;
        if life.replaced {
            tracing::error!(process = %ports.process, "another process was started under this name, so this one ends; give each a name of its own");
            return Ok(false);
        }
        self.has_name = true;
        ports.time.saw(life.now_us, asked, asked.elapsed());
        self.sales.accept(pool).await?;
        self.sales.refresh(&self.kept).await;
        let candidates = ledger::candidates(pool, BUCKETS_KEPT_MAX).await?;
        tell_deposed(&self.kept, &candidates);
        let mine: HashSet<_> = self.kept.all().iter().map(|keeper| keeper.place.bucket).collect();
        for candidate in chosen(&candidates, &life.living, &ports.process) {
            if !mine.contains(&candidate.bucket) {
                self.begin(candidate);
            }
        }
        Ok(true)
    }

    fn begin(&self, candidate: &Candidate) {
        let number = candidate.bucket.bucket.cast_unsigned();
        // Without its record nobody knows a sale's terms; the record will come.
        let Some(record) = self.sales.record(&candidate.sale_id) else { return };
        let Some(terms) = SaleTerms::new(record, number) else { return };
        let place = Place {
            bucket: candidate.bucket,
            org: terms.record.org.as_str().into(),
            sale: candidate.sale_id.as_str().into(),
            number,
            standard: terms.is_standard(),
        };
        let (keeper, queues) = Keeper::new(place, terms, self.kept.ports().clone());
        if !self.kept.add(&keeper) {
            return;
        }
        let (kept, epoch, end) = (self.kept.clone(), candidate.epoch, self.end.clone());
        let keeping = self.keepers.track_future(async move {
            reign(keeper.clone(), queues, epoch, end).await;
            kept.remove(&keeper);
        });
        self.kept.ports().drain.spawn("keeper", keeping);
    }

    /// Waits for the keepers' last batches; from then on whoever lives may have their buckets.
    async fn leave(self) {
        self.keepers.close();
        self.keepers.wait().await;
        let ports = self.kept.ports();
        let left = ledger::leave(&ports.standard.pool, &ports.process, self.incarnation).await;
        if let Err(error) = left {
            tracing::warn!(%error, "others must wait until this process is taken for dead");
        }
    }
}

/// Lets keepers know that somebody else keeps their buckets by now, or that those are at rest: one that nobody calls
/// would not notice, and could not be asked to keep its bucket again.
fn tell_deposed(kept: &Kept, candidates: &[Candidate]) {
    let complete = candidates.len() < BUCKETS_KEPT_MAX;
    let epochs: HashMap<_, _> =
        candidates.iter().map(|candidate| (candidate.bucket, candidate.epoch)).collect();
    for keeper in kept.all() {
        let (open, epoch) = {
            let book = keeper.book();
            (book.open, book.epoch)
        };
        let deposed = epochs.get(&keeper.place.bucket).map_or(complete, |newest| *newest > epoch);
        if open && deposed {
            keeper.doubt();
        }
    }
}

/// Those of `candidates` that `me` should keep: mine by what is written, or a silent keeper's that fall to me.
fn chosen<'a>(
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

/// The living process to which a bucket falls: the highest hash of both names.
fn heir<'a>(candidate: &Candidate, living: &'a [String]) -> Option<&'a str> {
    let weight = |process: &&String| {
        let text = format!("{}/{}/{process}", candidate.sale_id, candidate.bucket.bucket);
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest(&SHA256, text.as_bytes()).as_ref()[..16]);
        hash
    };
    living.iter().max_by_key(weight).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::BucketRef;

    fn candidate(bucket: i32, keeper: Option<&str>) -> Candidate {
        Candidate {
            bucket: BucketRef { org: 1, sale: 1, bucket },
            sale_id: "s01".into(),
            epoch: 1,
            keeper: keeper.map(Into::into),
        }
    }

    #[test]
    fn every_bucket_of_a_silent_keeper_falls_to_exactly_one_of_the_living() {
        let living = ["p1".to_owned(), "p2".to_owned(), "p3".to_owned()];
        let candidates: Vec<_> =
            (0..300).map(|bucket| candidate(bucket, (bucket % 2 == 0).then_some("dead"))).collect();
        let counts = living.clone().map(|me| chosen(&candidates, &living, &me).count());
        assert_eq!(counts.iter().sum::<usize>(), 300);
        assert!(counts.iter().all(|&count| count > 60), "{counts:?}");
    }

    #[test]
    fn a_living_keeper_keeps_and_a_restarted_one_comes_back() {
        let living = ["p1".to_owned(), "p2".to_owned()];
        let candidates = [candidate(0, Some("p1"))];
        assert_eq!(chosen(&candidates, &living, "p1").count(), 1);
        assert_eq!(chosen(&candidates, &living, "p2").count(), 0);
    }
}
