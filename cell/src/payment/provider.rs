//! The provider's HTTP interface: payment intents in Stripe's shape, as much of it as an order needs.

use proto::limits::{PROVIDER_CALL_MS, PROVIDER_TRIES_MAX};
use rand::RngExt;
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use std::collections::HashMap;
use std::time::Duration;

/// The first pause between two tries; it doubles.
const PAUSE_MS: u64 = 100;
/// Connections that wait to be used again.
const IDLE_CONNECTIONS_MAX: usize = 64;
/// Bytes of a code that is told.
const CODE_BYTES_MAX: usize = 64;
/// Intents on one page of the provider's list.
pub(super) const PAGE: usize = 100;

/// How long after it was made a payment may begin to be charged.
pub(super) const CHARGE_WITHIN_S: i64 = 30;

/// What a payment intent has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// The last try was declined, or there was none yet.
    RequiresPaymentMethod,
    /// Nothing has been charged.
    RequiresConfirmation,
    /// The buyer's bank wants to speak to the buyer.
    RequiresAction,
    /// Held on the card, not taken.
    RequiresCapture,
    /// Not known yet.
    Processing,
    /// The money was taken.
    Succeeded,
    /// It will never be charged.
    Canceled,
}

/// A payment at the provider.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Intent {
    pub(crate) id: String,
    pub(crate) status: Status,
    pub(crate) amount: i64,
    pub(crate) currency: String,
    /// When it was made, unix seconds by the provider's clock.
    pub(crate) created: i64,
    #[serde(default)]
    pub(crate) metadata: HashMap<String, String>,
    last_payment_error: Option<serde::de::IgnoredAny>,
}

impl Intent {
    /// Whether a try was made and declined.
    pub(crate) fn is_declined(&self) -> bool {
        self.status == Status::RequiresPaymentMethod && self.last_payment_error.is_some()
    }

    /// Whether a try to charge it may begin at `now_s` (unix seconds): nothing was charged yet, and a capture would still
    /// be seen when the provider's list is compared with the ledger, which looks for payments by when they were made.
    pub(crate) fn may_be_charged(&self, now_s: i64) -> bool {
        matches!(self.status, Status::RequiresPaymentMethod | Status::RequiresConfirmation)
            && now_s.saturating_sub(self.created) <= CHARGE_WITHIN_S
    }
}

/// What to charge for.
#[derive(Clone, Debug)]
pub(crate) struct Charge<'a> {
    pub(crate) amount_minor: i64,
    pub(crate) currency: &'a str,
    pub(crate) metadata: &'a [(&'a str, String)],
}

/// Why the provider did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProviderError {
    /// The card was declined: final for this try.
    #[error("the card was declined")]
    Declined,
    /// The provider refused for good.
    #[error("the provider refused: {0}")]
    Refused(String),
    /// It may have been done or not.
    #[error("the provider's answer is unknown: {0}")]
    Unknown(String),
}

/// A client of the provider.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    client: Client,
    base: String,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Intent>,
    has_more: bool,
}

#[derive(Deserialize)]
struct Refunds {
    data: Vec<serde::de::IgnoredAny>,
}

impl Provider {
    /// The provider at `base` (`http://host:port`).
    pub(crate) fn new(base: &str) -> Result<Provider, reqwest::Error> {
        let client = Client::builder()
            .timeout(Duration::from_millis(PROVIDER_CALL_MS))
            .connect_timeout(Duration::from_millis(PROVIDER_CALL_MS / 5))
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build()?;
        Ok(Provider { client, base: base.trim_end_matches('/').into() })
    }

    /// Makes a payment that charges nothing yet.
    pub(crate) async fn create(
        &self,
        key: &str,
        charge: &Charge<'_>,
    ) -> Result<Intent, ProviderError> {
        let mut form = vec![
            ("amount".to_owned(), charge.amount_minor.to_string()),
            ("currency".to_owned(), charge.currency.to_lowercase()),
            ("capture_method".to_owned(), "automatic".to_owned()),
        ];
        let metadata = charge.metadata.iter();
        form.extend(metadata.map(|(name, value)| (format!("metadata[{name}]"), value.clone())));
        self.post("/v1/payment_intents", key, &form, Lost::Repeat).await
    }

    /// Charges a payment method. A reply that is lost is not asked for again here: it is settled by looking.
    pub(crate) async fn confirm(
        &self,
        key: &str,
        intent: &str,
        method: &str,
    ) -> Result<Intent, ProviderError> {
        let form = [("payment_method".to_owned(), method.to_owned())];
        let path = format!("/v1/payment_intents/{intent}/confirm");
        self.post(&path, key, &form, Lost::Say).await
    }

    /// Makes sure that a payment will never be charged.
    pub(crate) async fn cancel(&self, key: &str, intent: &str) -> Result<Intent, ProviderError> {
        self.post(&format!("/v1/payment_intents/{intent}/cancel"), key, &[], Lost::Repeat).await
    }

    /// Gives a capture back.
    pub(crate) async fn refund(&self, key: &str, intent: &str) -> Result<(), ProviderError> {
        let form = [("payment_intent".to_owned(), intent.to_owned())];
        let _: serde::de::IgnoredAny = self.post("/v1/refunds", key, &form, Lost::Repeat).await?;
        Ok(())
    }

