//! Where a failpoint lies, and what leads there.

use std::time::Duration;

use floodgate_cell::ledger;
use local::{Failpoint, FailpointAction};
use proto::id::BuyerKey;
use proto::wire::cell::SaleRecord;
use proto::wire::events::ledger_entry::Kind;
use proto::wire::storefront::order::State;

use crate::audit::audit;
use crate::cell::{DEADLINE, GOOD_CARD, StateOf, id_of, name_of, until};
use crate::chain::checked_ledger;
use crate::desk::charge;
use crate::planner::Planner;
use crate::play::{Play, called_off};
use crate::storm::{Storm, Told};

/// Buyers of one storm, and storms at most until the failpoint must have been hit.
const BUYERS: u32 = 6;
const STORMS_MAX: u64 = 8;

/// Hits a failpoint in a new sale, and lets everything that was begun there come to its end.
pub(crate) async fn hit(play: &mut Play, point: &Failpoint, action: FailpointAction) {
    let sale = play.next_sale().await;
    println!("{} {action:?} in {}", point.name, sale.sale);
    match point.name.split('.').next().unwrap() {
        "rest" => rest(play, point, action, &sale).await,
        "refund" => refund(play, point, action, sale).await,
        "give-back" => give_back(play, point, action, &sale).await,
        part => buying(play, point, action, sale, part == "take-over").await,
    }
}

/// While buyers buy, and, if need be, the bucket is taken over.
async fn buying(
    play: &mut Play,
    point: &Failpoint,
    action: FailpointAction,
    sale: SaleRecord,
    take_over: bool,
) {
    let begin = |number: u64| Storm::begin(&play.cell, &sale, BUYERS, play.luck() + (number << 16));
    if !take_over {
        play.arm(point, action).await;
    }
    let mut told = Told::default();
    let storm = begin(0);
    if take_over {
        storm.held(2).await;
        play.arm(point, action).await;
        play.depose(&sale).await;
    }
    {
        let mut storms = 1;
        let mut storm = Box::pin(storm.end());
        let mut hit = Box::pin(play.hit(point, action, &sale));
        loop {
            tokio::select! {
                () = &mut hit => break,
                more = &mut storm => {
                    assert!(storms < STORMS_MAX, "{} is never hit", point.name);
                    told.add(more);
                    storm = Box::pin(begin(storms).end());
                    storms += 1;
                }
            }
        }
        told.add(storm.await);
    }
    play.is_over(sale, told).await;
}

/// When a sale is over.
async fn rest(play: &mut Play, point: &Failpoint, action: FailpointAction, sale: &SaleRecord) {
    let told = Storm::begin(&play.cell, sale, BUYERS, play.luck()).end().await;
    audit(&play.cell, sale, &told).await;
    play.arm(point, action).await;
    play.cell.decide(&called_off(sale)).await;
    play.hit(point, action, sale).await;
    until(DEADLINE, async || match play.row(sale).await {
        (_, true) => Ok(()),
        (epoch, false) => Err(format!("{} is not at rest under {epoch}", sale.sale)),
    })
    .await;
    // Whoever was to report it may be dead, and the sale would never be settled.
    let (mut planner, bucket) = (Planner::of(&play.cell, sale).await, play.cell.bucket(&sale.sale));
    let rested = ledger::rested(&play.cell.pool, bucket.await).await.unwrap().unwrap();
    until(DEADLINE, async || match planner.report(0).await {
        Some(report) if report.settled => {
            let told = (report.epoch, report.granted, report.paid);
            assert_eq!(told, (rested.epoch.cast_unsigned(), rested.granted, rested.paid));
            Ok(())
        }
        other => Err(format!("that it is at rest is not reported: {other:?}")),
    })
    .await;
}

/// When a merchant refunds a paid order.
async fn refund(play: &mut Play, point: &Failpoint, action: FailpointAction, sale: SaleRecord) {
    let (cell, buyer) = (play.cell.clone(), BuyerKey([1; 16]));
    let held = cell.held(&sale.sale, buyer, (2, [1; 16])).await;
    let order = id_of(&held);
    let paid = cell.pay(&sale.sale, buyer, order, GOOD_CARD).await.unwrap();
    assert_eq!(paid.state(), State::Paid);
    play.arm(point, action).await;
    let refunded = until(DEADLINE, async || {
        cell.refund(&sale.sale, buyer, order).await.map_err(|no| format!("{no:?}"))
    });
    let (refunded, ()) = tokio::join!(refunded, play.hit(point, action, &sale));
    assert_eq!(refunded.state(), State::Refunded);
    let mut told = Told::default();
    told.hold(buyer, &held);
    told.refunded.push(order);
    play.is_over(sale, told).await;
}

/// When somebody has charged for an order that was given back.
async fn give_back(play: &mut Play, point: &Failpoint, action: FailpointAction, sale: &SaleRecord) {
    let (cell, buyer) = (play.cell.clone(), BuyerKey([1; 16]));
    let held = cell.held(&sale.sale, buyer, (1, [1; 16])).await;
    let order = id_of(&held);
    cell.cancel(&sale.sale, buyer, order).await.unwrap();
    charge(&cell, &sale.sale, order).await;
    play.arm(point, action).await;
    let hurry = async || {
        for process in play.processes() {
            let points = cell.stack.failpoints(&name_of(process)).unwrap();
            // A process that has just died cannot be hurried.
            points.hurry("give-back.round").await.ok();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    {
        let mut hit = Box::pin(play.hit(point, action, sale));
        loop {
            tokio::select! {
                () = &mut hit => break,
                () = hurry() => {}
            }
        }
    }
    let bucket = cell.bucket(&sale.sale).await;
    let refunds = async || -> usize {
        let rows = checked_ledger(&cell.pool, bucket).await;
        let entries = rows.into_iter().flat_map(|(_, entries)| entries);
        entries.filter(|one| one.kind() == Kind::Refunded).count()
    };
    until(DEADLINE, async || {
        hurry().await;
        if refunds().await > 0 { Ok(()) } else { Err("the refund is not written".to_owned()) }
    })
    .await;
    let mut told = Told::default();
    told.hold(buyer, &held);
    told.cancelled.push(order);
    audit(&cell, sale, &told).await;
    assert_eq!(refunds().await, 1, "the refund is written once");
}
