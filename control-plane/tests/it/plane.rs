//! What tests stand on: an etcd, control planes served in this process, callers with tokens, and played cells.

mod units;

use std::net::SocketAddr;
use std::time::Duration;

use floodgate_control_plane::config::Config;
use floodgate_control_plane::serve;
use local::{Stack, StackOptions};
use prost::Message;
use prost_types::{Duration as ProtoDuration, Timestamp};
use proto::fault::Reason;
use proto::keys;
use proto::token::{self, Claims, Role};
use proto::wire::Money;
use proto::wire::admin::sale_service_client::SaleServiceClient;
use proto::wire::admin::{CreateSaleRequest, GetSaleRequest, Sale, ScheduleSaleRequest};
use proto::wire::cell::{BucketReport, ProcessRecord, SaleRecord};
use proto::wire::fleet::cell_service_client::CellServiceClient;
use proto::wire::fleet::org_service_client::OrgServiceClient;
use proto::wire::fleet::placement_service_client::PlacementServiceClient;
use proto::wire::fleet::{CreateOrgRequest, Org, PublicKey};
use ring::signature::{Ed25519KeyPair, KeyPair};
use runtime::clock::Clock;
use runtime::drain::Drain;
use runtime::metric::Metrics;
use runtime::server::ServerOptions;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt;

pub(crate) use units::*;

/// The time at which tests begin.
pub(crate) const NOW_S: i64 = 1_800_000_000;
/// How long something may take that happens by itself.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn key(number: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[number; 32]).unwrap()
}

pub(crate) fn public(number: u8) -> PublicKey {
    PublicKey::ed25519(format!("k{number}"), key(number).public_key().as_ref())
}

pub(crate) fn token(number: u8, iss: &str, role: Role) -> String {
    let claims = Claims::new(iss, "ada", role, u64::MAX / 1_000);
    token::sign(&key(number), &format!("k{number}"), &claims)
}

/// Adds a token to every call.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

pub(crate) type Line = InterceptedService<Channel, Bearer>;

/// One control plane.
pub(crate) struct Instance {
    pub(crate) address: SocketAddr,
    pub(crate) drain: Drain,
    pub(crate) metrics: Metrics,
}

impl Instance {
    pub(crate) async fn line(&self, token: &str) -> Line {
        line(self.address, token).await
    }

    pub(crate) async fn sales(&self, org: &str, number: u8) -> SaleServiceClient<Line> {
        let token = token(number, &format!("orgs/{org}"), Role::Merchant);
        SaleServiceClient::new(self.line(&token).await)
    }

    pub(crate) async fn operator(&self) -> Line {
        self.line(&token(PLATFORM_KEY, token::PLATFORM, Role::Operator)).await
    }

    pub(crate) async fn orgs(&self) -> OrgServiceClient<Line> {
        OrgServiceClient::new(self.operator().await)
    }

    pub(crate) async fn cells(&self) -> CellServiceClient<Line> {
        CellServiceClient::new(self.operator().await)
    }

    pub(crate) async fn placements(&self) -> PlacementServiceClient<Line> {
        PlacementServiceClient::new(self.operator().await)
    }

    /// Stops it as SIGTERM would.
    pub(crate) async fn stop(self) {
        self.drain.finish(Duration::from_secs(5)).await.unwrap();
    }
}

pub(crate) async fn line(address: SocketAddr, token: &str) -> Line {
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    let value = (!token.is_empty()).then(|| format!("Bearer {token}").parse().unwrap());
    InterceptedService::new(channel, Bearer(value))
}

/// The number of the platform's key.
pub(crate) const PLATFORM_KEY: u8 = 1;
/// The number of the key of every org that tests make.
pub(crate) const ORG_KEY: u8 = 2;

/// An etcd, and a clock that tests move.
pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) clock: Clock,
    pub(crate) etcd: etcd_client::Client,
    url: String,
}

