//! Refunds: the money goes back once, and the very units are free again.

use std::sync::Arc;
use std::time::Duration;

use floodgate_cell::ledger;
use local::Faults;
use proto::fault::Reason;
use proto::id::{BuyerKey, OrderId};
use proto::wire::cell::{Order, SaleRecord};
use proto::wire::events::ledger_entry::Kind;
use proto::wire::storefront::order::State;
use sqlx::Row;

use crate::audit::{audit, captures};
use crate::cell::{CellUnderTest, DEADLINE, GOOD_CARD, No, StateOf, id_of, name_of, until};
use crate::chain::checked_ledger;
use crate::short_sale;
use crate::storm::Told;

const SALE: &str = "back";

/// Buys units for a buyer's request of this number.
async fn buys(cell: &CellUnderTest, buyer: BuyerKey, quantity: u32, number: u8) -> Order {
    let held = cell.held(SALE, buyer, (quantity, [number; 16])).await;
    let paid = cell.pay(SALE, buyer, id_of(&held), GOOD_CARD).await.unwrap();
    assert_eq!(paid.state(), State::Paid);
    paid
}

/// Refunds, however often it takes.
async fn refunded(cell: &CellUnderTest, buyer: BuyerKey, order: OrderId) -> Order {
    until(DEADLINE, async || cell.refund(SALE, buyer, order).await.map_err(|no| format!("{no:?}")))
        .await
}

#[tokio::test]
async fn inv_1_refunded_units_are_sold_again_and_the_cap_is_free_again() {
    let cell = CellUnderTest::start(&["p1"]).await;
    let sale = SaleRecord { hold_ttl_ms: 600_000, ..short_sale(SALE, 4, 3) };
    cell.open(&sale).await;
    let (one, other) = (BuyerKey([1; 16]), BuyerKey([2; 16]));
    let mut told = Told::default();
    let orders =
        [buys(&cell, one, 1, 1).await, buys(&cell, one, 1, 2).await, buys(&cell, one, 1, 3).await];
    for order in &orders {
        told.hold(one, order);
    }
    let first = id_of(&orders[0]);

    let held = cell.held(SALE, other, (1, [4; 16])).await;
    let refuse = async |buyer, order| cell.refund(SALE, buyer, order).await.unwrap_err();
    assert_eq!(refuse(other, id_of(&held)).await, No::Refused(Reason::OrderStateConflict));
    assert_eq!(refuse(other, first).await, No::Refused(Reason::NotFound));
    assert_eq!(refuse(one, OrderId([9; 16])).await, No::Refused(Reason::NotFound));
    cell.cancel(SALE, other, id_of(&held)).await.unwrap();
    told.hold(other, &held);
    told.cancelled.push(id_of(&held));

    let back = refunded(&cell, one, first).await;
    assert_eq!((back.state(), &back.units[..]), (State::Refunded, &[][..]));
    assert_eq!(refunded(&cell, one, first).await, back, "asking again changes nothing");
    assert_eq!(captures(&cell)[&first], 0, "INV-5");
    assert_eq!(cell.show(SALE, one, first).await.unwrap().state(), State::Refunded);
    told.refunded.push(first);

    // The slot of the refunded unit was not the last one, and still there is room for exactly one more.
    let again = buys(&cell, one, 1, 5).await;
    told.hold(one, &again);
    assert_eq!(cell.join(SALE, one).await.unwrap_err(), No::Refused(Reason::OverCap), "INV-4");
    let last = buys(&cell, other, 1, 6).await;
    told.hold(other, &last);
    let mut units: Vec<u32> =
        [&orders[1], &orders[2], &again, &last].iter().flat_map(|one| one.units.clone()).collect();
    units.sort_unstable();
    units.dedup();
    assert_eq!(units.len(), 4, "the whole stock is sold, the refunded unit among it");
    told.paid.extend([&orders[1], &orders[2], &again, &last].map(id_of));
    audit(&cell, &sale, &told).await;
}

