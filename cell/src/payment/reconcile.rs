//! Captures that no paid order claims: found by comparing the provider's list with the ledger, given back, and written
//! down (INV-5).
//!
//! A capture is unclaimed when its order is in none of PAYING, PAID, REVIEW by this very payment, in two rounds that lie
//! a while apart; so a commit that is merely on its way is not mistaken for a loss. Giving back and writing down are two
//! steps, and whoever died between them left the second to the next round: it is done when the ledger names the refund.
//! The list is read from where nothing was left open; the past of a bucket that came here lately is read as a whole.

use super::ProviderError;
use super::provider::CHARGE_WITHIN_S;
use crate::failpoint::{self, Failpoint};
use crate::keeper::{Keeper, Kept};
use crate::ledger::{self, BucketRef, Found, LedgerError, Move};
use crate::payment::{Intent, Status};
use proto::id::OrderId;
use proto::limits::{PROVIDER_CALL_MS, PROVIDER_TRIES_MAX};
use proto::wire::events::ledger_entry::Kind;
use proto::wire::storefront::order::State;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(10);
/// How far back a round looks beyond the beginning of the round before.
const OVERLAP_S: i64 = 90;
/// Pages that one round reads at most.
const PAGES_MAX: usize = 1_000;

// A capture is in two rounds' lists: from its payment's making it begins in time, takes its tries, and is seen twice.
const _: () = assert!(
    CHARGE_WITHIN_S.unsigned_abs() * 1_000
        + 2 * PROVIDER_CALL_MS * PROVIDER_TRIES_MAX as u64
        + 2 * EVERY.as_secs() * 1_000
        <= OVERLAP_S.unsigned_abs() * 1_000
);

/// Why a round could not be finished.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What is known from one round to the next.
#[derive(Debug, Default)]
struct Memory {
    /// Nothing that was made before is open, in unix seconds.
    since_s: i64,
    /// The buckets of which that is so.
    compared: HashSet<BucketRef>,
    seen: Seen,
}

/// What a round has come to.
#[derive(Debug, Default)]
struct Seen {
    /// Unclaimed captures of which something is still to be done.
    open: HashSet<String>,
    /// Unclaimed captures that went back, which the ledger names.
    done: HashSet<String>,
}

impl Memory {
    /// From where a round must read that is about `buckets`.
    fn since_s(&self, buckets: &HashSet<BucketRef>) -> i64 {
        if buckets.is_subset(&self.compared) { self.since_s } else { 0 }
    }

    /// A round that began at `now_s` has come to its end.
    fn learn(&mut self, seen: Seen, buckets: HashSet<BucketRef>, now_s: i64) {
        if seen.open.is_empty() {
            self.since_s = now_s - OVERLAP_S;
            self.compared = buckets;
        }
        self.seen = seen;
    }
}

/// Compares again and again until `end` is cancelled.
pub(crate) async fn reconcile(kept: Arc<Kept>, end: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut memory = Memory::default();
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = tick.tick() => {}
            () = failpoint::hurried(Failpoint::GiveBackRound) => {}
        }
        if kept.is_empty() {
            continue;
        }
        let now_s = kept.ports().time.now_us().unwrap_or(0) / 1_000_000;
        let buckets: HashSet<_> = kept.all().iter().map(|keeper| keeper.place.bucket).collect();
        match round(&kept, memory.since_s(&buckets), &memory.seen).await {
            Ok(seen) => memory.learn(seen, buckets, now_s),
            Err(error) => tracing::warn!(%error, "cannot compare with the provider"),
        }
    }
}

/// Gives back what was open before and still is.
async fn round(kept: &Kept, since_s: i64, before: &Seen) -> Result<Seen, RoundError> {
    let provider = &kept.ports().standard.provider;
    let mut seen = Seen::default();
    let mut after: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let (intents, more) = provider.list(since_s, after.as_deref()).await?;
        after = intents.last().map(|intent| intent.id.clone());
        for (keeper, intents) in ours(kept, &intents) {
            for (order, intent) in unclaimed(&keeper, intents).await? {
                let is_done = before.done.contains(&intent.id)
                    || before.open.contains(&intent.id) && undo(&keeper, order, &intent).await?;
                let list = if is_done { &mut seen.done } else { &mut seen.open };
                list.insert(intent.id);
            }
        }
        if !more || after.is_none() {
            break;
        }
    }
    Ok(seen)
}

type Captures = Vec<(OrderId, Intent)>;

/// Captures for orders of buckets that we keep.
fn ours(kept: &Kept, intents: &[Intent]) -> Vec<(Arc<Keeper>, Captures)> {
    let mut by_bucket: HashMap<(&str, u32), Captures> = HashMap::new();
    for intent in intents.iter().filter(|intent| intent.status == Status::Succeeded) {
        let field = |name: &str| intent.metadata.get(name).map(String::as_str);
        let place = field("sale").zip(field("bucket").and_then(|number| number.parse().ok()));
        let order = field("order").and_then(|order| order.parse().ok());
        if let Some((place, order)) = place.zip(order) {
            by_bucket.entry(place).or_default().push((order, intent.clone()));
        }
    }
    let kept =
        by_bucket.into_iter().map(|((sale, bucket), captures)| (kept.find(sale, bucket), captures));
    kept.filter_map(|(keeper, captures)| Some((keeper?, captures))).collect()
}

