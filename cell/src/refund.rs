//! Refunds that the merchant asks for: an order's way from PAID to REFUNDED.
//!
//! That a refund will be made is committed before money moves, and that it was made after; so whoever dies in between
//! leaves word, and whoever takes the bucket over goes on. The provider is asked under a key of the payment's own: however
//! often it is asked, the money goes back once (INV-5). The very units are free again once REFUNDED is committed. In a
//! bucket at rest money moves only: what it sold is counted.
//!
//! A refund that the provider refuses for good ends so, which is committed too: the order stays PAID, the merchant is told,
//! and may ask anew. One of which the provider says nothing is gone on with, ever more slowly.

use crate::failpoint::{self, Failpoint};
use crate::inventory::{Settled, What};
use crate::keeper::{Keeper, MoveAsked, Ports};
use crate::ledger::{self, BucketRef, Found, LedgerError, Refund};
use crate::link::Reply;
use crate::payment::{Pool, Provider, ProviderError};
use proto::fault::{Fault, Reason};
use proto::id::{BuyerKey, OrderId};
use proto::limits::REFUND_PAUSE_MS;
use proto::wire::cell::{Order, answer::Kind};
use proto::wire::storefront::order::State;
use sqlx::PgPool;
use std::sync::Arc;
use std::time::Duration;

/// When a merchant may ask again whose refund is under way or could not be finished.
const AGAIN_MS: u32 = 1_000;

/// Refunds a paid order of a bucket that is kept here.
pub(crate) fn begin(keeper: &Arc<Keeper>, buyer: BuyerKey, order: OrderId, reply: Reply) {
    let refunding = keeper.clone();
    keeper.spawn_call("refund", async move {
        answer(kept(&refunding, buyer, order).await, reply);
    });
}

/// Refunds a paid order of a bucket at rest.
pub(crate) fn begin_at_rest(
    ports: &Arc<Ports>,
    bucket: BucketRef,
    buyer: BuyerKey,
    order: OrderId,
    reply: Reply,
) {
    let at_rest = ports.clone();
    let workers = ports.standard.workers.handle();
    ports.drain.spawn_call_on(workers, "refund", async move {
        answer(resting(&at_rest, bucket, buyer, order).await, reply);
    });
}

/// Finishes what an earlier keeper began.
pub(crate) fn resume(keeper: &Arc<Keeper>) {
    let resuming = keeper.clone();
    keeper.spawn_call("resume refunds", async move {
        let keeper = resuming;
        let epoch = keeper.book().epoch;
        let (mut pause_ms, longest_ms) = REFUND_PAUSE_MS;
        while keeper.is_under(epoch) {
            let left = ledger::refunding(keeper.ports.pool(&keeper), keeper.place.bucket).await;
            let mut undone = true;
            if let Ok(left) = left {
                undone = false;
                for (order, buyer) in left {
                    tracing::info!(%order, "goes on with a refund");
                    undone |= kept(&keeper, buyer, order).await.is_err();
                }
            }
            if !undone {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
                () = keeper.ports.end.cancelled() => return,
            }
            pause_ms = longest_ms.min(pause_ms * 2);
        }
    });
}

fn answer(refunded: Result<Order, Fault>, reply: Reply) {
    match refunded {
        Ok(order) => reply.send(Kind::Order(order)),
        Err(fault) => reply.refuse(&fault),
    }
}

/// Holds an order's place among the refunds under way: there is one of an order at a time.
struct Turn<'a> {
    keeper: &'a Keeper,
    order: OrderId,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.keeper.book().refunds.remove(&self.order);
    }
}

async fn kept(keeper: &Keeper, buyer: BuyerKey, order: OrderId) -> Result<Order, Fault> {
    let epoch = {
        let mut book = keeper.book();
        if !book.open || !book.refunds.insert(order) {
            return Err(Fault::later(Reason::PaymentBusy, AGAIN_MS));
        }
        book.epoch
    };
    let _turn = Turn { keeper, order };
    let ports = &keeper.ports;
    let desk = Desk {
        pool: ports.pool(keeper),
        payments: ports.payments(keeper),
        provider: ports.provider(keeper),
        bucket: keeper.place.bucket,
    };
    let found = desk.find(buyer, order).await?;
    if found.state == i32::from(State::Refunded) {
        return Ok(shown(&found, Vec::new()));
    }
    let refund = refund_of(&found, found.units.clone())?;
    if let Err(error) = desk.refund(epoch, &refund).await {
        error.count(ports);
        if matches!(error, Failed::Ledger(LedgerError::Stale(_) | LedgerError::Unknown(_))) {
            // What is so will be read anew, and this refund found again.
            keeper.doubt();
        }
        return Err(error.fault(order));
    }
    let returned = {
        let mut book = keeper.book();
        (book.epoch == epoch && book.open).then(|| {
            book.refund(&refund.units);
            Settled {
                what: What::Refunded,
                buyer,
                order,
                rank: 0,
                indices: book.indices(&refund.units),
            }
        })
    };
    ports.metrics.refunded();
    if returned.is_some_and(|returned| !keeper.undo(MoveAsked::undone(returned))) {
        keeper.doubt();
    }
    failpoint::reach(Failpoint::RefundAnswer).await;
    Ok(shown(&found, Vec::new()))
}

