//! The stage on which every row is tried: one platform, two orgs that share it, a sale of each that is open.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use floodgate_chaos::identity::Signer;
use local::{PlaneBinaries, PlaneSpec, Platform};
use proto::fault::{Fault, Reason};
use proto::token::Role;
use proto::wire::Money;
use proto::wire::admin::sale::Class;
use proto::wire::admin::sale_service_client::SaleServiceClient;
use proto::wire::admin::token_service_client::TokenServiceClient;
use proto::wire::admin::{CreateSaleRequest, Sale, ScheduleSaleRequest};
use proto::wire::fleet::cell_service_client::CellServiceClient;
use proto::wire::fleet::org_service_client::OrgServiceClient;
use proto::wire::fleet::placement_service_client::PlacementServiceClient;
use proto::wire::fleet::probe_service_client::ProbeServiceClient;
use proto::wire::fleet::{CreateOrgRequest, GetPlacementRequest, Org, PublicKey};
use runtime::clock::Clock;
use serde::Deserialize;
use tokio::time::{Instant, sleep};
use tonic::transport::{Channel, Endpoint};

use crate::platform;
use crate::shop::{Line, POLL, SOON, Shop, fresh_id, line, line_saying, sale_until};

/// The cells, and how many of them an org gets.
const CELLS: u32 = 3;
const CELLS_PER_ORG: u32 = 2;
/// Rows must not meet the limits of buyers; those have a router of their own.
pub(crate) const ROUTER: [&str; 4] =
    ["--buyer-calls-per-s", "10000", "--buyer-calls-burst", "10000"];
/// A sale with fewer units lies in one of its org's cells alone.
pub(crate) const SMALL: u32 = 10;

/// A tenant and the key that signs its tokens.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) id: String,
    pub(crate) signer: Signer,
}

/// See the module.
pub(crate) struct Stage {
    pub(crate) platform: Platform,
    pub(crate) acme: Tenant,
    pub(crate) other: Tenant,
    /// An open sale of acme: plenty of units, two a buyer, holds last for minutes.
    pub(crate) open: String,
    /// An open sale of the other org.
    pub(crate) foreign: String,
    /// A sale of acme that was never scheduled.
    pub(crate) draft: String,
    operator: Signer,
    edge: Channel,
    control: Channel,
    callers: AtomicU32,
}

impl Stage {
    /// Starts everything.
    pub(crate) async fn set() -> anyhow::Result<Stage> {
        Stage::on(platform::start(CELLS, CELLS_PER_ORG, &ROUTER).await?).await
    }

    /// The same on a platform that runs.
    pub(crate) async fn on(platform: Platform) -> anyhow::Result<Stage> {
        let channel = |name: &str| -> anyhow::Result<Channel> {
            Ok(Endpoint::from_shared(platform.stack().endpoint(name)?.url)?.connect_lazy())
        };
        let tenant = |id: &str, seed: u8| -> anyhow::Result<Tenant> {
            Ok(Tenant { id: id.to_owned(), signer: Signer::of_org(id, "k1", &[seed; 32])? })
        };
        let mut stage = Stage {
            edge: channel("router")?,
            control: channel("control-plane")?,
            operator: Signer::of_platform(&std::fs::read(&platform.key().private)?)?,
            acme: tenant("acme", 1)?,
            other: tenant("other", 2)?,
            open: String::new(),
            foreign: String::new(),
            draft: String::new(),
            callers: AtomicU32::new(0),
            platform,
        };
        stage.register(&stage.acme).await?;
        stage.register(&stage.other).await?;
        stage.open = stage.sale(|sale| sale.stock = 2_000).await?;
        stage.foreign = stage.sale_of(&stage.other, stock(100)).await?;
        stage.draft = stage.write_down(&stage.acme, stock(100)).await?;
        Ok(stage)
    }

