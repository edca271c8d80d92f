//! The scene: two orgs that share a cell, a mega-sale of the one and a STANDARD sale of the other, warm and about to
//! open.

mod hashing;

use std::collections::BTreeSet;
use std::time::Duration;

use local::{LocalError, Platform};
use proto::token::Role;
use proto::wire::Money;
use proto::wire::admin::sale::{Class, State};
use proto::wire::admin::sale_service_client::SaleServiceClient;
use proto::wire::admin::{CreateSaleRequest, GetSaleRequest, Sale, ScheduleSaleRequest};
use proto::wire::fleet::cell_service_client::CellServiceClient;
use proto::wire::fleet::org_service_client::OrgServiceClient;
use proto::wire::fleet::placement_service_client::PlacementServiceClient;
use proto::wire::fleet::{CreateOrgRequest, GetPlacementRequest, ListCellsRequest, Org, PublicKey};
use runtime::clock::Clock;
use runtime::etcd::EtcdError;
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::identity::{BadKey, Signer, bearer};
use crate::judge::{Agreed, CellStores};

pub(crate) use hashing::Hashing;

/// How long every cell may take to appear, and a sale to become warm.
const READY_LIMIT: Duration = Duration::from_secs(20);
const READY_POLL: Duration = Duration::from_millis(50);

/// Orgs and sales that are tried until the neighbour's sale lies in a cell of the first org.
const NEIGHBOURS_MAX: u32 = 16;

/// What everything costs.
pub(crate) const PRICE_MINOR: i64 = 4_950;
const CURRENCY: &str = "EUR";

