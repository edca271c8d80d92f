//! Money: one capture for every paid order, none for any other, whatever the provider does.

use std::time::Duration;

use local::Faults;
use proto::fault::Reason;
use proto::id::BuyerKey;
use proto::wire::cell::SaleRecord;
use proto::wire::events::ledger_entry::Kind;
use proto::wire::storefront::order::State;

use crate::audit::{audit, captures};
use crate::cell::{
    BAD_CARD, CellUnderTest, DEADLINE, GOOD_CARD, No, StateOf, id_of, name_of, seed, until,
};
use crate::chain::checked_ledger;
use crate::short_sale;
use crate::storm::{Storm, Told};

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
    for (number, order) in [id_of(&given_back), id_of(&held)].into_iter().enumerate() {
        let order = order.to_string();
        let create = [
            ("amount", "1999"),
            ("currency", "eur"),
            ("payment_method", GOOD_CARD),
            ("confirm", "true"),
            ("metadata[order]", &order),
            ("metadata[org]", "acme"),
            ("metadata[sale]", "odd"),
            ("metadata[bucket]", "0"),
        ];
        charge(&cell, &format!("stray-{number}"), &create).await;
    }
    let order = id_of(&held);
    assert_eq!(captures(&cell)[&order], 2);
    let mut told = Told::default();
    told.hold(buyer, &held);
    told.paid.push(order);
    audit(&cell, &sale, &told).await;
    // The money is back first, and written down a moment later.
    let bucket = cell.bucket("odd").await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let mut refunds = 0;
    while refunds < 2 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let rows = checked_ledger(&cell.pool, bucket).await;
        let entries = rows.iter().flat_map(|(_, entries)| entries);
        refunds = entries.filter(|entry| entry.kind() == Kind::Refunded).count();
    }
    assert_eq!(refunds, 2, "each in the ledger, once");
    assert_eq!(cell.show("odd", buyer, order).await.unwrap().state(), State::Paid);
}

/// Charges at the provider behind the cell's back.
async fn charge(cell: &CellUnderTest, key: &str, form: &[(&str, &str)]) {
    let base = cell.stack.endpoint("provider").unwrap().url;
    rustls::crypto::ring::default_provider().install_default().ok();
    let client = reqwest::Client::new();
    let post = |path: String, key: String| client.post(path).header("Idempotency-Key", key);
    let create = form.iter().filter(|(name, _)| !["payment_method", "confirm"].contains(name));
    let create: Vec<_> = create.collect();
    let made = post(format!("{base}/v1/payment_intents"), format!("{key}-create"));
    let made: serde_json::Value = made.form(&create).send().await.unwrap().json().await.unwrap();
    let intent = made["id"].as_str().unwrap();
    let confirm = post(format!("{base}/v1/payment_intents/{intent}/confirm"), key.to_owned());
    let confirmed = confirm.form(&[("payment_method", GOOD_CARD)]).send().await.unwrap();
    assert!(confirmed.status().is_success(), "{}", confirmed.text().await.unwrap());
}
