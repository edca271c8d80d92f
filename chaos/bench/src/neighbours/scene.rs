//! A platform of four cells and its control plane, and orgs on it that share none of their two cells, or one.

use crate::platform::request_id;
use anyhow::{Context, Result, bail, ensure};
use local::{PlaneExtras, Platform, PlatformPlan};
use proto::token::{Claims, PLATFORM, Role, sign};
use proto::wire::Money;
use proto::wire::admin::sale::Class;
use proto::wire::admin::sale_service_client::SaleServiceClient;
use proto::wire::admin::{CreateSaleRequest, GetSaleRequest, Sale, ScheduleSaleRequest};
use proto::wire::fleet::org_service_client::OrgServiceClient;
use proto::wire::fleet::placement_service_client::PlacementServiceClient;
use proto::wire::fleet::{
    CreateOrgRequest, GetPlacementRequest, Org, PublicKey, SetOrgQuotaRequest,
};
use ring::signature::{Ed25519KeyPair, KeyPair};
use runtime::clock::Clock;
use sqlx::{Connection, PgConnection};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

const CELLS: u32 = 4;
/// One for all, and one through which the flood comes when only the machine is to be shared with it.
const ROUTERS: u32 = 2;
const CELLS_PER_ORG: &str = "2";
/// How long a cell may take to be seen, and a sale to become warm and open.
const READY_LIMIT: Duration = Duration::from_secs(30);
const READY_POLL: Duration = Duration::from_millis(50);
/// Orgs that are registered until their cells are as they should be.
const ORGS_MAX: u32 = 16;
const STOCK: u32 = 200_000;
const FLASH_STARTS_IN_MS: u64 = 2_000;
const LASTS_MS: u64 = 3_600_000;
const HOUR: prost_types::Duration = prost_types::Duration { seconds: 3_600, nanos: 0 };
const EXPIRES_S: u64 = 4_000_000_000;
const KID: &str = "k1";

/// An org, and where it lives.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    pub(crate) org: String,
    pub(crate) cells: BTreeSet<String>,
}

/// See the module.
pub(crate) struct Scene {
    platform: Platform,
    channel: Channel,
    operator: String,
}

/// The key of every org here.
pub(crate) fn key() -> Result<Ed25519KeyPair> {
    Ed25519KeyPair::from_seed_unchecked(&[4; 32]).ok().context("no key")
}

/// A buyer's token.
pub(crate) fn buyer(key: &Ed25519KeyPair, org: &str, subject: &str) -> String {
    sign(key, KID, &Claims::new(format!("orgs/{org}"), subject, Role::Buyer, EXPIRES_S))
}

impl Scene {
    /// Starts everything.
    pub(crate) async fn open() -> Result<Scene> {
        let extras = |args: &[&str]| PlaneExtras {
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            env: vec![("FLOODGATE_LOG".into(), "warn".into())],
        };
        let plan = PlatformPlan {
            cells: CELLS,
            processes: 1,
            routers: ROUTERS,
            control_plane: extras(&["--cells-per-org", CELLS_PER_ORG]),
            router: extras(&["--threads", "1"]),
            cell: extras(&["--threads", "1"]),
            ..PlatformPlan::default()
        };
        let platform = Platform::start(plan).await?;
        let pair = Ed25519KeyPair::from_pkcs8(&std::fs::read(&platform.key().private)?);
        let claims = Claims::new(PLATFORM, "bench", Role::Operator, EXPIRES_S);
        let operator = sign(&pair.ok().context("no key of the platform")?, PLATFORM, &claims);
        let url = platform.stack().endpoint("control-plane")?.url;
        let channel = Endpoint::from_shared(url)?.connect().await?;
        Ok(Scene { platform, channel, operator })
    }

    /// Three orgs: one, another that shares no cell with it, and a third that shares one. Which cells an org gets is the
    /// control plane's decision, so orgs are registered until there are such.
    pub(crate) async fn street(&self) -> Result<[Tenant; 3]> {
        let first = self.register("flooding").await?;
        let (mut disjoint, mut sharing) = (None, None);
        for number in 1..=ORGS_MAX {
            let tenant = self.register(&format!("neighbour-{number}")).await?;
            match tenant.cells.intersection(&first.cells).count() {
                0 => disjoint = disjoint.or(Some(tenant)),
                1 => sharing = sharing.or(Some(tenant)),
                _ => {}
            }
            if let (Some(disjoint), Some(sharing)) = (&disjoint, &sharing) {
                return Ok([first, disjoint.clone(), sharing.clone()]);
            }
        }
        bail!("no orgs came to lie as they should")
    }

