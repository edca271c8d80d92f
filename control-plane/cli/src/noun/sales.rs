//! `floodgate sales`: what merchants plan and steer.

use prost_types::{Duration, FieldMask, Timestamp};
use proto::wire::Money;
use proto::wire::admin::sale::Class;
use proto::wire::admin::sale_service_client::SaleServiceClient;
use proto::wire::admin::{
    AddStockRequest, CancelSaleRequest, CreateSaleRequest, GetSaleRequest, ListSalesRequest,
    PauseSaleRequest, ResumeSaleRequest, Sale, ScheduleSaleRequest, SurrenderStockRequest,
    UpdateSaleRequest,
};
use proto::wire::storefront::WatchSaleRequest;
use proto::wire::storefront::storefront_service_client::StorefrontServiceClient;

use super::{PAGE_SIZE, request_id};
use crate::failure::Failure;
use crate::input::{ClassArg, duration, money, named, time};
use crate::line::{Line, Reach};
use crate::output::Output;

/// What can be done with sales.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Sales {
    /// Write a sale down as a draft
    Create {
        /// The org's id
        org: String,
        #[command(flatten)]
        terms: Terms,
        /// UUID: the same one again gives the same sale
        #[arg(long, value_name = "UUID")]
        request_id: Option<String>,
        /// Only say whether it would do
        #[arg(long)]
        validate_only: bool,
    },
    /// Show one sale
    Get(Named),
    /// Show an org's sales
    List {
        /// The org's id
        org: String,
    },
    /// Change a sale; once scheduled not its class, stock and start
    Update {
        #[command(flatten)]
        sale: Named,
        #[command(flatten)]
        terms: Terms,
        /// Fail if the sale has changed since it had this etag
        #[arg(long, default_value = "")]
        etag: String,
    },
    /// Commit to a draft: it will open and end by itself
    Schedule(Named),
    /// Stop new holds for a while
    Pause(Named),
    /// End a pause
    Resume(Named),
    /// Call a sale off
    Cancel(Named),
    /// Add units to a promised sale, like `sales add-stock SALE --units 100`
    AddStock(StockArgs),
    /// Take free units of a promised sale back; those that buyers have stay theirs
    Surrender(StockArgs),
    /// Follow what a sale's page shows, through the router
    Watch(Named),
}

/// Which sale.
#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// `orgs/{org}/sales/{sale}`
    #[arg(value_name = "SALE")]
    name: String,
}

/// By how much a sale's stock changes.
#[derive(Debug, clap::Args)]
pub(crate) struct StockArgs {
    #[command(flatten)]
    sale: Named,
    /// How many; of those taken back as many as are free
    #[arg(long, value_name = "UNITS")]
    units: u32,
    /// UUID: the same one again changes nothing more
    #[arg(long, value_name = "UUID")]
    request_id: Option<String>,
}

/// What a merchant wants.
#[derive(Debug, clap::Args)]
pub(crate) struct Terms {
    /// For people
    #[arg(long)]
    display_name: Option<String>,
    /// Whose share of the platform it uses; flash unless said otherwise
    #[arg(long, value_enum)]
    class: Option<ClassArg>,
    /// Units to sell
    #[arg(long, value_name = "UNITS")]
    stock: Option<u32>,
    /// Most units of one buyer
    #[arg(long, value_name = "UNITS")]
    cap: Option<u32>,
    /// Price of one unit, like 19.99EUR
    #[arg(long, value_parser = money)]
    price: Option<Money>,
    /// When it opens, like 2026-11-22T12:00:00Z or +10m
    #[arg(long, value_name = "TIME", value_parser = time)]
    start: Option<Timestamp>,
    /// When it takes no more holds
    #[arg(long, value_name = "TIME", value_parser = time)]
    end: Option<Timestamp>,
    /// How long a hold lasts, like 120s
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    hold_ttl: Option<Duration>,
    /// Tickets admitted a second
    #[arg(long, value_name = "TICKETS")]
    admission_rate: Option<u32>,
    /// How long an admitted ticket is kept, like 30s
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    keeping_time: Option<Duration>,
}

