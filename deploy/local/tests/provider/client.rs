//! A client of the provider and a reader of its ledger, each with a provider of its own.

use floodgate_local::{Faults, Stack, StackOptions};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

pub(crate) struct Provider {
    pub(crate) stack: Stack,
    client: Client,
    url: String,
}

impl Provider {
    pub(crate) async fn start() -> Self {
        // Another test of this process may have been first.
        rustls::crypto::ring::default_provider().install_default().ok();
        let stack = Stack::new(StackOptions::default()).await.unwrap();
        let url = stack.start_provider().await.unwrap().url;
        Self { stack, client: Client::builder().no_proxy().build().unwrap(), url }
    }

    pub(crate) fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.call(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, key: &str, form: &[(&str, &str)]) -> (u16, Value) {
        answer(self.posting(path, key, form)).await
    }

    pub(crate) fn posting(&self, path: &str, key: &str, form: &[(&str, &str)]) -> RequestBuilder {
        self.call(Method::POST, path).header("idempotency-key", key).form(form)
    }

    pub(crate) async fn create(&self, order: &str, form: &[(&str, &str)]) -> String {
        let mut all = vec![("amount", "500"), ("currency", "EUR"), ("metadata[order]", order)];
        all.extend(form);
        let (status, body) =
            self.post("/v1/payment_intents", &format!("{order}:create"), &all).await;
        assert_eq!(status, 200, "{body}");
        body["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn status(&self, intent: &str) -> String {
        let (_, body) = self.get(&format!("/v1/payment_intents/{intent}")).await;
        body["status"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn faults(&self, faults: Faults) {
        self.stack.set_faults(&faults).await.unwrap();
    }

    /// The ledger as the format promises it, checked line by line.
    pub(crate) fn ledger(&self) -> Vec<Value> {
        let path = self.stack.folder().join("provider/ledger.jsonl");
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for (index, line) in lines.iter().enumerate() {
            assert_eq!(line["seq"], index + 1, "{line}");
            assert!(line["at_ms"].as_u64().unwrap() > 1_600_000_000_000, "{line}");
            assert!(line["intent"].as_str().unwrap().starts_with("pi_"), "{line}");
            assert!(line["amount"].as_u64().unwrap() > 0, "{line}");
            assert_eq!(line["currency"], "eur", "{line}");
            assert!(line.get("order").is_some() && line.get("key").is_some(), "{line}");
        }
        lines
    }

    pub(crate) fn events(&self, intent: &str) -> Vec<String> {
        let lines = self.ledger().into_iter().filter(|line| line["intent"] == intent);
        lines.map(|line| line["event"].as_str().unwrap().to_owned()).collect()
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

pub(crate) fn path(intent: &str, step: &str) -> String {
    format!("/v1/payment_intents/{intent}/{step}")
}

pub(crate) type Form = &'static [(&'static str, &'static str)];

pub(crate) const VISA: (&str, &str) = ("payment_method", "pm_card_visa");
pub(crate) const MANUAL: (&str, &str) = ("capture_method", "manual");
