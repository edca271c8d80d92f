//! Claims: which buckets this process should keep.
//!
//! Every process gives a sign of life in the cell's own Postgres, so that keepers are found without etcd. Whose keeper
//! is silent is claimed by one of the living, the same one in everybody's eyes. All of this is a hint: what counts is
//! the epoch that the claimant raises, and two who claim the same bucket cannot both raise it.
//!
//! Once the living have been the same for a while, each hands over what another should keep, a few buckets a round, so
//! that a process that joins or comes back has its part. Who stops in good order hands everything over, and takes its
//! sign of life back once its keepers have ended. A name belongs to whoever started under it last: the one before finds
//! that out and ends, for two would depose each other without end.

mod spread;

use crate::failpoint::{self, Failpoint};
use crate::keeper::{Keeper, Kept, Place, SaleTerms, reign};
use crate::ledger::{self, Beat, BucketRef, Candidate, HeirCalls};
use crate::sales::Sales;
use proto::limits::{BUCKETS_KEPT_MAX, HAND_OVERS_A_ROUND_MAX};
use spread::Patience;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

const EVERY: Duration = Duration::from_millis(300);
/// A process that gave no sign of life for so long is taken for dead.
const FRESH: Duration = Duration::from_millis(1_500);
/// Between two tries to listen for calls to take a bucket over.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);
/// How long a sale's record may be on its way here before its bucket is passed on to a process that may have it.
const RECORD_LATE: Duration = Duration::from_secs(2);

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
        living: Vec::new(),
        patience: Patience::default(),
        unknown: HashMap::new(),
    };
    let called = Arc::new(Notify::new());
    let listening = listen(claims.kept.clone(), called.clone(), claims.end.clone());
    claims.kept.ports().drain.spawn("heir", listening);
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changed = claims.sales.changed();
    loop {
        tokio::select! {
            () = claims.end.cancelled() => break,
            _ = tick.tick() => {}
            () = called.notified() => {}
            // Nothing new will come when nobody follows decisions any more; the tick goes on.
            Ok(()) = changed.changed() => {}
        }
        let end = claims.end.clone();
        let round = tokio::select! {
            round = claims.round() => round,
            () = end.cancelled() => break,
        };
        match round {
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

/// Notes when this process is called to take a bucket over. A call that is missed costs a tick.
async fn listen(kept: Arc<Kept>, called: Arc<Notify>, end: CancellationToken) {
    let ports = kept.ports();
    loop {
        let listening = async {
            let mut calls = HeirCalls::listen(&ports.standard.pool).await?;
            loop {
                calls.called(&ports.process).await?;
                called.notify_one();
            }
        };
        let broke: Result<(), ledger::LedgerError> = tokio::select! {
            broke = listening => broke,
            () = end.cancelled() => return,
        };
        if let Err(error) = broke {
            tracing::debug!(%error, "hears of hand-overs late");
        }
        tokio::select! {
            () = tokio::time::sleep(LISTEN_AGAIN) => {}
            () = end.cancelled() => return,
        }
    }
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
    /// Who lived when that was last looked for.
    living: Vec<String>,
    patience: Patience,
    /// Buckets that are ours to take and whose sales nobody has told us of, since when.
    unknown: HashMap<BucketRef, Instant>,
}

impl Claims {
    /// False: the process's name is another's by now.
    async fn round(&mut self) -> Result<bool, ledger::LedgerError> {
        failpoint::reach(Failpoint::ClaimBeat).await;
        let ports = self.kept.ports();
        let pool = &ports.standard.pool;
        let beat = Beat {
            process: &ports.process,
            incarnation: self.incarnation,
            is_first: !self.has_name,
            fresh: FRESH,
        };
        let asked = ports.time.ask();
        let life = ledger::beat(pool, beat).await?;
        if life.replaced {
            tracing::error!(process = %ports.process, "another process was started under this name, so this one ends; give each a name of its own");
            return Ok(false);
        }
        self.has_name = true;
        ports.time.saw(asked, life.now_us);
        self.sales.accept(pool).await?;
        self.sales.refresh(&self.kept).await;
        let candidates = ledger::candidates(pool, BUCKETS_KEPT_MAX).await?;
        tell_deposed(&self.kept, &candidates);
        let me = ports.process.clone();
        ports.elsewhere.learn(&candidates, &life.living, &me);
        let steady = self.patience.see(&life.living, asked.at);
        let living = life.living;
        self.living.clone_from(&living);
        let mine: HashSet<_> = self.kept.all().iter().map(|keeper| keeper.place.bucket).collect();
        let mut unknown = Vec::new();
        for candidate in spread::taken(&candidates, &living, &me) {
            if !mine.contains(&candidate.bucket) && !self.begin(candidate) {
                unknown.push(candidate);
            }
        }
        self.pass_on(&unknown).await?;
        if steady {
            self.spread(&candidates);
        }
        Ok(true)
    }

    /// False: nobody has told us of its sale.
    fn begin(&self, candidate: &Candidate) -> bool {
        let number = candidate.bucket.bucket.cast_unsigned();
        // Without its record nobody knows a sale's terms.
        let Some(record) = self.sales.record(&candidate.sale_id) else { return false };
        let Some(terms) = SaleTerms::new(record, number) else { return false };
        let place = Place {
            bucket: candidate.bucket,
            org: terms.record.org.as_str().into(),
            sale: candidate.sale_id.as_str().into(),
            number,
            standard: terms.is_standard(),
        };
        let (keeper, queues) = Keeper::new(place, terms, self.kept.ports().clone());
        if !self.kept.add(&keeper) {
            return true;
        }
        let (kept, epoch) = (self.kept.clone(), candidate.epoch);
        let workers = kept.ports().workers(&keeper).clone();
        let keeping = self.keepers.track_future(async move {
            reign(keeper.clone(), queues, epoch).await;
            kept.remove(&keeper);
        });
        self.kept.ports().drain.spawn_on(&workers, "keeper", keeping);
        true
    }

    /// Hands over what another should keep, a few buckets a round.
    fn spread(&mut self, candidates: &[Candidate]) {
        let (now, me) = (Instant::now(), &self.kept.ports().process);
        let due: Vec<_> = spread::given(candidates, &self.living, me)
            .filter(|(candidate, _)| !self.patience.was_handed(candidate.bucket, now))
            .filter_map(|(candidate, heir)| {
                let bucket = candidate.bucket.bucket.cast_unsigned();
                Some((self.kept.find(&candidate.sale_id, bucket)?, heir))
            })
            .filter(|(keeper, _)| keeper.book().open)
            .take(HAND_OVERS_A_ROUND_MAX)
            .collect();
        let is_due = |bucket| due.iter().any(|(keeper, _)| keeper.place.bucket == bucket);
        self.patience.forget(is_due, now);
        for (keeper, heir) in &due {
            if self.patience.may_go(keeper.place.bucket, keeper.is_paying(), now) {
                self.patience.hand(keeper.place.bucket, now);
                keeper.let_go(Some(heir));
            }
        }
    }

    /// Passes buckets on of whose sales nobody has told us, to a process that may know them: rather that than leave them
    /// without a keeper until etcd can be reached.
    async fn pass_on(&mut self, unknown: &[&Candidate]) -> Result<(), ledger::LedgerError> {
        let now = Instant::now();
        self.unknown.retain(|bucket, _| unknown.iter().any(|one| one.bucket == *bucket));
        for candidate in unknown {
            let since = *self.unknown.entry(candidate.bucket).or_insert(now);
            let is_late = now - since >= RECORD_LATE;
            if !is_late || self.patience.was_handed(candidate.bucket, now) {
                continue;
            }
            let Some(other) = self.other(&candidate.sale_id, candidate.bucket) else { continue };
            tracing::warn!(
                sale = candidate.sale_id,
                other,
                "passes a bucket on whose sale is unknown here"
            );
            let pool = &self.kept.ports().standard.pool;
            ledger::hand_over(pool, candidate.bucket, candidate.epoch, other).await?;
            self.patience.hand(candidate.bucket, now);
        }
        Ok(())
    }

    /// To whom a bucket would fall if this process did not live.
    fn other(&self, sale: &str, bucket: BucketRef) -> Option<&str> {
        let me = &self.kept.ports().process;
        spread::heir_of(sale, bucket.bucket, self.living.iter().filter(|name| ***name != **me))
    }

    /// Hands everything over, and waits for the keepers' last batches; from then on whoever lives may have the rest.
    async fn leave(self) {
        for keeper in self.kept.all() {
            keeper.let_go(self.other(&keeper.place.sale, keeper.place.bucket));
        }
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