    /// Where a server is reached.
    pub(crate) fn url(&self, name: &str) -> anyhow::Result<String> {
        Ok(self.platform.stack().endpoint(name)?.url)
    }

    /// Unix seconds.
    pub(crate) fn now_s(&self) -> u64 {
        now_ms() / 1_000
    }

    /// A token of a tenant that is good for an hour.
    pub(crate) fn token(&self, tenant: &Tenant, subject: &str, role: Role) -> String {
        tenant.signer.token(subject, role, self.now_s() + 3_600)
    }

    /// A buyer of acme whom nobody has seen before.
    pub(crate) fn buyer(&self) -> Shop {
        self.buyer_of(&self.acme)
    }

    /// A buyer of a tenant whom nobody has seen before.
    pub(crate) fn buyer_of(&self, tenant: &Tenant) -> Shop {
        self.shop(&self.buyer_token(tenant)).unwrap()
    }

    /// The token of a buyer whom nobody has seen before.
    pub(crate) fn buyer_token(&self, tenant: &Tenant) -> String {
        let number = self.callers.fetch_add(1, Ordering::Relaxed);
        self.token(tenant, &format!("buyer-{number}"), Role::Buyer)
    }

    /// A storefront with this token.
    pub(crate) fn shop(&self, token: &str) -> anyhow::Result<Shop> {
        Ok(Shop::new(line(&self.edge, token)?))
    }

    /// A storefront with this `authorization`, or none.
    pub(crate) fn shop_saying(&self, authorization: Option<&str>) -> anyhow::Result<Shop> {
        Ok(Shop::new(line_saying(&self.edge, authorization)?))
    }

    /// Sales, with this `authorization` or none.
    pub(crate) fn sales_saying(
        &self,
        authorization: Option<&str>,
    ) -> anyhow::Result<SaleServiceClient<Line>> {
        Ok(SaleServiceClient::new(line_saying(&self.control, authorization)?))
    }

    /// Sales, as acme's merchant.
    pub(crate) fn sales(&self) -> SaleServiceClient<Line> {
        self.sales_of(&self.acme)
    }

    /// Tokens, as acme's merchant.
    pub(crate) fn tokens(&self) -> TokenServiceClient<Line> {
        let token = self.token(&self.acme, "merchant", Role::Merchant);
        TokenServiceClient::new(line(&self.control, &token).unwrap())
    }

    /// Sales, as a tenant's merchant.
    pub(crate) fn sales_of(&self, tenant: &Tenant) -> SaleServiceClient<Line> {
        let token = self.token(tenant, "merchant", Role::Merchant);
        SaleServiceClient::new(line(&self.control, &token).unwrap())
    }

    fn operator(&self) -> Line {
        let token = self.operator_token();
        line(&self.control, &token).unwrap()
    }

    /// A token of the platform's own people.
    pub(crate) fn operator_token(&self) -> String {
        self.operator.token("ops", Role::Operator, self.now_s() + 3_600)
    }

    /// A token of another role that the platform signed.
    pub(crate) fn platform_token(&self, role: Role) -> String {
        self.operator.token("ops", role, self.now_s() + 3_600)
    }

    /// Orgs, as an operator.
    pub(crate) fn orgs(&self) -> OrgServiceClient<Line> {
        OrgServiceClient::new(self.operator())
    }

    /// Orgs, with this token.
    pub(crate) fn orgs_with(&self, token: &str) -> anyhow::Result<OrgServiceClient<Line>> {
        Ok(OrgServiceClient::new(line(&self.control, token)?))
    }

    /// Cells, as an operator.
    pub(crate) fn cells(&self) -> CellServiceClient<Line> {
        CellServiceClient::new(self.operator())
    }

    /// Placements, as an operator.
    pub(crate) fn placements(&self) -> PlacementServiceClient<Line> {
        PlacementServiceClient::new(self.operator())
    }

