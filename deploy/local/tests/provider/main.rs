//! The payment provider's simulator keeps its word: states, declines, idempotency, lists, refusals, and
//! (in `faults.rs`) all of that while it is slow, fails, loses replies and is killed.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod client;
mod faults;

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Form, MANUAL, Provider, VISA, answer, path};

#[tokio::test]
async fn an_intent_is_confirmed_captured_and_refunded_in_parts() {
    let provider = Provider::start().await;
    let id = provider.create("o-1", &[MANUAL]).await;
    let (_, body) = provider.get(&format!("/v1/payment_intents/{id}")).await;
    assert_eq!(body["object"], "payment_intent");
    assert_eq!(body["status"], "requires_payment_method");
    assert_eq!((&body["amount"], &body["currency"]), (&json!(500), &json!("eur")));
    assert_eq!(body["metadata"]["order"], "o-1");

    let (status, body) = provider.post(&path(&id, "confirm"), "o-1:1", &[VISA]).await;
    assert_eq!((status, &body["status"]), (200, &json!("requires_capture")), "{body}");
    assert_eq!((&body["amount_capturable"], &body["amount_received"]), (&json!(500), &json!(0)));

    let (status, body) = provider.post(&path(&id, "capture"), "o-1:2", &[]).await;
    assert_eq!((status, &body["status"]), (200, &json!("succeeded")), "{body}");
    assert_eq!((&body["amount_capturable"], &body["amount_received"]), (&json!(0), &json!(500)));

    let (status, body) = provider.post(&path(&id, "cancel"), "o-1:3", &[]).await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("payment_intent_unexpected_state")));

    let intent = ("payment_intent", id.as_str());
    let (status, first) = provider.post("/v1/refunds", "o-1:4", &[intent, ("amount", "200")]).await;
    assert_eq!(
        (status, &first["amount"], &first["status"]),
        (200, &json!(200), &json!("succeeded"))
    );
    let (status, _) = provider.post("/v1/refunds", "o-1:5", &[intent, ("amount", "301")]).await;
    assert_eq!(status, 400, "more than is left was given back");
    let (_, rest) = provider.post("/v1/refunds", "o-1:6", &[intent]).await;
    assert_eq!(rest["amount"], 300);
    let (status, body) = provider.post("/v1/refunds", "o-1:7", &[intent]).await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("charge_already_refunded")));

    let (_, list) = provider.get(&format!("/v1/refunds?payment_intent={id}")).await;
    assert_eq!(list["data"], json!([rest, first]));
    let (_, other) = provider.get("/v1/refunds?payment_intent=pi_other").await;
    assert_eq!(other["data"], json!([]));
    assert_eq!(provider.events(&id), ["created", "confirmed", "captured", "refunded", "refunded"]);
    let ledger = provider.ledger();
    assert!(ledger.iter().all(|line| line["order"] == "o-1"));
    assert_eq!(ledger[1]["key"], "o-1:1");
}

#[tokio::test]
async fn a_confirm_captures_at_once_when_the_intent_says_so() {
    let provider = Provider::start().await;
    let id = provider.create("o-1", &[VISA]).await;
    assert_eq!(provider.status(&id).await, "requires_confirmation");
    let (status, body) = provider.post(&path(&id, "confirm"), "o-1:1", &[]).await;
    assert_eq!((status, &body["status"]), (200, &json!("succeeded")), "{body}");
    assert_eq!(body["amount_received"], 500);
    assert_eq!(provider.events(&id), ["created", "captured"]);
}

#[tokio::test]
async fn a_declined_card_says_why_and_another_may_be_tried() {
    let provider = Provider::start().await;
    let cases = [
        ("pm_card_chargeDeclined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"),
    ];
    for (method, decline_code) in cases {
        let id = provider.create(method, &[MANUAL]).await;
        let confirm = path(&id, "confirm");
        let form = [("payment_method", method)];
        let (status, body) = provider.post(&confirm, &format!("{id}:1"), &form).await;
        assert_eq!(status, 402, "{body}");
        let error = &body["error"];
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("card_error"), &json!("card_declined"))
        );
        assert_eq!(error["decline_code"], decline_code);
        assert_eq!(error["payment_intent"]["status"], "requires_payment_method");
        assert_eq!(provider.post(&confirm, &format!("{id}:1"), &form).await, (402, body));

        let (_, body) = provider.get(&format!("/v1/payment_intents/{id}")).await;
        assert_eq!(body["last_payment_error"]["decline_code"], decline_code);
        let (status, body) = provider.post(&confirm, &format!("{id}:2"), &[VISA]).await;
        assert_eq!((status, &body["last_payment_error"]), (200, &json!(null)), "{body}");
        assert_eq!(provider.events(&id), ["created", "declined", "confirmed"]);
    }
}

