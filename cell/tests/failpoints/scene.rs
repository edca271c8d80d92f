//! Where a failpoint lies, and what leads there.

use std::time::Duration;

use floodgate_cell::ledger;
use local::{Failpoint, FailpointAction, Faults};
use proto::id::BuyerKey;
use proto::wire::cell::transfer_record::State as Carried;
use proto::wire::cell::{BucketReport, SaleRecord, TransferRecord, UnitRange};
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
    let part = point.name.split('.').next().unwrap();
    let sale = play.next_sale(if part == "transfer" { 2 } else { 1 }).await;
    println!("{} {action:?} in {}", point.name, sale.sale);
    match part {
        "transfer" => transfer(play, point, action, sale).await,
        "rested" => rested(play, point, action, &sale).await,
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
    at_rest(play, sale).await;
    // Whoever was to report it may be dead, and the sale would never be settled.
    let mut planner = Planner::of(&play.cell, sale).await;
    let is_told = |report: &BucketReport| report.settled;
    until(DEADLINE, async || match planner.report(0).await.filter(is_told) {
        Some(_) => Ok(()),
        None => Err("that it is at rest is not reported".to_owned()),
    })
    .await;
    report_is_right(play, sale).await;
}

/// When units come to a bucket that is at rest.
async fn rested(play: &mut Play, point: &Failpoint, action: FailpointAction, sale: &SaleRecord) {
    play.cell.decide(&called_off(sale)).await;
    at_rest(play, sale).await;
    play.arm(point, action).await;
    let mut planner = Planner::of(&play.cell, sale).await;
    let units = vec![UnitRange { first: 5_000, units: 4 }];
    let late = TransferRecord { to: Some(0), wanted: 4, units, ..TransferRecord::default() };
    let late = TransferRecord { state: Carried::Given.into(), ..late };
    planner.begin(1, late).await;
    let (moved, ()) = tokio::join!(planner.end(1), play.hit(point, action, sale));
    assert_eq!(moved, 4);
    // The transfer is over, so nothing is on its way that would explain a wrong report.
    report_is_right(play, sale).await;
    let sale = SaleRecord { stock: sale.stock + moved, ..sale.clone() };
    audit(&play.cell, &sale, &Told::default()).await;
}

async fn at_rest(play: &Play, sale: &SaleRecord) {
    until(DEADLINE, async || match play.row(sale).await {
        (_, true) => Ok(()),
        (epoch, false) => Err(format!("{} is not at rest under {epoch}", sale.sale)),
    })
    .await;
}

/// What etcd has of a bucket at rest is what Postgres has.
async fn report_is_right(play: &Play, sale: &SaleRecord) {
    let bucket = play.cell.bucket(&sale.sale).await;
    let rested = ledger::rested(&play.cell.pool, bucket).await.unwrap().unwrap();
    let told = Planner::of(&play.cell, sale).await.report(0).await.unwrap();
    assert!(told.settled, "{told:?}");
    assert_eq!((told.granted, told.paid), (rested.granted, rested.paid), "INV-2: {told:?}");
}

/// When units move to another bucket while buyers buy.
async fn transfer(play: &mut Play, point: &Failpoint, action: FailpointAction, sale: SaleRecord) {
    const WANTED: u32 = 7;
    let storm = Storm::begin(&play.cell, &sale, BUYERS, play.luck());
    play.arm(point, action).await;
    // The first bucket is the one that is taken over from whoever is held.
    let comes = ["accept", "accepted", "booked", "appended"].map(|step| format!("transfer.{step}"));
    let (from, to) = if comes.contains(&point.name) { (1, 0) } else { (0, 1) };
    let mut planner = Planner::of(&play.cell, &sale).await;
    planner.ask(1, (from, Some(to)), WANTED).await;
    let hit = play.hit(point, action, &sale);
    let (told, moved, ()) = tokio::join!(storm.end(), planner.end(1), hit);
    assert_eq!(moved, WANTED);
    play.is_over(sale, told).await;
}

/// When a merchant refunds a paid order.
async fn refund(play: &mut Play, point: &Failpoint, action: FailpointAction, sale: SaleRecord) {
    let (cell, buyer) = (play.cell.clone(), BuyerKey([1; 16]));
    let held = cell.held(&sale.sale, buyer, (2, [1; 16])).await;
    let order = id_of(&held);
    let paid = cell.pay(&sale.sale, buyer, order, GOOD_CARD).await.unwrap();
    assert_eq!(paid.state(), State::Paid);
    let refuses = point.name == "refund.refused";
    let refund_refuse_rate = f64::from(u8::from(refuses));
    cell.stack.set_faults(&Faults { refund_refuse_rate, ..Faults::default() }).await.unwrap();
    play.arm(point, action).await;
    let refunded = until(DEADLINE, async || {
        cell.refund(&sale.sale, buyer, order).await.map_err(|no| format!("{no:?}"))
    });
    let hit = async {
        play.hit(point, action, &sale).await;
        cell.stack.set_faults(&Faults::default()).await.unwrap();
    };
    let (refunded, ()) = tokio::join!(refunded, hit);
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
