//! The stage that looks into the ledger for orders that are no longer live, many at a time.

use super::reign::End;
use super::{AttemptEnd, Keeper, LookupAsked, Need, Reign, Stage, Why};
use crate::ledger::{self, BucketRef, Found};
use proto::fault::{Fault, Reason};
use proto::id::OrderId;
use proto::limits::BATCH_CALLS_MAX;
use proto::wire::cell::{Order, answer::Kind};
use proto::wire::storefront::order::State;
use sqlx::PgPool;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc::Receiver;

/// When a caller may ask again whose order could not be looked up.
const FAILED_MS: u32 = 500;

/// Works the queue off until it must end.
pub(super) async fn serve(
    keeper: &Arc<Keeper>,
    lookups: &mut Receiver<LookupAsked>,
    reign: &Reign,
) -> End {
    let mut batch = Vec::with_capacity(BATCH_CALLS_MAX);
    loop {
        tokio::select! {
            biased;
            () = reign.stop.cancelled() => return End::Stopped,
            taken = lookups.recv_many(&mut batch, BATCH_CALLS_MAX) => if taken == 0 { return End::Stopped },
        }
        let asked = std::mem::take(&mut batch);
        let looking = async {
            let _waiting = keeper.waits.begin(Stage::Look);
            look_up(keeper.ports.pool(keeper), keeper.place.bucket, asked).await;
        };
        tokio::select! {
            () = looking => {}
            never = keeper.waits.refuse_while_slow(Need::Look, lookups, |asked, fault| {
                keeper.refuse_early(asked.reply, fault);
            }) => match never {},
        }
    }
}

/// Answers a batch of questions about orders of one bucket.
pub(crate) async fn look_up(pool: &PgPool, bucket: BucketRef, batch: Vec<LookupAsked>) {
    let orders: Vec<OrderId> = batch.iter().map(|asked| asked.order).collect();
    let found: HashMap<OrderId, Found> = match ledger::find_orders(pool, bucket, &orders).await {
        Ok(found) => found.into_iter().map(|found| (found.order, found)).collect(),
        Err(error) => {
            tracing::warn!(%error, "cannot look orders up");
            for asked in batch {
                asked.reply.refuse(&Fault::later(Reason::Overloaded, FAILED_MS));
            }
            return;
        }
    };
    for asked in batch {
        let ours = found.get(&asked.order).filter(|found| found.buyer == asked.buyer);
        match answer(&asked.why, ours) {
            Ok(order) => asked.reply.send(Kind::Order(order)),
            Err(fault) => asked.reply.refuse(&fault),
        }
    }
}

impl Keeper {
    /// What a Checkout is told of an order that has ended here. None: the ledger does not answer.
    pub(crate) async fn ended(&self, order: OrderId) -> Option<AttemptEnd> {
        let pool = self.ports.pool(self);
        let found = ledger::find_orders(pool, self.place.bucket, &[order]).await.ok()?;
        Some(answer(&Why::Checkout, found.first()))
    }
}

fn answer(why: &Why, found: Option<&Found>) -> Result<Order, Fault> {
    let Some(found) = found else {
        return Err(match why {
            Why::Repeat { otherwise, .. } => otherwise.clone(),
            Why::Show | Why::Cancel | Why::Checkout => Reason::NotFound.into(),
        });
    };
    let state = State::try_from(found.state).unwrap_or_default();
    match (why, state) {
        (Why::Repeat { quantity, .. }, _) if *quantity != found.quantity => {
            Err(Reason::RequestIdReused.into())
        }
        (Why::Repeat { .. } | Why::Show, _)
        | (Why::Checkout, State::Paid)
        | (Why::Cancel, State::Cancelled) => Ok(show(found)),
        (Why::Checkout | Why::Cancel, State::Expired) => Err(Reason::OrderExpired.into()),
        // It came to life between the look at the book and the look at the ledger, or went on from there; or the book is
        // that of a keeper who was deposed. What becomes of it is not for us to say.
        (Why::Checkout | Why::Cancel, State::Held | State::Paying | State::Review) => {
            Err(Fault::later(Reason::BucketMoving, FAILED_MS))
        }
        (Why::Checkout | Why::Cancel, _) => Err(Reason::OrderStateConflict.into()),
    }
}

fn show(found: &Found) -> Order {
    Order {
        order: found.order.0.to_vec().into(),
        state: found.state,
        units: found.units.clone(),
        amount_minor: found.amount_minor,
        currency: found.currency.clone(),
        time_left_ms: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::fault::Retry;
    use proto::id::BuyerKey;

    fn found(state: State) -> Found {
        Found {
            order: OrderId([1; 16]),
            buyer: BuyerKey([2; 16]),
            state: state.into(),
            quantity: 1,
            amount_minor: 1,
            currency: "EUR".into(),
            intent: None,
            units: vec![1],
        }
    }

    #[test]
    fn no_final_refusal_of_an_order_that_may_still_be_paid() {
        for why in [Why::Checkout, Why::Cancel] {
            for state in [State::Held, State::Paying, State::Review] {
                let refused = answer(&why, Some(&found(state))).unwrap_err();
                assert_eq!(refused.reason.retry(), Retry::Later, "{why:?} {state:?}: {refused:?}");
            }
        }
        let checkout = |state| answer(&Why::Checkout, Some(&found(state))).map(|order| order.state);
        assert_eq!(checkout(State::Paid), Ok(State::Paid.into()));
        assert_eq!(checkout(State::Expired), Err(Reason::OrderExpired.into()));
        assert_eq!(checkout(State::Cancelled), Err(Reason::OrderStateConflict.into()));
        assert_eq!(checkout(State::Refunded), Err(Reason::OrderStateConflict.into()));
    }
}