async fn unclaimed(keeper: &Keeper, captures: Captures) -> Result<Captures, LedgerError> {
    let orders: Vec<OrderId> = captures.iter().map(|(order, _)| *order).collect();
    let pool = &keeper.ports.standard.pool;
    let found = ledger::find_orders(pool, keeper.place.bucket, &orders).await?;
    let found: HashMap<OrderId, Found> =
        found.into_iter().map(|found| (found.order, found)).collect();
    let claims = |(order, intent): &(OrderId, Intent)| {
        found.get(order).is_none_or(|found| {
            let state = State::try_from(found.state).unwrap_or_default();
            found.intent.as_ref() == Some(&intent.id)
                && matches!(state, State::Paying | State::Paid | State::Review | State::Refunded)
        })
    };
    Ok(captures.into_iter().filter(|capture| !claims(capture)).collect())
}

/// Gives a capture back and writes that down, as far as it was not done before. Returns whether nothing is left to do.
async fn undo(keeper: &Keeper, order: OrderId, intent: &Intent) -> Result<bool, RoundError> {
    match give_back(keeper, order, intent).await {
        Ok(()) => {}
        Err(ProviderError::Refused(why)) => {
            tracing::error!(%order, intent = intent.id, why, "an unclaimed capture cannot go back; somebody must look");
            return Ok(true);
        }
        Err(error) => return Err(error.into()),
    }
    // First the epoch, then the look: what an earlier epoch wrote is seen, and what it might still write is refused.
    let epoch = keeper.book().epoch;
    let pool = &keeper.ports.standard.pool;
    if ledger::is_refund_written(pool, keeper.place.bucket, &intent.id).await? {
        return Ok(true);
    }
    let step = Move {
        intent: Some(intent.id.clone()),
        amount_minor: intent.amount,
        currency: intent.currency.to_uppercase(),
        ..Move::plain(order, Kind::Refunded, Vec::new())
    };
    failpoint::reach(Failpoint::GiveBackUnwritten).await;
    match keeper.ask_move(step, epoch).await {
        Some(Ok(())) => {
            failpoint::reach(Failpoint::GiveBackWritten).await;
            keeper.ports.metrics.given_back();
            Ok(true)
        }
        Some(Err(fault)) => {
            tracing::error!(%order, intent = intent.id, %fault, "the refund is not in the ledger; somebody must look");
            Ok(true)
        }
        // Written or not: the next round looks.
        None => Ok(false),
    }
}

async fn give_back(keeper: &Keeper, order: OrderId, intent: &Intent) -> Result<(), ProviderError> {
    let provider = &keeper.ports.standard.provider;
    if provider.is_refunded(&intent.id).await? {
        return Ok(());
    }
    tracing::warn!(%order, intent = intent.id, "nobody claims this capture; it goes back");
    failpoint::reach(Failpoint::GiveBackAsked).await;
    let key = format!("{order}:refund:{}", intent.id);
    failpoint::reply(Failpoint::GiveBackGiven, provider.refund(&key, &intent.id)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(numbers: &[i32]) -> HashSet<BucketRef> {
        numbers.iter().map(|&bucket| BucketRef { org: 1, sale: 1, bucket }).collect()
    }

    fn seen(open: &[&str]) -> Seen {
        let open = open.iter().map(|&intent| intent.to_owned()).collect();
        Seen { open, done: HashSet::new() }
    }

    #[test]
    fn nothing_slips_out_of_sight_before_it_is_done() {
        let mut memory = Memory::default();
        assert_eq!(memory.since_s(&buckets(&[1])), 0, "a new process reads everything");
        memory.learn(seen(&["pi_1"]), buckets(&[1]), 1_000);
        assert_eq!(memory.since_s(&buckets(&[1])), 0, "what was found must be found again");
        memory.learn(seen(&[]), buckets(&[1, 2]), 1_010);
        assert_eq!(memory.since_s(&buckets(&[1, 2])), 1_010 - OVERLAP_S);
        assert_eq!(memory.since_s(&buckets(&[1])), 1_010 - OVERLAP_S);
        memory.learn(seen(&["pi_2"]), buckets(&[1]), 1_020);
        memory.learn(seen(&["pi_2"]), buckets(&[1]), 1_500);
        assert_eq!(memory.since_s(&buckets(&[1])), 1_010 - OVERLAP_S, "it waits for what is open");
        assert_eq!(memory.since_s(&buckets(&[1, 3])), 0, "a bucket's past comes along with it");
        memory.learn(seen(&[]), buckets(&[1, 3]), 1_510);
        assert_eq!(memory.since_s(&buckets(&[3])), 1_510 - OVERLAP_S);
        assert_eq!(memory.since_s(&buckets(&[2])), 0, "it went and came back");
    }
}