#[tokio::test]
async fn inv_5_a_refund_whose_keeper_dies_is_finished_by_the_next_one() {
    let cell = CellUnderTest::start(&["p1", "p2"]).await;
    let sale = SaleRecord { hold_ttl_ms: 600_000, ..short_sale(SALE, 10, 2) };
    cell.open(&sale).await;
    let buyer = BuyerKey([1; 16]);
    let mut told = Told::default();
    let paid = buys(&cell, buyer, 2, 1).await;
    told.hold(buyer, &paid);
    let order = id_of(&paid);
    let slow = Faults { latency_ms: 1_500, latency_all: true, ..Faults::default() };
    cell.stack.set_faults(&slow).await.unwrap();
    let (keeper, epoch) = cell.keeper_after(&sale, 0).await;
    let asking: Arc<CellUnderTest> = cell.clone();
    let asked = tokio::spawn(async move { asking.refund(SALE, buyer, order).await });
    let bucket = cell.bucket(SALE).await;
    until(DEADLINE, async || {
        let rows = checked_ledger(&cell.pool, bucket).await;
        let mut entries = rows.iter().flat_map(|(_, entries)| entries);
        let begun = entries.any(|entry| entry.kind() == Kind::Refunding);
        begun.then_some(()).ok_or("no refund has begun".to_owned())
    })
    .await;
    cell.stack.kill(&name_of(&keeper)).await.unwrap();
    assert!(asked.await.unwrap().is_err(), "nobody is told of a refund that is not written down");
    cell.keeper_after(&sale, epoch).await;
    // Nobody asks again.
    until(DEADLINE, async || match cell.show(SALE, buyer, order).await {
        Ok(shown) if shown.state() == State::Refunded => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    cell.stack.set_faults(&Faults::default()).await.unwrap();
    assert_eq!(captures(&cell)[&order], 0);
    told.refunded.push(order);
    audit(&cell, &sale, &told).await;
}

/// The rows of the ledger, by kind, that tell of refunds.
async fn refunds_written(cell: &CellUnderTest, order: OrderId) -> Vec<Kind> {
    let rows = checked_ledger(&cell.pool, cell.bucket(SALE).await).await;
    let entries = rows.iter().flat_map(|(_, entries)| entries);
    let ours = entries.filter(|entry| entry.order == order.0).map(|entry| entry.kind());
    let kinds = [Kind::Refunding, Kind::RefundRefused, Kind::Refunded];
    ours.filter(|kind| kinds.contains(kind)).collect()
}

#[tokio::test]
async fn inv_5_a_refund_that_the_provider_refuses_for_good_ends_so() {
    let cell = CellUnderTest::start(&["p1"]).await;
    let mut sale = SaleRecord { hold_ttl_ms: 600_000, ..short_sale(SALE, 10, 4) };
    cell.open(&sale).await;
    let buyer = BuyerKey([1; 16]);
    let mut told = Told::default();
    let orders = [buys(&cell, buyer, 2, 1).await, buys(&cell, buyer, 1, 2).await];
    orders.iter().for_each(|order| told.hold(buyer, order));
    let [first, second] = orders.each_ref().map(id_of);
    let disputed = Faults { refund_refuse_rate: 1.0, ..Faults::default() };
    cell.stack.set_faults(&disputed).await.unwrap();
    let refused = No::Refused(Reason::RefundRefused);
    assert_eq!(cell.refund(SALE, buyer, first).await, Err(refused));
    let kept = cell.show(SALE, buyer, first).await.unwrap();
    assert_eq!((kept.state(), &kept.units), (State::Paid, &orders[0].units));
    assert_eq!(captures(&cell)[&first], 1, "INV-5");
    let metric = "floodgate_cell_orders_total{event=\"refund_refused\"}";
    assert_eq!(crate::found::metric(&cell, "p1", metric).await, Some(1.0));

    // Whoever keeps the bucket next finds nothing to go on with.
    let (_, epoch) = cell.keeper_after(&sale, 0).await;
    cell.stack.kill(&name_of("p1")).await.unwrap();
    cell.stack.restart(&name_of("p1")).await.unwrap();
    cell.keeper_after(&sale, epoch).await;
    let bucket = cell.bucket(SALE).await;
    let left = ledger::refunding(&cell.pool, bucket).await.unwrap();
    assert_eq!(left, [], "nobody tries again by themselves");
    assert_eq!(refunds_written(&cell, first).await, [Kind::Refunding, Kind::RefundRefused]);

    // Asked for anew, it is asked of the provider anew, which remembers what it said.
    cell.stack.set_faults(&Faults::default()).await.unwrap();
    assert_eq!(refunded(&cell, buyer, first).await.state(), State::Refunded);
    assert_eq!(captures(&cell)[&first], 0);
    told.refunded.push(first);

    // In a bucket at rest it is the same, and money moves only.
    cell.stack.set_faults(&disputed).await.unwrap();
    (sale.end_ms, sale.update_ms) = (sale.start_ms + 1, sale.update_ms + 1);
    cell.decide(&sale).await;
    until(DEADLINE, async || match ledger::rested(&cell.pool, bucket).await.unwrap() {
        Some(rested) if rested.paid == 1 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    until(DEADLINE, async || match cell.refund(SALE, buyer, second).await {
        Err(no) if no == refused => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    cell.stack.set_faults(&Faults::default()).await.unwrap();
    assert_eq!(refunded(&cell, buyer, second).await.state(), State::Refunded);
    assert_eq!(captures(&cell)[&second], 0);
    let written = refunds_written(&cell, second).await;
    assert_eq!(written.last(), Some(&Kind::Refunded), "{written:?}");
}

#[tokio::test]
async fn after_a_sale_is_settled_money_moves_only() {
    let cell = CellUnderTest::start(&["p1"]).await;
    let mut sale = SaleRecord { hold_ttl_ms: 600_000, ..short_sale(SALE, 10, 2) };
    cell.open(&sale).await;
    let buyer = BuyerKey([1; 16]);
    let paid = buys(&cell, buyer, 2, 1).await;
    sale.end_ms = sale.start_ms + 1;
    sale.update_ms += 1;
    cell.decide(&sale).await;
    let bucket = cell.bucket(SALE).await;
    until(DEADLINE, async || {
        let settled: bool = sqlx::query_scalar("select settled from bucket where sale = $1")
            .bind(bucket.sale)
            .fetch_one(&cell.pool)
            .await
            .unwrap();
        settled.then_some(()).ok_or("it is not at rest".to_owned())
    })
    .await;
    let order = id_of(&paid);
    let back = refunded(&cell, buyer, order).await;
    assert_eq!((back.state(), back.units), (State::Refunded, paid.units));
    assert_eq!(captures(&cell)[&order], 0);
    let counts = sqlx::query("select live, paid from bucket where sale = $1").bind(bucket.sale);
    let counts = counts.fetch_one(&cell.pool).await.unwrap();
    assert_eq!((counts.get::<i32, _>(0), counts.get::<i32, _>(1)), (0, 2), "the count is frozen");
    let rows = checked_ledger(&cell.pool, bucket).await;
    let last = rows.last().and_then(|(_, entries)| entries.last()).unwrap();
    assert_eq!((last.kind(), last.units.is_empty()), (Kind::Refunded, true));
    tokio::time::timeout(Duration::from_secs(5), async {
        assert_eq!(refunded(&cell, buyer, order).await.state(), State::Refunded);
    })
    .await
    .unwrap();
}