impl World {
    pub(crate) async fn new() -> World {
        let stack = Stack::new(StackOptions::default()).await.unwrap();
        let url = stack.start_etcd().await.unwrap().url;
        let etcd = etcd_client::Client::connect([&url], None).await.unwrap();
        World { stack, clock: Clock::fixed(u64::try_from(NOW_S).unwrap() * 1_000), etcd, url }
    }

    /// A world with one instance, `cells` cells that it has seen, and the orgs named.
    pub(crate) async fn with(cells: usize, orgs: &[&str]) -> (World, Instance) {
        let mut world = World::new().await;
        let instance = world.serve().await;
        for cell in 1..=cells {
            world.start_cell(&format!("cell-{cell}")).await;
        }
        world.seen(cells).await;
        for org in orgs {
            create_org(&instance, org).await.unwrap();
        }
        (world, instance)
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            etcd: vec![self.url.clone()],
            platform_key: key(PLATFORM_KEY).public_key().as_ref().try_into().unwrap(),
            address_calls_per_s: 0,
            proxies: Vec::new(),
            cells_per_org: 3,
            warm_lead_ms: 60_000,
            bucket_units_max: 250_000,
        }
    }

    pub(crate) async fn serve(&self) -> Instance {
        self.serve_as(self.config()).await
    }

    pub(crate) async fn serve_as(&self, config: Config) -> Instance {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let drain = Drain::new();
        let metrics = Metrics::new("control-plane", "0").unwrap();
        let clock = self.clock.clone();
        let serving = serve(
            listener,
            ServerOptions::default(),
            config,
            clock,
            metrics.clone(),
            drain.clone(),
        );
        drain.spawn("serve", async move { serving.await.unwrap() });
        Instance { address, drain, metrics }
    }

    pub(crate) async fn start_cell(&mut self, cell: &str) {
        let record = ProcessRecord {
            cell: cell.to_owned(),
            process: "p1".to_owned(),
            address: "http://127.0.0.1:1".to_owned(),
            version: "1.2.3".to_owned(),
        };
        let key = format!("{}{cell}/p1", keys::PROCESSES);
        self.etcd.put(key, record.encode_to_vec(), None).await.unwrap();
    }

    /// Waits until so many cells have been written down.
    pub(crate) async fn seen(&mut self, cells: usize) {
        let deadline = Instant::now() + SOON;
        let options = etcd_client::GetOptions::new().with_prefix().with_count_only();
        loop {
            let found = self.etcd.get(keys::CELLS, Some(options.clone())).await.unwrap().count();
            if usize::try_from(found).unwrap() == cells {
                return;
            }
            assert!(Instant::now() < deadline, "{found} cells seen, not {cells}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the leader has looked at everything once more. It writes down new cells before it looks at sales, so
    /// the second new cell is written after it has seen all that was there before the first.
    pub(crate) async fn passes(&mut self) {
        let options = etcd_client::GetOptions::new().with_prefix().with_count_only();
        for _ in 0..2 {
            let found = self.etcd.get(keys::CELLS, Some(options.clone())).await.unwrap().count();
            self.start_cell(&format!("new-{found}")).await;
            self.seen(usize::try_from(found).unwrap() + 1).await;
        }
    }

    /// A sale as it lies in etcd.
    pub(crate) async fn record(&mut self, name: &str) -> SaleRecord {
        let key = format!("{}{}", keys::SALES, id(name));
        let found = self.etcd.get(key, None).await.unwrap();
        SaleRecord::decode(found.kvs()[0].value()).unwrap()
    }

    /// Reports a bucket as its keeper would: with the units that were planned for it.
    pub(crate) async fn report(&mut self, name: &str, bucket: u32, warm: bool, paid: Option<u32>) {
        let granted = self.record(name).await.buckets[bucket as usize].units;
        let report = BucketReport {
            sale: id(name),
            bucket,
            epoch: 1,
            warm,
            settled: paid.is_some(),
            granted,
            paid: paid.unwrap_or(0),
            process: "p1".to_owned(),
            ..BucketReport::default()
        };
        self.say(name, report).await;
    }

    /// Puts a report where its keeper would.
    pub(crate) async fn say(&mut self, name: &str, report: BucketReport) {
        let key = keys::report(&id(name), report.bucket);
        self.etcd.put(key, report.encode_to_vec(), None).await.unwrap();
    }

    /// Lets all keepers of a sale say that they have their units.
    pub(crate) async fn warm_up(&mut self, name: &str) {
        for bucket in 0..u32::try_from(self.record(name).await.buckets.len()).unwrap() {
            self.report(name, bucket, true, None).await;
        }
    }

    pub(crate) fn pass_s(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

/// The sale's id within its name.
pub(crate) fn id(name: &str) -> String {
    name.rsplit_once('/').unwrap().1.to_owned()
}

pub(crate) fn uuid(n: u32) -> String {
    format!("{n:08x}-0000-4000-8000-000000000000")
}

pub(crate) fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds: NOW_S + seconds, nanos: 0 })
}

pub(crate) fn lasting(seconds: i64) -> Option<ProtoDuration> {
    Some(ProtoDuration { seconds, nanos: 0 })
}

pub(crate) fn euros(units: i64) -> Option<Money> {
    Some(Money { currency_code: "EUR".into(), units, nanos: 0 })
}

/// A sale that opens in ten minutes and lasts an hour.
pub(crate) fn sale() -> Sale {
    Sale {
        display_name: "Winter drop".into(),
        stock: 1_000,
        cap: 2,
        price: euros(20),
        start_time: at(600),
        end_time: at(4_200),
        ..Sale::default()
    }
}

pub(crate) fn creation(org: &str, request: u32, sale: Sale) -> CreateSaleRequest {
    CreateSaleRequest {
        parent: format!("orgs/{org}"),
        sale: Some(sale),
        request_id: uuid(request),
        validate_only: false,
    }
}

pub(crate) async fn create_org(instance: &Instance, org: &str) -> Result<Org, Status> {
    let request = CreateOrgRequest {
        org_id: org.to_owned(),
        org: Some(Org {
            display_name: org.to_uppercase(),
            keys: vec![public(ORG_KEY)],
            ..Org::default()
        }),
        request_id: String::new(),
    };
    Ok(instance.orgs().await.create_org(request).await?.into_inner())
}

/// Creates a sale and commits to it.
pub(crate) async fn schedule(
    sales: &mut SaleServiceClient<Line>,
    creation: CreateSaleRequest,
) -> Sale {
    let sale = sales.create_sale(creation).await.unwrap().into_inner();
    let request = ScheduleSaleRequest { name: sale.name };
    sales.schedule_sale(request).await.unwrap().into_inner()
}

pub(crate) async fn get(sales: &mut SaleServiceClient<Line>, name: &str) -> Sale {
    let request = GetSaleRequest { name: name.to_owned() };
    sales.get_sale(request).await.unwrap().into_inner()
}

/// Waits until the sale is as it should be.
pub(crate) async fn eventually(
    sales: &mut SaleServiceClient<Line>,
    name: &str,
    mut so: impl FnMut(&Sale) -> bool,
) -> Sale {
    let deadline = Instant::now() + SOON;
    loop {
        let sale = get(sales, name).await;
        if so(&sale) {
            return sale;
        }
        assert!(Instant::now() < deadline, "still {sale:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Why a call was refused, as the details say.
pub(crate) fn reason(status: &Status) -> Option<Reason> {
    proto::fault::Fault::of_status(status).map(|fault| fault.reason)
}

/// The field complained of.
pub(crate) fn field(status: &Status) -> Option<String> {
    let violations = status.get_details_bad_request()?.field_violations;
    violations.first().map(|violation| violation.field.clone())
}