    /// What a payment has come to.
    pub(crate) async fn retrieve(&self, intent: &str) -> Result<Intent, ProviderError> {
        self.get(&format!("/v1/payment_intents/{intent}")).await
    }

    /// Whether anything of a capture was given back.
    pub(crate) async fn is_refunded(&self, intent: &str) -> Result<bool, ProviderError> {
        let refunds: Refunds = self.get(&format!("/v1/refunds?payment_intent={intent}")).await?;
        Ok(!refunds.data.is_empty())
    }

    /// A page of the payments made since `since_s` (unix seconds), the newest first, and whether there are more.
    pub(crate) async fn list(
        &self,
        since_s: i64,
        after: Option<&str>,
    ) -> Result<(Vec<Intent>, bool), ProviderError> {
        let after = after.map(|id| format!("&starting_after={id}")).unwrap_or_default();
        let path = format!("/v1/payment_intents?limit={PAGE}&created[gte]={since_s}{after}");
        let page: Page = self.get(&path).await?;
        Ok((page.data, page.has_more))
    }

    async fn post<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        form: &[(String, String)],
        lost: Lost,
    ) -> Result<T, ProviderError> {
        let url = format!("{}{path}", self.base);
        let send = || self.client.post(&url).header("Idempotency-Key", key).form(form);
        tries(send, lost).await
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, ProviderError> {
        let url = format!("{}{path}", self.base);
        tries(|| self.client.get(&url), Lost::Repeat).await
    }
}

/// What to do about a reply that did not come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lost {
    Repeat,
    Say,
}

async fn tries<T: serde::de::DeserializeOwned>(
    request: impl Fn() -> reqwest::RequestBuilder,
    lost: Lost,
) -> Result<T, ProviderError> {
    let mut pause_ms = PAUSE_MS;
    let mut unknown = String::new();
    for attempt in 0..PROVIDER_TRIES_MAX {
        if attempt > 0 {
            let jittered_ms = rand::rng().random_range(pause_ms / 2..=pause_ms);
            tokio::time::sleep(Duration::from_millis(jittered_ms)).await;
            pause_ms *= 2;
        }
        let never_arrived = |error: &reqwest::Error| error.is_connect();
        unknown = match request().send().await {
            Ok(response) if is_passing(response.status()) => response.status().to_string(),
            Ok(response) => return read(response).await,
            Err(error) if lost == Lost::Repeat || never_arrived(&error) => error.to_string(),
            Err(error) => return Err(ProviderError::Unknown(error.to_string())),
        };
    }
    Err(ProviderError::Unknown(unknown))
}

/// Worth another try under the same key.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::CONFLICT
        || status == StatusCode::TOO_MANY_REQUESTS
}

async fn read<T: serde::de::DeserializeOwned>(
    response: reqwest::Response,
) -> Result<T, ProviderError> {
    let status = response.status();
    if status == StatusCode::PAYMENT_REQUIRED {
        return Err(ProviderError::Declined);
    }
    if !status.is_success() {
        return Err(ProviderError::Refused(codes(
            status,
            &response.json().await.unwrap_or_default(),
        )));
    }
    response.json().await.map_err(|error| ProviderError::Unknown(error.to_string()))
}

/// A refusal, as much of it as may be told: its sentences repeat what was sent, a card among it.
#[derive(Debug, Default, Deserialize)]
struct Refusal {
    error: Codes,
}

#[derive(Debug, Default, Deserialize)]
struct Codes {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    code: String,
}

fn codes(status: StatusCode, Refusal { error }: &Refusal) -> String {
    let is_code = |text: &&str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        text.len() <= CODE_BYTES_MAX && text.bytes().all(plain)
    };
    let codes: Vec<_> = [&*error.kind, &*error.code].into_iter().filter(is_code).collect();
    format!("{} {}", status.as_u16(), codes.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_by_its_codes_and_not_by_what_was_sent() {
        let told = |text: &str| {
            codes(StatusCode::BAD_REQUEST, &serde_json::from_str(text).unwrap_or_default())
        };
        let text = r#"{"error":{"type":"invalid_request_error","code":"resource_missing",
                       "message":"no such PaymentMethod: '4242'","param":"payment_method"}}"#;
        assert_eq!(told(text), "400 invalid_request_error resource_missing");
        assert_eq!(told(r#"{"error":{"type":"a","code":"4242 4242"}}"#), "400 a");
        assert_eq!(told("4242"), "400  ");
    }

    #[test]
    fn only_a_young_payment_that_was_not_charged_may_be_charged() {
        let intent = |status: &str| -> Intent {
            let text = format!(
                r#"{{"id":"pi_1","status":"{status}","amount":1,"currency":"eur","created":1000}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        for status in ["requires_payment_method", "requires_confirmation"] {
            assert!(intent(status).may_be_charged(1_000), "{status}");
            assert!(intent(status).may_be_charged(1_000 + CHARGE_WITHIN_S), "{status}");
            assert!(!intent(status).may_be_charged(1_001 + CHARGE_WITHIN_S), "{status}");
            assert!(!intent(status).may_be_charged(i64::MAX), "{status}");
        }
        for status in ["canceled", "succeeded", "processing", "requires_action", "requires_capture"]
        {
            assert!(!intent(status).may_be_charged(1_000), "{status}");
        }
    }
}