/// Why the scene could not be set.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// The servers.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// A call was refused.
    #[error("{call} was refused: {status}")]
    Call {
        /// Which call.
        call: &'static str,
        /// With what.
        status: Box<Status>,
    },
    /// An address that is none.
    #[error("the control plane cannot be reached: {0}")]
    Address(#[from] tonic::transport::Error),
    /// A key.
    #[error(transparent)]
    Key(#[from] BadKey),
    /// A file of the run folder.
    #[error("could not read {what}: {source}")]
    File {
        /// Which file.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// A token.
    #[error("a token cannot be sent: {0}")]
    Token(#[from] tonic::metadata::errors::InvalidMetadataValue),
    /// A cell's Postgres.
    #[error("could not look into the Postgres of {cell}: {source}")]
    Postgres {
        /// The cell.
        cell: String,
        /// Why.
        source: sqlx::Error,
    },
    /// Etcd.
    #[error("could not read a sale's record: {source}")]
    Etcd {
        /// Why.
        source: Box<EtcdError>,
    },
    /// Something did not come true in time.
    #[error("{0}")]
    Never(String),
}

/// What a sale is to be.
#[derive(Clone, Debug)]
pub(crate) struct SaleTerms {
    pub(crate) class: Class,
    pub(crate) stock: u32,
    pub(crate) cap: u32,
    pub(crate) hold_ttl: Duration,
    pub(crate) keeping_time: Duration,
    pub(crate) admission_rate: u32,
    pub(crate) starts_in: Duration,
    pub(crate) lasts: Duration,
}

/// A sale that is warm.
#[derive(Clone, Debug)]
pub(crate) struct StagedSale {
    /// `orgs/{org}/sales/{sale}`.
    pub(crate) name: String,
    pub(crate) agreed: Agreed,
    /// Its buckets: number, cell, units.
    pub(crate) buckets: Vec<(u32, String, u32)>,
}

/// The control plane, and who may call it.
pub(crate) struct Scene<'a> {
    platform: &'a Platform,
    channel: Channel,
    operator: MetadataValue<Ascii>,
    pub(crate) expires_s: u64,
}

impl<'a> Scene<'a> {
    /// Waits until the control plane sees all cells.
    pub(crate) async fn open(platform: &'a Platform) -> Result<Scene<'a>, SceneError> {
        let expires_s = Clock::system().now_ms() / 1_000 + 3_600;
        let file = &platform.key().private;
        let pkcs8 = std::fs::read(file).map_err(|source| {
            let what = file.display().to_string();
            SceneError::File { what, source }
        })?;
        let operator = Signer::of_platform(&pkcs8)?.token("chaos", Role::Operator, expires_s);
        let url = platform.stack().endpoint("control-plane")?.url;
        let channel = Endpoint::from_shared(url)?.connect().await?;
        let scene = Scene { platform, channel, operator: bearer(&operator)?, expires_s };
        scene.wait_for_cells().await?;
        Ok(scene)
    }

    /// The version that the first process of each cell runs; all are the same in a healthy platform.
    pub(crate) async fn versions(&self) -> Result<BTreeSet<String>, SceneError> {
        let cells = self.cells().await?;
        let processes = cells.into_iter().flat_map(|cell| cell.processes);
        Ok(processes.map(|process| process.version).collect())
    }

    /// Registers an org and says in which cells it lives.
    pub(crate) async fn register(
        &self,
        org: &str,
        signer: &Signer,
    ) -> Result<BTreeSet<String>, SceneError> {
        let key = PublicKey::ed25519(signer.kid(), signer.public());
        let record = Org { keys: vec![key], display_name: org.to_owned(), ..Org::default() };
        let request = CreateOrgRequest {
            org_id: org.to_owned(),
            org: Some(record),
            request_id: Uuid::new_v4().to_string(),
        };
        let mut orgs = OrgServiceClient::new(self.channel.clone());
        orgs.create_org(self.as_operator(request)).await.map_err(refused("CreateOrg"))?;
        let name = format!("orgs/{org}/placement");
        let mut placements = PlacementServiceClient::new(self.channel.clone());
        let request = self.as_operator(GetPlacementRequest { name });
        let placement =
            placements.get_placement(request).await.map_err(refused("GetPlacement"))?.into_inner();
        let cells = placement.cells.iter().filter_map(|cell| cell.strip_prefix("cells/"));
        Ok(cells.map(str::to_owned).collect())
    }

    /// Writes a sale down, schedules it and waits until it is warm.
    pub(crate) async fn sale(
        &self,
        org: &str,
        signer: &Signer,
        terms: &SaleTerms,
    ) -> Result<StagedSale, SceneError> {
        let merchant = bearer(&signer.token("merchant", Role::Merchant, self.expires_s))?;
        let request = CreateSaleRequest {
            parent: format!("orgs/{org}"),
            sale: Some(terms.sale()),
            request_id: Uuid::new_v4().to_string(),
            validate_only: false,
        };
        let mut sales = SaleServiceClient::new(self.channel.clone());
        let created = sales.create_sale(with(&merchant, request)).await;
        let name = created.map_err(refused("CreateSale"))?.into_inner().name;
        let request = with(&merchant, ScheduleSaleRequest { name: name.clone() });
        sales.schedule_sale(request).await.map_err(refused("ScheduleSale"))?;
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            let request = with(&merchant, GetSaleRequest { name: name.clone() });
            let sale = sales.get_sale(request).await.map_err(refused("GetSale"))?.into_inner();
            if sale.warm {
                break;
            }
            if Instant::now() > deadline {
                let state = State::try_from(sale.state).unwrap_or_default();
                return Err(SceneError::Never(format!("{name} did not become warm: {state:?}")));
            }
            sleep(READY_POLL).await;
        }
        let sale = name.rsplit('/').next().unwrap_or_default().to_owned();
        let agreed = Agreed {
            org: org.to_owned(),
            sale: sale.clone(),
            flash: terms.class == Class::Flash,
            stock: terms.stock,
            surrendered: 0,
            cap: terms.cap,
            price_minor: PRICE_MINOR,
            admission_rate: terms.admission_rate,
        };
        Ok(StagedSale { name, agreed, buckets: self.buckets(&sale).await? })
    }

    /// Registers neighbours and sales of theirs until one lies in one of these cells.
    pub(crate) async fn neighbour(
        &self,
        seed: &[u8; 32],
        cells: &BTreeSet<String>,
        terms: &SaleTerms,
    ) -> Result<(Signer, StagedSale), SceneError> {
        for number in 1..=NEIGHBOURS_MAX {
            let org = format!("neighbour-{number}");
            let signer = Signer::of_org(&org, "k1", seed)?;
            let theirs = self.register(&org, &signer).await?;
            if theirs.is_disjoint(cells) {
                continue;
            }
            // A STANDARD sale has one bucket, in any of the org's cells.
            for _ in 0..NEIGHBOURS_MAX {
                let sale = self.sale(&org, &signer, terms).await?;
                if sale.buckets.iter().any(|(_, cell, _)| cells.contains(cell)) {
                    return Ok((signer, sale));
                }
            }
        }
        Err(SceneError::Never("no neighbour shares a cell with the first org".to_owned()))
    }

    /// Where every cell's ledgers are.
    pub(crate) fn stores(&self) -> Result<Vec<CellStores>, SceneError> {
        let stack = self.platform.stack();
        let stores = self.platform.cells().map(|cell| {
            let postgres_url = stack.postgres_admin_url(&cell)?;
            let redis_url = stack.redis_admin_url(&cell)?;
            Ok(CellStores { cell, postgres_url, redis_url })
        });
        stores.collect()
    }

    /// The buckets of a sale, as the cells have accepted them.
    async fn buckets(&self, sale: &str) -> Result<Vec<(u32, String, u32)>, SceneError> {
        let mut found = Vec::new();
        for stores in self.stores()? {
            let failed = |source| SceneError::Postgres { cell: stores.cell.clone(), source };
            let mut session = PgConnection::connect(&stores.postgres_url).await.map_err(failed)?;
            let select = "select b.bucket, b.granted from bucket b join sale s using (org, sale)
                          where s.id = $1";
            let rows: Vec<(i32, i32)> =
                sqlx::query_as(select).bind(sale).fetch_all(&mut session).await.map_err(failed)?;
            for (bucket, units) in rows {
                let number = |value: i32| u32::try_from(value).unwrap_or(u32::MAX);
                found.push((number(bucket), stores.cell.clone(), number(units)));
            }
        }
        found.sort();
        Ok(found)
    }

    async fn wait_for_cells(&self) -> Result<(), SceneError> {
        let expected = self.platform.cells().count();
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            match self.cells().await {
                Ok(cells) if cells.len() >= expected => return Ok(()),
                // It serves from its snapshot of etcd, which it may still be reading.
                Err(SceneError::Call { status, .. }) if status.code() != Code::Unavailable => {
                    return Err(SceneError::Call { call: "ListCells", status });
                }
                _ if Instant::now() > deadline => {
                    let what = format!("the control plane does not see all {expected} cells");
                    return Err(SceneError::Never(what));
                }
                _ => sleep(READY_POLL).await,
            }
        }
    }

    async fn cells(&self) -> Result<Vec<proto::wire::fleet::Cell>, SceneError> {
        let mut cells = CellServiceClient::new(self.channel.clone());
        let request =
            self.as_operator(ListCellsRequest { page_size: 200, page_token: String::new() });
        let list = cells.list_cells(request).await.map_err(refused("ListCells"))?;
        Ok(list.into_inner().cells)
    }

    fn as_operator<M>(&self, message: M) -> Request<M> {
        with(&self.operator, message)
    }
}

impl SaleTerms {
    fn sale(&self) -> Sale {
        let start_ms = Clock::system().now_ms() + millis(self.starts_in);
        let end_ms = start_ms + millis(self.lasts);
        // A STANDARD sale opens when it is warm.
        let start_time = (self.class == Class::Flash).then(|| timestamp(start_ms));
        Sale {
            display_name: format!("{} units", self.stock),
            class: self.class.into(),
            stock: self.stock,
            cap: self.cap,
            price: Some(price()),
            start_time,
            end_time: Some(timestamp(end_ms)),
            hold_ttl: self.hold_ttl.try_into().ok(),
            admission_rate: self.admission_rate,
            keeping_time: self.keeping_time.try_into().ok(),
            ..Sale::default()
        }
    }
}

fn price() -> Money {
    let nanos = i32::try_from(PRICE_MINOR % 100).unwrap_or(0) * 10_000_000;
    Money { currency_code: CURRENCY.to_owned(), units: PRICE_MINOR / 100, nanos }
}

fn timestamp(unix_ms: u64) -> prost_types::Timestamp {
    let nanos = i32::try_from(unix_ms % 1_000).unwrap_or(0) * 1_000_000;
    prost_types::Timestamp { seconds: i64::try_from(unix_ms / 1_000).unwrap_or(i64::MAX), nanos }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn with<M>(token: &MetadataValue<Ascii>, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", token.clone());
    request
}

fn refused(call: &'static str) -> impl Fn(Status) -> SceneError {
    move |status| SceneError::Call { call, status: Box::new(status) }
}
