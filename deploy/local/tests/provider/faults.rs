//! The provider keeps its word while it is slow, fails, loses replies and is killed.

use std::time::{Duration, Instant};

use floodgate_local::Faults;
use reqwest::Method;
use serde_json::json;

use crate::client::{MANUAL, Provider, VISA, answer, path};

/// Long enough for a slow machine; no test waits that long unless it fails.
const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn while_a_confirm_is_under_way_nobody_else_touches_the_intent() {
    let provider = Provider::start().await;
    let id = provider.create("o-1", &[VISA]).await;
    provider.faults(Faults { latency_ms: 1_500, ..Faults::default() }).await;
    let began = Instant::now();
    let confirm = tokio::spawn(answer(provider.posting(&path(&id, "confirm"), "k", &[])));
    while provider.status(&id).await != "processing" {
        assert!(began.elapsed() < DEADLINE, "the confirm never began");
    }
    let (status, body) = provider.post(&path(&id, "confirm"), "k", &[]).await;
    assert_eq!((status, &body["error"]["code"]), (409, &json!("idempotency_key_in_use")));
    let (status, body) = provider.post(&path(&id, "cancel"), "k2", &[]).await;
    assert_eq!((status, &body["error"]["code"]), (429, &json!("lock_timeout")));
    // What was refused for now is not remembered.
    let (status, body) = confirm.await.unwrap();
    assert_eq!((status, &body["status"]), (200, &json!("succeeded")));
    assert!(began.elapsed() >= Duration::from_millis(1_500));
    let (status, body) = provider.post(&path(&id, "cancel"), "k2", &[]).await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("payment_intent_unexpected_state")));
}

#[tokio::test]
async fn a_call_whose_caller_has_gone_is_finished_all_the_same() {
    let provider = Provider::start().await;
    let id = provider.create("o-1", &[VISA]).await;
    provider.faults(Faults { latency_ms: 300, ..Faults::default() }).await;
    let impatient = provider.posting(&path(&id, "confirm"), "k", &[]);
    let error = impatient.timeout(Duration::from_millis(50)).send().await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let began = Instant::now();
    while provider.status(&id).await != "succeeded" {
        assert!(began.elapsed() < DEADLINE, "the charge never happened");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_lost_reply_was_work_done_and_the_key_tells() {
    let provider = Provider::start().await;
    let id = provider.create("o-1", &[VISA]).await;
    provider.faults(Faults { lost_reply_rate: 1.0, ..Faults::default() }).await;
    let error = provider.posting(&path(&id, "confirm"), "k", &[]).send().await.unwrap_err();
    assert!(error.is_request() && !error.is_timeout(), "{error:?}");
    assert_eq!(provider.status(&id).await, "succeeded");

    provider.faults(Faults::default()).await;
    let (status, body) = provider.post(&path(&id, "confirm"), "k", &[]).await;
    assert_eq!((status, &body["status"]), (200, &json!("succeeded")));
    assert_eq!(provider.events(&id), ["created", "captured"]);
}

#[tokio::test]
async fn an_error_changes_nothing_and_is_not_remembered() {
    let provider = Provider::start().await;
    let id = provider.create("o-1", &[VISA]).await;
    provider.faults(Faults { error_rate: 1.0, ..Faults::default() }).await;
    let (status, body) = provider.post(&path(&id, "confirm"), "k", &[]).await;
    assert_eq!((status, &body["error"]["type"]), (500, &json!("api_error")));
    assert_eq!(provider.events(&id), ["created"]);

    provider.faults(Faults { decline_rate: 1.0, ..Faults::default() }).await;
    let (status, body) = provider.post(&path(&id, "confirm"), "k", &[]).await;
    assert_eq!((status, &body["error"]["decline_code"]), (402, &json!("generic_decline")));
}

#[tokio::test]
async fn a_refused_refund_is_remembered_under_its_key() {
    let provider = Provider::start().await;
    let id = provider.create("o-1", &[VISA]).await;
    assert_eq!(provider.post(&path(&id, "confirm"), "k", &[]).await.0, 200);
    provider.faults(Faults { refund_refuse_rate: 1.0, ..Faults::default() }).await;
    let refund = [("payment_intent", id.as_str())];
    let (status, body) = provider.post("/v1/refunds", "r", &refund).await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("charge_disputed")));
    provider.faults(Faults::default()).await;
    assert_eq!(provider.post("/v1/refunds", "r", &refund).await, (status, body));
    assert_eq!(provider.events(&id), ["created", "captured"]);
    assert_eq!(provider.post("/v1/refunds", "r2", &refund).await.0, 200);
    assert_eq!(provider.events(&id), ["created", "captured", "refunded"]);
}

