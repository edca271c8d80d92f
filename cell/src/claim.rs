//! Claims: which buckets this process should keep.
//!
//! Every process gives a sign of life in the cell's own Postgres, so that keepers are found without etcd. Whose keeper
//! is silent is claimed by one of the living, the same one in everybody's eyes. All of this is a hint: what counts is
//! the epoch that the claimant raises, and two who claim the same bucket cannot both raise it.

use crate::keeper::{Keeper, Kept, Place, SaleTerms, reign};
use crate::ledger::{self, Candidate};
use crate::sales::Sales;
use proto::limits::BUCKETS_KEPT_MAX;
use ring::digest::{SHA256, digest};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_millis(300);
/// A process that gave no sign of life for so long is taken for dead.
const FRESH: Duration = Duration::from_millis(1_500);

/// Claims buckets until `end` is cancelled.
pub(crate) async fn claim(kept: Arc<Kept>, sales: Sales, end: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changed = sales.changed();
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = tick.tick() => {}
            // Nothing new will come when nobody follows decisions any more; the tick goes on.
            Ok(()) = changed.changed() => {}
        }
        if let Err(error) = round(&kept, &sales, &end).await {
            tracing::warn!(%error, "cannot look after this cell's buckets");
        }
    }
}

async fn round(
    kept: &Arc<Kept>,
    sales: &Sales,
    end: &CancellationToken,
) -> Result<(), ledger::LedgerError> {
    let ports = kept.ports();
    let pool = &ports.standard.pool;
    let asked = Instant::now();
    let (living, now_us) = ledger::beat(pool, &ports.process, FRESH).await?;
    ports.time.saw(now_us, asked, asked.elapsed());
    sales.accept(pool).await?;
    sales.refresh(kept).await;
    let candidates = ledger::candidates(pool, BUCKETS_KEPT_MAX).await?;
    tell_deposed(kept, &candidates);
    let mine: HashSet<_> = kept.all().iter().map(|keeper| keeper.place.bucket).collect();
    for candidate in chosen(&candidates, &living, &ports.process) {
        if !mine.contains(&candidate.bucket) {
            begin(kept, sales, candidate, end);
        }
    }
    Ok(())
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

fn begin(kept: &Arc<Kept>, sales: &Sales, candidate: &Candidate, end: &CancellationToken) {
    let number = candidate.bucket.bucket.cast_unsigned();
    // Without its record nobody knows a sale's terms; the record will come.
    let Some(record) = sales.record(&candidate.sale_id) else { return };
    let Some(terms) = SaleTerms::new(record, number) else { return };
    let place = Place {
        bucket: candidate.bucket,
        org: terms.record.org.as_str().into(),
        sale: candidate.sale_id.as_str().into(),
        number,
        standard: terms.is_standard(),
    };
    let (keeper, queues) = Keeper::new(place, terms, kept.ports().clone());
    if !kept.add(&keeper) {
        return;
    }
    let (kept, epoch, end) = (kept.clone(), candidate.epoch, end.clone());
    kept.ports().drain.clone().spawn("keeper", async move {
        reign(keeper.clone(), queues, epoch, end).await;
        kept.remove(&keeper);
    });
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