#[tokio::test]
async fn a_canceled_intent_takes_no_money() {
    let provider = Provider::start().await;
    let id = provider.create("o-1", &[MANUAL, VISA]).await;
    provider.post(&path(&id, "confirm"), "1", &[]).await;
    let (status, body) = provider.post(&path(&id, "cancel"), "2", &[]).await;
    assert_eq!(
        (status, &body["status"], &body["amount_capturable"]),
        (200, &json!("canceled"), &json!(0))
    );
    let (status, body) = provider.post(&path(&id, "capture"), "3", &[]).await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("payment_intent_unexpected_state")));
    assert_eq!(provider.events(&id), ["created", "confirmed", "canceled"]);
}

#[tokio::test]
async fn a_key_is_answered_once_and_for_all() {
    let provider = Provider::start().await;
    let form = [("amount", "500"), ("currency", "eur")];
    let first = provider.posting("/v1/payment_intents", "k", &form).send().await.unwrap();
    assert!(first.headers().get("idempotent-replayed").is_none());
    let first: Value = first.json().await.unwrap();
    let id = first["id"].as_str().unwrap();
    provider.post(&path(id, "confirm"), "k2", &[VISA]).await;

    let again = provider.posting("/v1/payment_intents", "k", &form).send().await.unwrap();
    assert_eq!(again.headers().get("idempotent-replayed").unwrap(), "true");
    assert_eq!(again.json::<Value>().await.unwrap(), first, "the answer as it was given then");

    let other = [("amount", "501"), ("currency", "eur")];
    let (status, body) = provider.post("/v1/payment_intents", "k", &other).await;
    assert_eq!((status, &body["error"]["type"]), (400, &json!("idempotency_error")));
    let (status, body) = provider.post(&path(id, "cancel"), "k", &[]).await;
    assert_eq!((status, &body["error"]["type"]), (400, &json!("idempotency_error")));
    assert_eq!(provider.ledger().len(), 2);
}

#[tokio::test]
async fn lists_are_paged_newest_first() {
    let provider = Provider::start().await;
    let mut ids = Vec::new();
    for number in 0..25 {
        ids.push(provider.create(&format!("o-{number}"), &[]).await);
    }
    ids.reverse();
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let (status, page) = provider.get(&format!("/v1/payment_intents?limit=10{after}")).await;
        assert_eq!(status, 200, "{page}");
        let data = page["data"].as_array().unwrap();
        seen.extend(data.iter().map(|one| one["id"].as_str().unwrap().to_owned()));
        after = format!("&starting_after={}", seen.last().unwrap());
        if page["has_more"] == false {
            break;
        }
        assert_eq!(data.len(), 10);
    }
    assert_eq!(seen, ids);

    let created = provider.ledger()[0]["at_ms"].as_u64().unwrap() / 1000;
    let from = |second: u64| format!("/v1/payment_intents?limit=100&created[gte]={second}");
    assert_eq!(provider.get(&from(created)).await.1["data"].as_array().unwrap().len(), 25);
    assert_eq!(provider.get(&from(created + 3_600)).await.1["data"], json!([]));
    assert_eq!(provider.get("/v1/payment_intents?limit=101").await.0, 400);
    assert_eq!(provider.get("/v1/payment_intents?starting_after=pi_none").await.0, 404);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_as_stripe_does() {
    let provider = Provider::start().await;
    let create = "/v1/payment_intents";
    let cases: [(&str, Form, u16, &str); 7] = [
        (create, &[("currency", "eur")], 400, "parameter_missing"),
        (create, &[("amount", "0"), ("currency", "eur")], 400, "parameter_invalid"),
        (create, &[("amount", "5"), ("currency", "euro")], 400, "parameter_invalid"),
        (create, &[("amount", "5"), ("currency", "eur"), ("x", "y")], 400, "parameter_unknown"),
        (
            create,
            &[("amount", "5"), ("currency", "eur"), ("payment_method", "pm_x")],
            400,
            "resource_missing",
        ),
        ("/v1/payment_intents/pi_none/confirm", &[], 404, "resource_missing"),
        ("/v1/refunds", &[("payment_intent", "pi_none")], 404, "resource_missing"),
    ];
    for (index, (path, form, status, code)) in cases.into_iter().enumerate() {
        let (found, body) = provider.post(path, &format!("k-{index}"), form).await;
        assert_eq!((found, &body["error"]["code"]), (status, &json!(code)), "{path} {form:?}");
    }
    let id = provider.create("o-1", &[]).await;
    let (status, body) = answer(provider.call(Method::POST, &path(&id, "confirm"))).await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("payment_intent_unexpected_state")));
    assert_eq!(provider.ledger().len(), 1);
}