impl Terms {
    fn paths(&self) -> Vec<String> {
        let given = [
            ("display_name", self.display_name.is_some()),
            ("class", self.class.is_some()),
            ("stock", self.stock.is_some()),
            ("cap", self.cap.is_some()),
            ("price", self.price.is_some()),
            ("start_time", self.start.is_some()),
            ("end_time", self.end.is_some()),
            ("hold_ttl", self.hold_ttl.is_some()),
            ("admission_rate", self.admission_rate.is_some()),
            ("keeping_time", self.keeping_time.is_some()),
        ];
        given.iter().filter(|(_, given)| *given).map(|(path, _)| (*path).to_owned()).collect()
    }

    fn sale(self) -> Sale {
        Sale {
            display_name: self.display_name.unwrap_or_default(),
            class: self.class.map_or(Class::Unspecified, Class::from).into(),
            stock: self.stock.unwrap_or_default(),
            cap: self.cap.unwrap_or_default(),
            price: self.price,
            start_time: self.start,
            end_time: self.end,
            hold_ttl: self.hold_ttl,
            admission_rate: self.admission_rate.unwrap_or_default(),
            keeping_time: self.keeping_time,
            ..Sale::default()
        }
    }
}

impl Sales {
    pub(crate) async fn run(self, reach: &Reach, output: &Output) -> Result<(), Failure> {
        if let Sales::Watch(sale) = self {
            return watch(sale.name, reach, output).await;
        }
        let mut client = SaleServiceClient::new(reach.control_plane()?);
        let answer = match self {
            Sales::Create { org, terms, request_id: id, validate_only } => {
                let request = CreateSaleRequest {
                    parent: named("orgs", &org),
                    sale: Some(terms.sale()),
                    request_id: request_id(id),
                    validate_only,
                };
                client.create_sale(request).await?
            }
            Sales::Update { sale: Named { name }, terms, etag } => {
                let update_mask = Some(FieldMask { paths: terms.paths() });
                let sale = Some(Sale { name, etag, ..terms.sale() });
                client.update_sale(UpdateSaleRequest { sale, update_mask }).await?
            }
            Sales::Get(Named { name }) => client.get_sale(GetSaleRequest { name }).await?,
            Sales::Schedule(Named { name }) => {
                client.schedule_sale(ScheduleSaleRequest { name }).await?
            }
            Sales::Pause(Named { name }) => client.pause_sale(PauseSaleRequest { name }).await?,
            Sales::Resume(Named { name }) => client.resume_sale(ResumeSaleRequest { name }).await?,
            Sales::Cancel(Named { name }) => client.cancel_sale(CancelSaleRequest { name }).await?,
            Sales::AddStock(StockArgs { sale: Named { name }, units, request_id: id }) => {
                let request_id = request_id(id);
                client.add_stock(AddStockRequest { name, units, request_id }).await?
            }
            Sales::Surrender(StockArgs { sale: Named { name }, units, request_id: id }) => {
                let request_id = request_id(id);
                client.surrender_stock(SurrenderStockRequest { name, units, request_id }).await?
            }
            Sales::List { org } => return list(&mut client, &org, output).await,
            Sales::Watch(_) => return Ok(()),
        };
        output.one(&answer.into_inner())
    }
}

async fn list(
    client: &mut SaleServiceClient<Line>,
    org: &str,
    output: &Output,
) -> Result<(), Failure> {
    let (mut sales, mut page_token) = (Vec::new(), String::new());
    loop {
        let request =
            ListSalesRequest { parent: named("orgs", org), page_size: PAGE_SIZE, page_token };
        let page = client.list_sales(request).await?.into_inner();
        sales.extend(page.sales);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return output.many("sales", &sales);
        }
    }
}

async fn watch(sale: String, reach: &Reach, output: &Output) -> Result<(), Failure> {
    let mut client = StorefrontServiceClient::new(reach.router()?);
    let mut states = client.watch_sale(WatchSaleRequest { sale }).await?.into_inner();
    while let Some(state) = states.message().await? {
        output.next(&state)?;
    }
    Ok(())
}
