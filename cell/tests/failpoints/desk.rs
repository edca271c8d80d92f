//! The provider, used behind the cell's back: a capture that no order claims.

use proto::id::OrderId;

use crate::cell::{CellUnderTest, GOOD_CARD};

/// Charges for an order of a sale's first bucket.
pub(crate) async fn charge(cell: &CellUnderTest, sale: &str, order: OrderId) {
    rustls::crypto::ring::default_provider().install_default().ok();
    let order = order.to_string();
    let form = [
        ("amount", "1999"),
        ("currency", "eur"),
        ("metadata[order]", &order),
        ("metadata[org]", "acme"),
        ("metadata[sale]", sale),
        ("metadata[bucket]", "0"),
    ];
    let made = post(cell, "payment_intents", &format!("stray-{order}-create"), &form).await;
    let path = format!("payment_intents/{}/confirm", made["id"].as_str().unwrap());
    post(cell, &path, &format!("stray-{order}"), &[("payment_method", GOOD_CARD)]).await;
}

async fn post(
    cell: &CellUnderTest,
    path: &str,
    key: &str,
    form: &[(&str, &str)],
) -> serde_json::Value {
    let url = format!("{}/v1/{path}", cell.stack.endpoint("provider").unwrap().url);
    let post = reqwest::Client::new().post(url).header("Idempotency-Key", key).form(form);
    let answer = post.send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    answer.json().await.unwrap()
}