    /// Probes, as a buyer of acme.
    pub(crate) fn probes(&self) -> ProbeServiceClient<Line> {
        let token = self.buyer_token(&self.acme);
        ProbeServiceClient::new(line(&self.edge, &token).unwrap())
    }

    /// The cells in which a tenant lives, as `cells/{cell}`.
    pub(crate) async fn cells_of(&self, tenant: &Tenant) -> anyhow::Result<Vec<String>> {
        let name = format!("orgs/{}/placement", tenant.id);
        let placement = self.placements().get_placement(GetPlacementRequest { name }).await?;
        Ok(placement.into_inner().cells)
    }

    /// Registers a tenant and waits until the router knows it.
    pub(crate) async fn register(&self, tenant: &Tenant) -> anyhow::Result<()> {
        let deadline = Instant::now() + SOON;
        // The control plane may not have seen all cells yet.
        while let Err(status) = self.orgs().create_org(registration(tenant)).await {
            let early = Fault::of_status(&status).is_some_and(|f| f.reason == Reason::Overloaded);
            if !early || Instant::now() > deadline {
                bail!("CreateOrg: {status}");
            }
            sleep(POLL).await;
        }
        let nothing = format!("orgs/{}/sales/s0000000000000000", tenant.id);
        loop {
            let status = self.buyer_of(tenant).state(&nothing).await.err().context("no sale")?;
            if Fault::of_status(&status).is_some_and(|fault| fault.reason == Reason::NotFound) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the router does not know {}: {status}", tenant.id);
            }
            sleep(POLL).await;
        }
    }

    /// Makes a sale of acme that is open, and waits until the router knows it.
    pub(crate) async fn sale(&self, change: impl FnOnce(&mut Sale)) -> anyhow::Result<String> {
        let mut sale = stock(100);
        change(&mut sale);
        self.sale_of(&self.acme, sale).await
    }

    /// Makes a sale, waits until it is warm and until the router has heard of all its buckets.
    pub(crate) async fn sale_of(&self, tenant: &Tenant, sale: Sale) -> anyhow::Result<String> {
        let name = self.scheduled(tenant, sale).await?;
        sale_until(&mut self.sales_of(tenant), &name, |sale| sale.warm).await?;
        let (buyer, deadline) = (self.buyer_of(tenant), Instant::now() + SOON);
        loop {
            let state = buyer.state(&name).await.map(tonic::Response::into_inner);
            if state.as_ref().is_ok_and(|state| !state.stale && state.free == state.stock) {
                return Ok(name);
            }
            if Instant::now() > deadline {
                bail!("the router does not know {name}: {state:?}");
            }
            sleep(POLL).await;
        }
    }

    /// Makes a sale and schedules it.
    pub(crate) async fn scheduled(&self, tenant: &Tenant, sale: Sale) -> anyhow::Result<String> {
        let name = self.write_down(tenant, sale).await?;
        let request = ScheduleSaleRequest { name: name.clone() };
        self.sales_of(tenant).schedule_sale(request).await.context("ScheduleSale")?;
        Ok(name)
    }

    /// Makes a sale.
    pub(crate) async fn write_down(&self, tenant: &Tenant, sale: Sale) -> anyhow::Result<String> {
        let made = self.sales_of(tenant).create_sale(creation(tenant, sale)).await;
        Ok(made.context("CreateSale")?.into_inner().name)
    }

    /// Starts another router, with these further flags, and waits until it knows acme's open sale.
    pub(crate) async fn another_router(&self, name: &str, flags: &[&str]) -> anyhow::Result<()> {
        let etcd = self.url("etcd")?;
        let own = ["--etcd", etcd.as_str()];
        let flags = own.iter().chain(flags);
        let spec = PlaneSpec {
            name: name.to_owned(),
            program: PlaneBinaries::find().program("floodgate-router")?,
            args: flags.map(|word| (*word).to_owned()).collect(),
            env: Vec::new(),
        };
        self.platform.stack().start_plane(&spec).await?;
        let deadline = Instant::now() + SOON;
        loop {
            let state = self.buyer_at(name)?.state(&self.open).await;
            if state.as_ref().is_ok_and(|state| !state.get_ref().stale) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{name} does not know {}: {state:?}", self.open);
            }
            sleep(POLL).await;
        }
    }

    /// A buyer of acme at a router of this name.
    pub(crate) fn buyer_at(&self, router: &str) -> anyhow::Result<Shop> {
        self.buyer_of_at(&self.acme, router)
    }

    /// A buyer of a tenant at a router of this name.
    pub(crate) fn buyer_of_at(&self, tenant: &Tenant, router: &str) -> anyhow::Result<Shop> {
        self.shop_at(router, &self.buyer_token(tenant))
    }

    /// A storefront with this token at a router of this name.
    pub(crate) fn shop_at(&self, router: &str, token: &str) -> anyhow::Result<Shop> {
        let channel = Endpoint::from_shared(self.url(router)?)?.connect_lazy();
        Ok(Shop::new(line(&channel, token)?))
    }

    /// How often the provider has charged for an order, by its file.
    pub(crate) fn captures(&self, order: &str) -> anyhow::Result<usize> {
        #[derive(Deserialize)]
        struct Entry {
            intent: String,
            event: String,
            order: Option<String>,
        }
        let file: PathBuf = self.platform.stack().folder().join("provider/ledger.jsonl");
        let text = std::fs::read_to_string(file)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let entries: Vec<Entry> =
            whole.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let id = order.rsplit('/').next();
        let ours = |intent: &str| {
            entries.iter().any(|one| one.intent == intent && one.order.as_deref() == id)
        };
        Ok(entries.iter().filter(|one| one.event == "captured" && ours(&one.intent)).count())
    }
}

/// Unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    Clock::system().now_ms()
}

/// A time from now.
pub(crate) fn in_ms(ms: i64) -> Option<prost_types::Timestamp> {
    let at_ms = i64::try_from(now_ms()).unwrap() + ms;
    let nanos = i32::try_from(at_ms.rem_euclid(1_000)).unwrap() * 1_000_000;
    Some(prost_types::Timestamp { seconds: at_ms.div_euclid(1_000), nanos })
}

/// A span of time.
pub(crate) fn lasting(ms: u64) -> Option<prost_types::Duration> {
    Duration::from_millis(ms).try_into().ok()
}

/// So many euros and cents.
pub(crate) fn euros(units: i64, nanos: i32) -> Option<Money> {
    Some(Money { currency_code: "EUR".to_owned(), units, nanos })
}

/// A FLASH sale that opens now, lasts an hour and admits everybody at once.
pub(crate) fn stock(units: u32) -> Sale {
    Sale {
        display_name: "Rows".to_owned(),
        class: Class::Flash.into(),
        stock: units,
        cap: 2,
        price: euros(19, 990_000_000),
        start_time: in_ms(0),
        end_time: in_ms(3_600_000),
        hold_ttl: lasting(120_000),
        admission_rate: 10_000,
        keeping_time: lasting(60_000),
        ..Sale::default()
    }
}

/// Asks to write a sale down.
pub(crate) fn creation(tenant: &Tenant, sale: Sale) -> CreateSaleRequest {
    CreateSaleRequest {
        parent: format!("orgs/{}", tenant.id),
        sale: Some(sale),
        request_id: fresh_id(),
        validate_only: false,
    }
}

/// Asks to register a tenant.
pub(crate) fn registration(tenant: &Tenant) -> CreateOrgRequest {
    let key = PublicKey::ed25519(tenant.signer.kid(), tenant.signer.public());
    CreateOrgRequest {
        org_id: tenant.id.clone(),
        org: Some(Org { keys: vec![key], ..Org::default() }),
        request_id: fresh_id(),
    }
}