async fn resting(
    ports: &Ports,
    bucket: BucketRef,
    buyer: BuyerKey,
    order: OrderId,
) -> Result<Order, Fault> {
    // Refunds are everyday business, whatever was sold.
    let class = &ports.standard;
    let desk =
        Desk { pool: &class.pool, payments: &class.payments, provider: &class.provider, bucket };
    let found = desk.find(buyer, order).await?;
    if found.state == i32::from(State::Refunded) {
        return Ok(shown(&found, Vec::new()));
    }
    let refund = refund_of(&found, Vec::new())?;
    let again = || Fault::later(Reason::BucketMoving, AGAIN_MS);
    let rested = ledger::rested(&class.pool, bucket).await.map_err(|_| again())?;
    let epoch = rested.ok_or_else(again)?.epoch;
    desk.refund(epoch, &refund).await.map_err(|error| {
        error.count(ports);
        error.fault(order)
    })?;
    ports.metrics.refunded();
    Ok(shown(&found, found.units.clone()))
}

/// What a refund is made with.
struct Desk<'a> {
    pool: &'a PgPool,
    payments: &'a Pool,
    provider: &'a Provider,
    bucket: BucketRef,
}

/// Why a refund was not finished.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error("too many payments are under way")]
    Busy,
    #[error("the provider refuses it for good, which is written down: {0}")]
    Final(ProviderError),
}

impl Failed {
    fn fault(&self, order: OrderId) -> Fault {
        tracing::warn!(%order, error = %self, "a refund is not finished");
        match self {
            Failed::Ledger(LedgerError::Conflict(_)) => Reason::OrderStateConflict.into(),
            Failed::Ledger(LedgerError::Stale(_)) => Fault::later(Reason::BucketMoving, AGAIN_MS),
            Failed::Ledger(_) => Fault::later(Reason::Overloaded, AGAIN_MS),
            Failed::Provider(_) | Failed::Busy => Fault::later(Reason::PaymentBusy, AGAIN_MS),
            Failed::Final(_) => Reason::RefundRefused.into(),
        }
    }

    fn count(&self, ports: &Ports) {
        if matches!(self, Failed::Final(_)) {
            ports.metrics.refund_refused();
        }
    }
}

impl Desk<'_> {
    async fn find(&self, buyer: BuyerKey, order: OrderId) -> Result<Found, Fault> {
        let found = ledger::find_orders(self.pool, self.bucket, &[order]).await;
        let found = found.map_err(|error| Failed::from(error).fault(order))?;
        let theirs = found.into_iter().find(|found| found.buyer == buyer);
        theirs.ok_or_else(|| Reason::NotFound.into())
    }

    async fn refund(&self, epoch: i64, refund: &Refund) -> Result<(), Failed> {
        let seat = self.payments.seat(self.bucket.org).ok_or(Failed::Busy)?;
        failpoint::reach(Failpoint::RefundAsked).await;
        let begun = refund.begin(self.pool, self.bucket, epoch);
        let refusals = failpoint::reply(Failpoint::RefundBegun, begun).await?;
        let turn = seat.turn().await.ok_or(Failed::Busy)?;
        let given = self.give(refund, refusals).await;
        drop(turn);
        match given {
            Ok(()) => {
                let ended = refund.end(self.pool, self.bucket, epoch);
                Ok(failpoint::reply(Failpoint::RefundEnded, ended).await?)
            }
            Err(why @ (ProviderError::Refused(_) | ProviderError::Declined)) => {
                let refused = refund.refuse(self.pool, self.bucket, epoch, refusals);
                failpoint::reply(Failpoint::RefundRefused, refused).await?;
                Err(Failed::Final(why))
            }
            Err(unknown) => Err(unknown.into()),
        }
    }

    /// Has the provider give the money back, once. A refusal of it is for good.
    async fn give(&self, refund: &Refund, refusals: i32) -> Result<(), ProviderError> {
        let Refund { order, intent, .. } = refund;
        // The key would find an earlier refund, but not for ever. That we may not look says nothing of the refund.
        let look = async || {
            let looked = self.provider.is_refunded(intent).await;
            looked.map_err(|error| ProviderError::Unknown(error.to_string()))
        };
        if look().await? {
            return Ok(());
        }
        let key = match refusals {
            0 => format!("{order}:refund:{intent}"),
            again => format!("{order}:refund:{intent}:{again}"),
        };
        let given = self.provider.refund(&key, intent);
        match failpoint::reply(Failpoint::RefundGiven, given).await {
            // Somebody may have given it back behind our back meanwhile.
            Err(error @ (ProviderError::Refused(_) | ProviderError::Declined)) => {
                if look().await? {
                    Ok(())
                } else {
                    Err(error)
                }
            }
            given => given,
        }
    }
}

fn refund_of(found: &Found, units: Vec<u32>) -> Result<Refund, Fault> {
    let conflict = || Fault::new(Reason::OrderStateConflict);
    if found.state != i32::from(State::Paid) {
        return Err(conflict());
    }
    Ok(Refund {
        order: found.order,
        intent: found.intent.clone().ok_or_else(conflict)?,
        amount_minor: found.amount_minor,
        currency: found.currency.clone(),
        units,
    })
}

fn shown(found: &Found, units: Vec<u32>) -> Order {
    Order {
        order: found.order.0.to_vec().into(),
        state: State::Refunded.into(),
        units,
        amount_minor: found.amount_minor,
        currency: found.currency.clone(),
        time_left_ms: 0,
    }
}