    /// Schedules a sale and waits until it sells.
    pub(crate) async fn sale(&self, tenant: &Tenant, class: Class) -> Result<String> {
        let claims =
            Claims::new(format!("orgs/{}", tenant.org), "merchant", Role::Merchant, EXPIRES_S);
        let merchant = sign(&key()?, KID, &claims);
        let mut sales = SaleServiceClient::new(self.channel.clone());
        let request = CreateSaleRequest {
            parent: format!("orgs/{}", tenant.org),
            sale: Some(terms(class)),
            request_id: request_id(),
            validate_only: false,
        };
        let name = sales.create_sale(with(&merchant, request)?).await?.into_inner().name;
        sales.schedule_sale(with(&merchant, ScheduleSaleRequest { name: name.clone() })?).await?;
        let give_up = Instant::now() + READY_LIMIT;
        while !sales
            .get_sale(with(&merchant, GetSaleRequest { name: name.clone() })?)
            .await?
            .into_inner()
            .warm
        {
            ensure!(Instant::now() < give_up, "{name} did not become warm");
            sleep(READY_POLL).await;
        }
        sleep(Duration::from_millis(FLASH_STARTS_IN_MS)).await;
        Ok(name)
    }

    /// The cells in which a sale has buckets.
    pub(crate) async fn cells_of(&self, sale: &str) -> Result<BTreeSet<String>> {
        let id = sale.rsplit('/').next().unwrap_or_default();
        let mut found = BTreeSet::new();
        for cell in self.platform.cells() {
            let url = self.platform.stack().postgres_admin_url(&cell)?;
            let buckets: i64 = sqlx::query_scalar(
                "select count(*) from bucket join sale using (org, sale) where id = $1",
            )
            .bind(id)
            .fetch_one(&mut PgConnection::connect(&url).await?)
            .await?;
            if buckets > 0 {
                found.insert(cell);
            }
        }
        Ok(found)
    }

    /// Sets how many calls an org may make.
    pub(crate) async fn set_quota(&self, tenant: &Tenant, calls_per_s: u32) -> Result<()> {
        let name = format!("orgs/{}", tenant.org);
        let request = with(&self.operator, SetOrgQuotaRequest { name, calls_per_s })?;
        OrgServiceClient::new(self.channel.clone()).set_org_quota(request).await?;
        Ok(())
    }

    /// The addresses of the router that neighbours call, and of another one.
    pub(crate) fn routers(&self) -> Result<[String; 2]> {
        let stack = self.platform.stack();
        Ok([stack.endpoint("router")?.url, stack.endpoint("router-2")?.url])
    }

    /// The process of the router that neighbours call.
    pub(crate) fn router_pid(&self) -> Result<u32> {
        self.platform.stack().pid("router").context("the router has ended")
    }

    async fn register(&self, org: &str) -> Result<Tenant> {
        let public = key()?.public_key().as_ref().to_vec();
        let request = CreateOrgRequest {
            org_id: org.to_owned(),
            org: Some(Org { keys: vec![PublicKey::ed25519(KID, public)], ..Org::default() }),
            request_id: request_id(),
        };
        let mut orgs = OrgServiceClient::new(self.channel.clone());
        let give_up = Instant::now() + READY_LIMIT;
        // There may be fewer cells yet than an org needs.
        while let Err(status) = orgs.create_org(with(&self.operator, request.clone())?).await {
            let waits = matches!(status.code(), Code::Unavailable | Code::ResourceExhausted);
            ensure!(waits && Instant::now() < give_up, "{org} was not registered: {status}");
            sleep(READY_POLL).await;
        }
        let name = format!("orgs/{org}/placement");
        let request = with(&self.operator, GetPlacementRequest { name })?;
        let mut placements = PlacementServiceClient::new(self.channel.clone());
        let cells = placements.get_placement(request).await?.into_inner().cells;
        let cells = cells.iter().filter_map(|cell| cell.strip_prefix("cells/"));
        Ok(Tenant { org: org.to_owned(), cells: cells.map(str::to_owned).collect() })
    }
}

fn terms(class: Class) -> Sale {
    let now_ms = Clock::system().now_ms();
    Sale {
        class: class.into(),
        stock: STOCK,
        cap: 4,
        price: Some(Money { currency_code: "EUR".into(), units: 10, nanos: 0 }),
        // A STANDARD sale opens when it is warm.
        start_time: (class == Class::Flash).then(|| timestamp(now_ms + FLASH_STARTS_IN_MS)),
        end_time: Some(timestamp(now_ms + LASTS_MS)),
        hold_ttl: Some(HOUR),
        admission_rate: 100_000,
        keeping_time: Some(HOUR),
        ..Sale::default()
    }
}

fn timestamp(unix_ms: u64) -> prost_types::Timestamp {
    let nanos = i32::try_from(unix_ms % 1_000).unwrap_or(0) * 1_000_000;
    prost_types::Timestamp { seconds: i64::try_from(unix_ms / 1_000).unwrap_or(i64::MAX), nanos }
}

fn with<M>(token: &str, message: M) -> Result<Request<M>> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    Ok(request)
}
