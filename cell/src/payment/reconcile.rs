//! Captures that no paid order claims: found by comparing the provider's list with the ledger, and given back (INV-5).
//!
//! A capture is unclaimed when its order is in none of PAYING, PAID, REVIEW by this very payment, in two rounds that lie
//! a while apart; so a commit that is merely on its way is not mistaken for a loss.

use crate::keeper::{Keeper, Kept};
use crate::ledger::{self, Found, Move};
use crate::payment::{Intent, Status};
use proto::id::OrderId;
use proto::wire::events::ledger_entry::Kind;
use proto::wire::storefront::order::State;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::ProviderError;

const EVERY: Duration = Duration::from_secs(10);
/// How far back a round looks beyond the beginning of the round before.
const OVERLAP_S: i64 = 90;
/// Pages that one round reads at most.
const PAGES_MAX: usize = 1_000;

/// Compares again and again until `end` is cancelled.
pub(crate) async fn reconcile(kept: Arc<Kept>, end: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut suspects = HashSet::new();
    let mut since_s = 0;
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = tick.tick() => {}
        }
        if kept.is_empty() {
            continue;
        }
        let ports = kept.ports();
        let now_s = ports.time.now_us().unwrap_or(0) / 1_000_000;
        match round(&kept, since_s, &suspects).await {
            Ok(found) => {
                suspects = found;
                since_s = now_s - OVERLAP_S;
            }
            Err(error) => tracing::warn!(%error, "cannot compare with the provider"),
        }
    }
}

/// Gives back what was suspect before and still is. Returns what is suspect now.
async fn round(
    kept: &Kept,
    since_s: i64,
    before: &HashSet<String>,
) -> Result<HashSet<String>, ProviderError> {
    let provider = &kept.ports().provider;
    let mut suspects = HashSet::new();
    let mut after: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let (intents, more) = provider.list(since_s, after.as_deref()).await?;
        after = intents.last().map(|intent| intent.id.clone());
        for (keeper, intents) in ours(kept, &intents) {
            for (order, intent) in unclaimed(&keeper, intents).await {
                if before.contains(&intent.id) {
                    match give_back(&keeper, order, &intent).await {
                        Err(ProviderError::Refused(why)) => {
                            tracing::error!(%order, intent = intent.id, why, "an unclaimed capture cannot go back; somebody must look");
                        }
                        given_back => given_back?,
                    }
                } else {
                    suspects.insert(intent.id.clone());
                }
            }
        }
        if !more || after.is_none() {
            break;
        }
    }
    Ok(suspects)
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

async fn unclaimed(keeper: &Keeper, captures: Captures) -> Captures {
    let orders: Vec<OrderId> = captures.iter().map(|(order, _)| *order).collect();
    let found = ledger::find_orders(keeper.ports.pool(keeper), keeper.place.bucket, &orders).await;
    let Ok(found) = found else { return Vec::new() };
    let found: HashMap<OrderId, Found> =
        found.into_iter().map(|found| (found.order, found)).collect();
    let claims = |(order, intent): &(OrderId, Intent)| {
        found.get(order).is_none_or(|found| {
            let state = State::try_from(found.state).unwrap_or_default();
            found.intent.as_ref() == Some(&intent.id)
                && matches!(state, State::Paying | State::Paid | State::Review)
        })
    };
    captures.into_iter().filter(|capture| !claims(capture)).collect()
}

async fn give_back(keeper: &Keeper, order: OrderId, intent: &Intent) -> Result<(), ProviderError> {
    let provider = &keeper.ports.provider;
    if provider.is_refunded(&intent.id).await? {
        return Ok(());
    }
    tracing::warn!(%order, intent = intent.id, "nobody claims this capture; it goes back");
    provider.refund(&format!("{order}:refund:{}", intent.id), &intent.id).await?;
    let step = Move {
        intent: Some(intent.id.clone()),
        amount_minor: intent.amount,
        currency: intent.currency.to_uppercase(),
        ..Move::plain(order, Kind::Refunded, Vec::new())
    };
    let epoch = keeper.book().epoch;
    match keeper.ask_move(step, epoch).await {
        Some(Ok(_)) => keeper.ports.metrics.given_back(),
        // The money is back all the same; the next round finds it refunded.
        Some(Err(fault)) => tracing::error!(%order, %fault, "the refund is not in the ledger"),
        None => {}
    }
    Ok(())
}
