//! Money: one capture for every paid order, none for any other, whatever the provider does.

use std::time::Duration;

use local::Faults;
use proto::fault::{Reason, Retry};
use proto::id::{BuyerKey, OrderId};
use proto::wire::cell::answer::Kind as Answer;
use proto::wire::cell::call::Kind as Asked;
use proto::wire::cell::{Call, Checkout, SaleRecord, Show};
use proto::wire::events::ledger_entry::Kind;
use proto::wire::storefront::order::State;
use sqlx::Row;

use crate::audit::{audit, captures};
use crate::cell::{
    BAD_CARD, CellUnderTest, DEADLINE, GOOD_CARD, No, StateOf, id_of, name_of, seed, until,
};
use crate::chain::checked_ledger;
use crate::line::Line;
use crate::short_sale;
use crate::storm::{Storm, Told};

/// Until a capture that nobody claims is back, and a round or two of the comparison longer.
const QUIET: Duration = Duration::from_secs(90);

#[tokio::test]
async fn inv_5_one_capture_an_order_although_the_provider_fails_and_loses_replies() {
    let seed = seed();
    let cell = CellUnderTest::start(&["p1", "p2"]).await;
    let sale = short_sale("storm", 60, 2);
    cell.open(&sale).await;
    let faults = Faults {
        latency_ms: 150,
        latency_jitter_ms: 140,
        error_rate: 0.15,
        lost_reply_rate: 0.2,
        decline_rate: 0.1,
        seed,
        ..Faults::default()
    };
    cell.stack.set_faults(&faults).await.unwrap();
    let storm = Storm::begin(&cell, &sale, 100, seed);
    storm.held(15).await;
    // With payments under way, first Redis goes, then the keeper, then the provider.
    cell.stack.kill("cell-1/redis").await.unwrap();
    cell.stack.restart("cell-1/redis").await.unwrap();
    let (keeper, epoch) = cell.keeper_after(&sale, 0).await;
    cell.stack.kill(&name_of(&keeper)).await.unwrap();
    cell.keeper_after(&sale, epoch).await;
    cell.stack.kill("provider").await.unwrap();
    cell.stack.restart("provider").await.unwrap();
    let told = storm.end().await;
    cell.stack.set_faults(&Faults::default()).await.unwrap();
    audit(&cell, &sale, &told).await;
}