#[tokio::test]
async fn faults_are_told_replaced_and_checked() {
    let provider = Provider::start().await;
    let faults = Faults { latency_ms: 3, decline_rate: 0.25, seed: 9, ..Faults::default() };
    provider.faults(faults).await;
    let (_, told) = provider.get("/faults").await;
    assert_eq!(serde_json::from_value::<Faults>(told).unwrap(), faults);
    let wrong = Faults { error_rate: 1.5, ..Faults::default() };
    assert!(provider.stack.set_faults(&wrong).await.is_err());
    let typo = provider.call(Method::POST, "/faults").json(&json!({"eror_rate": 0.1}));
    assert_eq!(typo.send().await.unwrap().status(), 422);

    // The same seed declines the same ones of a row of confirms.
    let mut fates = Vec::new();
    for round in 0..2 {
        provider.faults(Faults::default()).await;
        let mut intents = Vec::new();
        for number in 0..30 {
            intents.push(provider.create(&format!("o-{round}-{number}"), &[VISA]).await);
        }
        provider.faults(Faults { decline_rate: 0.5, seed: 42, ..Faults::default() }).await;
        let mut statuses = Vec::new();
        for id in intents {
            statuses.push(provider.post(&path(&id, "confirm"), &id, &[]).await.0);
        }
        fates.push(statuses);
    }
    assert_eq!(fates[0], fates[1]);
    assert!(fates[0].contains(&200) && fates[0].contains(&402), "{fates:?}");
}

#[tokio::test]
async fn whatever_was_answered_survives_kill_9() {
    let provider = Provider::start().await;
    let id = provider.create("o-1", &[MANUAL, VISA]).await;
    let (_, confirmed) = provider.post(&path(&id, "confirm"), "k", &[]).await;
    provider.post(&path(&id, "capture"), "k2", &[]).await;
    let refund_form = [("payment_intent", id.as_str()), ("amount", "100")];
    let (_, refund) = provider.post("/v1/refunds", "k3", &refund_form).await;
    let declined = provider.create("o-2", &[("payment_method", "pm_card_chargeDeclined")]).await;
    let decline = provider.post(&path(&declined, "confirm"), "k4", &[]).await;
    let before = provider.get("/v1/payment_intents?limit=100").await;

    provider.stack.kill("provider").await.unwrap();
    let path_of_ledger = provider.stack.folder().join("provider/ledger.jsonl");
    let mut torn = std::fs::read(&path_of_ledger).unwrap();
    torn.extend_from_slice(b"{\"seq\":99,\"at_ms\":1");
    std::fs::write(&path_of_ledger, torn).unwrap();
    provider.stack.restart("provider").await.unwrap();

    assert_eq!(provider.get("/v1/payment_intents?limit=100").await, before);
    assert_eq!(provider.post(&path(&id, "confirm"), "k", &[]).await, (200, confirmed));
    assert_eq!(provider.post("/v1/refunds", "k3", &refund_form).await, (200, refund));
    assert_eq!(provider.post(&path(&declined, "confirm"), "k4", &[]).await, decline);
    let (status, _) = provider.post("/v1/refunds", "k5", &[("payment_intent", &id)]).await;
    assert_eq!(status, 200);
    assert_eq!(provider.events(&id), ["created", "confirmed", "captured", "refunded", "refunded"]);
}

#[tokio::test]
async fn many_callers_share_a_sync_and_each_is_served_once() {
    let provider = Provider::start().await;
    let calls = (0..400).map(|number| {
        let form = [("amount", "500".to_owned()), ("currency", "eur".to_owned())];
        // Every key twice, at the same time.
        let key = format!("k-{}", number / 2);
        let call = provider.call(Method::POST, "/v1/payment_intents");
        tokio::spawn(answer(call.header("idempotency-key", key).form(&form)))
    });
    let mut ids = std::collections::BTreeSet::new();
    for call in calls.collect::<Vec<_>>() {
        let (status, body) = call.await.unwrap();
        assert!(status == 200 || status == 409, "{body}");
        ids.extend(body["id"].as_str().map(str::to_owned));
    }
    assert_eq!(ids.len(), 200);
    assert_eq!(provider.ledger().len(), 200);
}
