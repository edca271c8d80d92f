//! A shop that speaks HTTP and nothing else: its merchant opens sales with curl, on a platform of its own.

use std::time::Duration;

use anyhow::{Context, bail};
use floodgate_chaos::identity::{Signer, bearer};
use local::Platform;
use proto::fault::{Fault, Reason};
use proto::token::Role;
use proto::wire::fleet::org_service_client::OrgServiceClient;
use proto::wire::fleet::{CreateOrgRequest, Org, PublicKey};
use runtime::clock::Clock;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tonic::Request;
use tonic::transport::Endpoint;
use uuid::Uuid;

use crate::{curl, platform};

/// How long something may take that happens by itself.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// Pause before looking again.
pub(crate) const POLL: Duration = Duration::from_millis(50);
/// The org.
pub(crate) const ORG: &str = "acme";
/// Units of a sale, and what one of them costs.
const STOCK: u32 = 60;
/// The same, as JSON has what may be more than its numbers can be.
pub(crate) const STOCK_TEXT: &str = "60";
const PRICE: &str = r#"{"currencyCode": "EUR", "units": "12", "nanos": 500000000}"#;

/// See the module.
pub(crate) struct Shop {
    pub(crate) platform: Platform,
    pub(crate) control: String,
    pub(crate) router: String,
    signer: Signer,
}

impl Shop {
    /// Starts a platform, with these further flags of the router, and registers the org.
    pub(crate) async fn open(router: &[&str]) -> anyhow::Result<Shop> {
        let platform = platform::start(2, 2, router).await?;
        let url = |name: &str| anyhow::Ok(platform.stack().endpoint(name)?.url);
        let signer = Signer::of_org(ORG, "k1", &[1; 32])?;
        let (control, router) = (url("control-plane")?, url("router")?);
        let shop = Shop { control, router, signer, platform };
        shop.register().await?;
        Ok(shop)
    }

    /// What a caller says with every request.
    pub(crate) fn bearer(&self, subject: &str, role: Role) -> String {
        let expires_s = Clock::system().now_ms() / 1_000 + 3_600;
        format!("Bearer {}", self.signer.token(subject, role, expires_s))
    }

    async fn register(&self) -> anyhow::Result<()> {
        let operator = Signer::of_platform(&std::fs::read(&self.platform.key().private)?)?;
        let token = operator.token("ops", Role::Operator, Clock::system().now_ms() / 1_000 + 60);
        let channel = Endpoint::from_shared(self.control.clone())?.connect_lazy();
        let key = PublicKey::ed25519(self.signer.kid(), self.signer.public());
        let org = Org { keys: vec![key], ..Org::default() };
        let message =
            CreateOrgRequest { org_id: ORG.to_owned(), org: Some(org), request_id: fresh_id() };
        let deadline = Instant::now() + SOON;
        loop {
            let mut request = Request::new(message.clone());
            request.metadata_mut().insert("authorization", bearer(&token)?);
            let Err(status) = OrgServiceClient::new(channel.clone()).create_org(request).await
            else {
                return Ok(());
            };
            // The control plane may not have seen all cells yet.
            let early = Fault::of_status(&status).is_some_and(|f| f.reason == Reason::Overloaded);
            if !early || Instant::now() > deadline {
                bail!("CreateOrg: {status}");
            }
            sleep(POLL).await;
        }
    }

    /// Opens a sale over REST and waits until the router knows it. Returns its id.
    pub(crate) async fn sale(&self) -> anyhow::Result<String> {
        let name = self.draft().await?;
        let merchant = self.bearer("merchant", Role::Merchant);
        let url = format!("{}/v1/{name}", self.control);
        let token = [("authorization", merchant.as_str())];
        let scheduled = curl::ask("POST", &format!("{url}:schedule"), &token, "").await?;
        scheduled.answer().context("schedule")?;
        self.until(&url, &merchant, |sale| sale["warm"] == true).await?;
        let id = name.rsplit('/').next().context("a name")?.to_owned();
        let url = format!("{}/v1/sales/{id}/stock", self.router);
        let open = |state: &Value| state["phase"] == "PHASE_OPEN" && state["free"] == *STOCK_TEXT;
        self.until(&url, &self.bearer("page", Role::Buyer), open).await?;
        Ok(id)
    }

    /// Writes a sale down over REST, twice under one key. Returns its name.
    pub(crate) async fn draft(&self) -> anyhow::Result<String> {
        let (merchant, key) = (self.bearer("merchant", Role::Merchant), fresh_id());
        let headers = [
            ("authorization", merchant.as_str()),
            ("content-type", "application/json"),
            ("idempotency-key", key.as_str()),
        ];
        let sale = json!({
            "displayName": "One of sixty",
            "stock": STOCK,
            "cap": 2,
            "price": serde_json::from_str::<Value>(PRICE)?,
            "startTime": in_s(1),
            "endTime": in_s(600),
            "holdTtl": "60s",
            "keepingTime": "60s",
        });
        let url = format!("{}/v1/orgs/{ORG}/sales", self.control);
        let made = curl::ask("POST", &url, &headers, &sale.to_string()).await?.answer()?;
        let again = curl::ask("POST", &url, &headers, &sale.to_string()).await?.answer()?;
        anyhow::ensure!(made["name"] == again["name"], "{made} and {again}");
        anyhow::ensure!(made["state"] == "STATE_DRAFT" && made["holdTtl"] == "60s", "{made}");
        Ok(made["name"].as_str().context("a name")?.to_owned())
    }

    async fn until(
        &self,
        url: &str,
        bearer: &str,
        is: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let deadline = Instant::now() + SOON;
        loop {
            let told = curl::ask("GET", url, &[("authorization", bearer)], "").await?;
            if let Some(json) = told.answer().ok().filter(&is) {
                return Ok(json);
            }
            if Instant::now() > deadline {
                bail!("never at {url}: {told:?}");
            }
            sleep(POLL).await;
        }
    }
}

/// A UUID that nobody has used.
pub(crate) fn fresh_id() -> String {
    Uuid::new_v4().to_string()
}

/// A time from now, as JSON has it.
fn in_s(seconds: i64) -> String {
    let now_s = i64::try_from(Clock::system().now_ms() / 1_000).unwrap();
    prost_types::Timestamp { seconds: now_s + seconds, nanos: 0 }.to_string()
}