#[tokio::test]
async fn inv_5_a_hold_that_runs_out_while_it_is_paid_is_paid_or_free() {
    let cell = CellUnderTest::start(&["p1"]).await;
    let sale = SaleRecord { hold_ttl_ms: 1_000, ..short_sale("late", 10, 2) };
    cell.open(&sale).await;
    let slow = Faults { latency_ms: 2_500, ..Faults::default() };
    cell.stack.set_faults(&slow).await.unwrap();
    let mut told = Told::default();
    let (good, bad) = (BuyerKey([1; 16]), BuyerKey([2; 16]));
    let pay = async |buyer: BuyerKey, card: &str| {
        let held = cell.held("late", buyer, (2, [3; 16])).await;
        let paid =
            until(DEADLINE, async || match cell.pay("late", buyer, id_of(&held), card).await {
                Err(No::Lost) => Err("no answer yet".into()),
                Ok(order) if order.state() == State::Paying => Err("PAYING".into()),
                answer => Ok(answer),
            });
        let paid = paid.await;
        (held, paid)
    };
    let (paid, declined) = tokio::join!(pay(good, GOOD_CARD), pay(bad, BAD_CARD));
    assert_eq!(paid.1.unwrap().state(), State::Paid, "paying stops the sweep");
    assert_eq!(declined.1.unwrap_err(), No::Refused(Reason::OrderExpired), "but not the clock");
    told.hold(good, &paid.0);
    told.hold(bad, &declined.0);
    told.paid.push(id_of(&paid.0));
    audit(&cell, &sale, &told).await;

    // Overdue is overdue, swept or not.
    let held = cell.held("late", bad, (1, [4; 16])).await;
    until(DEADLINE, async || match cell.show("late", bad, id_of(&held)).await {
        Ok(order) if order.time_left_ms == 0 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let late = cell.pay("late", bad, id_of(&held), GOOD_CARD).await;
    assert_eq!(late.unwrap_err(), No::Refused(Reason::OrderExpired));
}

#[tokio::test]
async fn inv_5_a_capture_that_nobody_claims_goes_back() {
    let cell = CellUnderTest::start(&["p1"]).await;
    let sale = SaleRecord { hold_ttl_ms: 600_000, ..short_sale("odd", 10, 2) };
    cell.open(&sale).await;
    let buyer = BuyerKey([1; 16]);
    let given_back = cell.held("odd", buyer, (1, [1; 16])).await;
    cell.cancel("odd", buyer, id_of(&given_back)).await.unwrap();
    let held = cell.held("odd", buyer, (1, [2; 16])).await;
    let paid = cell.pay("odd", buyer, id_of(&held), GOOD_CARD).await.unwrap();
    assert_eq!(paid.state(), State::Paid);
    // Somebody charged for the order that was given back, and a second time for the one that is paid.
    let desk = Desk::of(&cell);
    for (number, order) in [id_of(&given_back), id_of(&held)].into_iter().enumerate() {
        let intent = desk.create(&format!("stray-{number}-create"), "odd", order).await;
        desk.confirm(&format!("stray-{number}"), &intent).await;
    }
    let order = id_of(&held);
    assert_eq!(captures(&cell)[&order], 2);
    let mut told = Told::default();
    told.hold(buyer, &held);
    told.paid.push(order);
    audit(&cell, &sale, &told).await;
    // The money is back first, and written down a moment later.
    until(QUIET, async || match refunds(&cell, "odd").await.len() {
        2 => Ok(()),
        count => Err(format!("{count} refunds are in the ledger")),
    })
    .await;
    assert_eq!(cell.show("odd", buyer, order).await.unwrap().state(), State::Paid);
}

#[tokio::test]
async fn inv_5_a_refund_whose_record_was_lost_is_written_down_once() {
    let cell = CellUnderTest::start(&["p1"]).await;
    let sale = SaleRecord { hold_ttl_ms: 600_000, ..short_sale("odd", 10, 2) };
    cell.open(&sale).await;
    let mut orders = Vec::new();
    for number in 1..=2 {
        let buyer = BuyerKey([number; 16]);
        let order = id_of(&cell.held("odd", buyer, (1, [number; 16])).await);
        cell.cancel("odd", buyer, order).await.unwrap();
        orders.push(order);
    }
    let desk = Desk::of(&cell);
    // Charged later on, so that whoever reads the list from its newest end has passed the other one by then.
    let later = desk.create("later-create", "odd", orders[0]).await;
    let lost = desk.create("lost-create", "odd", orders[1]).await;
    desk.confirm("lost", &lost).await;
    // The money is back, and whoever gave it back died before that was written.
    desk.refund(&format!("{}:refund:{lost}", orders[1]), &lost).await;
    let written = async |wanted: &[&String]| {
        until(QUIET, async || {
            let refunds = refunds(&cell, "odd").await;
            if refunds.iter().eq(wanted.iter().copied()) {
                Ok(())
            } else {
                Err(format!("{refunds:?}"))
            }
        })
        .await;
    };
    written(&[&lost]).await;
    // A new process knows nothing of what the last one wrote, and does not write it again.
    cell.stack.restart(&name_of("p1")).await.unwrap();
    desk.confirm("later", &later).await;
    written(&[&lost, &later]).await;
    assert!(captures(&cell).values().all(|count| *count == 0), "{:?}", captures(&cell));
}

#[tokio::test]
async fn inv_6_nobody_is_told_that_a_hold_is_over_which_another_keeper_is_paying() {
    let cell = CellUnderTest::start(&["p1", "p2"]).await;
    let sale = SaleRecord { hold_ttl_ms: 10_000, ..short_sale("late", 10, 2) };
    cell.open(&sale).await;
    let buyer = BuyerKey([1; 16]);
    let held = cell.held("late", buyer, (1, [1; 16])).await;
    let order = id_of(&held);
    // The hold's keeper falls asleep with streams that are open.
    let (sleeper, epoch) = cell.keeper_after(&sale, 0).await;
    let line = Line::to(&cell.stack.endpoint(&name_of(&sleeper)).unwrap().url);
    for _ in 0..9 {
        until(DEADLINE, async || {
            let show = Asked::Show(Show { order: order.0.to_vec() });
            line.call(call("late", buyer, show)).await.ok_or_else(|| "no stream yet".to_owned())
        })
        .await;
    }
    cell.stack.pause(&name_of(&sleeper)).await.unwrap();
    cell.keeper_after(&sale, epoch).await;
    // The next one is asked to pay, and its provider is in no hurry. The buyer does not wait.
    let slow = Faults { latency_ms: 12_000, ..Faults::default() };
    cell.stack.set_faults(&slow).await.unwrap();
    until(DEADLINE, async || match cell.pay("late", buyer, order, GOOD_CARD).await {
        Err(No::Lost) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    until(DEADLINE, async || match cell.show("late", buyer, order).await {
        Ok(order) if order.state() == State::Paying && order.time_left_ms == 0 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let is_final = |reason: Reason| reason.retry() == Retry::No;
    let again = cell.pay("late", buyer, order, GOOD_CARD).await;
    assert!(!matches!(again, Err(No::Refused(reason)) if is_final(reason)), "{again:?}");
    // The sleeper wakes, and cannot find out what has happened meanwhile. By its book the hold is over.
    cell.stack.pause("cell-1/postgres").await.unwrap();
    cell.stack.resume(&name_of(&sleeper)).await.unwrap();
    let checkout = Checkout { order: order.0.to_vec(), payment_method: GOOD_CARD.into() };
    let asked = line.call(call("late", buyer, Asked::Checkout(checkout)));
    let answered = tokio::time::timeout(Duration::from_secs(2), asked).await;
    cell.stack.resume("cell-1/postgres").await.unwrap();
    if let Ok(Some(Answer::Refusal(refusal))) = &answered {
        let reason = Reason::from_number(refusal.reason).unwrap();
        assert!(!is_final(reason), "{reason:?}");
    }
    let paid = until(DEADLINE, async || match cell.pay("late", buyer, order, GOOD_CARD).await {
        Ok(order) if order.state() == State::Paid => Ok(order),
        Err(No::Refused(reason)) if is_final(reason) => panic!("{reason:?}"),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(paid.await.units, held.units);
    let mut told = Told::default();
    told.hold(buyer, &held);
    told.paid.push(order);
    audit(&cell, &sale, &told).await;
}

#[tokio::test]
async fn inv_6_that_a_hold_is_over_is_in_the_ledger_before_its_buyer_is_told() {
    let cell = CellUnderTest::start(&["p1"]).await;
    let sale = SaleRecord { hold_ttl_ms: 5_000, ..short_sale("late", 10, 2) };
    cell.open(&sale).await;
    let (buyer, other) = (BuyerKey([1; 16]), BuyerKey([2; 16]));
    let held = cell.held("late", buyer, (1, [1; 16])).await;
    let order = id_of(&held);
    // Without Redis the bucket is in doubt, and nothing is written until it is there again.
    cell.stack.kill("cell-1/redis").await.unwrap();
    until(DEADLINE, async || match cell.join("late", other).await {
        Err(_) => Ok(()),
        Ok(_) => Err("it joins".to_owned()),
    })
    .await;
    let row = async || -> (i16, bool) {
        let row = sqlx::query(
            r#"select state, deadline <= clock_timestamp() from "order" where id = $1"#,
        )
        .bind(uuid::Uuid::from_bytes(order.0))
        .fetch_one(&cell.pool)
        .await
        .unwrap();
        (row.get(0), row.get(1))
    };
    until(DEADLINE, async || match row().await {
        (_, true) => Ok(()),
        row => Err(format!("{row:?}")),
    })
    .await;
    let expired = async || i32::from(row().await.0) == i32::from(State::Expired);
    let told = cell.pay("late", buyer, order, GOOD_CARD).await;
    let is_over = told.as_ref().is_err_and(|no| *no == No::Refused(Reason::OrderExpired));
    assert!(!is_over || expired().await, "{told:?}");
    cell.stack.restart("cell-1/redis").await.unwrap();
    until(DEADLINE, async || match cell.pay("late", buyer, order, GOOD_CARD).await {
        Err(No::Refused(Reason::OrderExpired)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(expired().await);
}

fn call(sale: &str, buyer: BuyerKey, asked: Asked) -> Call {
    Call {
        time_left_ms: 10_000,
        sale: sale.into(),
        buyer: buyer.0.to_vec().into(),
        kind: Some(asked),
        ..Call::default()
    }
}

/// The payments whose refunds are in a sale's ledger, in their order.
async fn refunds(cell: &CellUnderTest, sale: &str) -> Vec<String> {
    let rows = checked_ledger(&cell.pool, cell.bucket(sale).await).await;
    let entries = rows.into_iter().flat_map(|(_, entries)| entries);
    entries.filter(|one| one.kind() == Kind::Refunded).map(|one| one.intent).collect()
}

/// The provider, used behind the cell's back.
struct Desk {
    client: reqwest::Client,
    base: String,
}

impl Desk {
    fn of(cell: &CellUnderTest) -> Desk {
        rustls::crypto::ring::default_provider().install_default().ok();
        let base = cell.stack.endpoint("provider").unwrap().url;
        Desk { client: reqwest::Client::new(), base }
    }

    /// Makes a payment for an order; its id.
    async fn create(&self, key: &str, sale: &str, order: OrderId) -> String {
        let form = [
            ("amount", "1999"),
            ("currency", "eur"),
            ("metadata[order]", &order.to_string()),
            ("metadata[org]", "acme"),
            ("metadata[sale]", sale),
            ("metadata[bucket]", "0"),
        ];
        let made = self.post("payment_intents", key, &form).await;
        made["id"].as_str().unwrap().to_owned()
    }

    async fn confirm(&self, key: &str, intent: &str) {
        let path = format!("payment_intents/{intent}/confirm");
        self.post(&path, key, &[("payment_method", GOOD_CARD)]).await;
    }

    async fn refund(&self, key: &str, intent: &str) {
        self.post("refunds", key, &[("payment_intent", intent)]).await;
    }

    async fn post(&self, path: &str, key: &str, form: &[(&str, &str)]) -> serde_json::Value {
        let post = self.client.post(format!("{}/v1/{path}", self.base));
        let answer = post.header("Idempotency-Key", key).form(form).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }
}
