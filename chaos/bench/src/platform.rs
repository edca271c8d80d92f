//! The whole platform on this machine: gRPC calls to a router, committed holds in Postgres.

use crate::calls::{Line, Refused, bearer};
use crate::figure::{Budget, Figure};
use crate::sale::{Cell, ORG};
use crate::script;
use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use http::HeaderValue;
use proto::limits::STANDARD_TICKETS_KEPT;
use proto::wire::admin::sale::Class;
use proto::wire::storefront::{
    GetSaleStateRequest, JoinRequest, Order, ReserveRequest, SaleState, Ticket,
};
use rand::RngExt;
use std::cell::RefCell;
use std::time::{Duration, Instant};
use tonic::Code;

const CONNECTIONS: usize = 8;
const UNDER_WAY: usize = 768;
/// Sales that sell at once, each with one bucket.
const SALES: usize = 3;
/// Buyers a second of the figure's time, for having enough of them.
const BUYERS_PER_S: u64 = 25_000;
/// How long whoever is refused for the moment waits.
const AGAIN: Duration = Duration::from_millis(100);
const STOCK: u32 = 10_000_000;

struct Buyer {
    token: HeaderValue,
    /// The same in every sale, where it means another order.
    request_id: String,
    ticket: String,
}

/// Takes the figures of the whole platform, between two runs of the yardstick.
pub(crate) async fn measure(seconds: u64) -> Result<()> {
    let before = script::rate().await?;
    let cell = Cell::start(&["--threads", "1"]).await?;
    let settings = cell.settings().await?;
    let router =
        cell.start_router("router", &["--threads", "1", "--sale-calls-per-s", "1000000"]).await?;
    for number in 0..SALES {
        cell.open_sale(&format!("sreserve{number}"), STOCK, Class::Standard).await?;
        cell.open_sale(&format!("sboth{number}"), STOCK, Class::Standard).await?;
    }
    let count = seconds * BUYERS_PER_S;
    // All join before the first reserves, and an everyday sale forgets the oldest of too many tickets.
    ensure!(
        count.div_ceil(SALES as u64) <= STANDARD_TICKETS_KEPT,
        "{count} buyers are too many for {SALES} sales"
    );

    let mut buyers = make_buyers(&cell, count);
    // Not before: while tokens are signed nobody here says what a connection must say soon after it is open.
    let clients = connect(&router.url).await?;
    each(&clients, &mut buyers, "sreserve", Step::Open).await?;
    each(&clients, &mut buyers, "sreserve", Step::Join).await?;
    let reserves = each(&clients, &mut buyers, "sreserve", Step::Reserve).await?;
    let both = each(&clients, &mut buyers, "sboth", Step::JoinAndReserve).await?;

    let pool = cell.postgres().await?;
    let committed: i64 =
        sqlx::query_scalar(r#"select count(*) from "order""#).fetch_one(&pool).await?;
    ensure!(
        committed.unsigned_abs() == 2 * count,
        "{} holds were acknowledged, {committed} are in Postgres",
        2 * count
    );
    drop(cell);
    let after = script::rate().await?;
    let bare = f64::midpoint(before, after);
    let how = format!(
        "over the bare script's {bare:.0}/s ({before:.0} before, {after:.0} after); {count} buyers, each with a token of its own that \
         the router had seen, {CONNECTIONS} connections, {UNDER_WAY} calls under way, {SALES} STANDARD sales of one bucket, router and cell and load on this \
         machine, one thread each; {settings}; counted in Postgres"
    );
    for (name, rate, least) in [
        ("platform_reserve_vs_script", reserves, 0.5),
        ("platform_join_reserve_vs_script", both, 0.35),
    ] {
        Figure {
            name: name.into(),
            value: rate / bare,
            unit: "x",
            budget: Budget::AtLeast(least),
            how: format!("{rate:.0} committed holds/s {how}"),
        }
        .say();
    }
    Ok(())
}

async fn connect(url: &str) -> Result<Vec<Line>> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Line::connect(url).await?);
    }
    Ok(clients)
}

fn make_buyers(cell: &Cell, count: u64) -> Vec<Buyer> {
    let buyer = |number| {
        let token = bearer(&cell.token(&format!("b{number}"))).ok()?;
        Some(Buyer { token, request_id: request_id(), ticket: String::new() })
    };
    (0..count).filter_map(buyer).collect()
}

/// A random UUID.
pub(crate) fn request_id() -> String {
    let mut id: [u8; 16] = rand::rng().random();
    id[6] = id[6] & 15 | 64;
    let hex = proto::id::hex(&id);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[derive(Clone, Copy)]
enum Step {
    /// Looks at the sale's page, as buyers do before it opens: from then on the router knows the token.
    Open,
    Join,
    Reserve,
    JoinAndReserve,
}

/// Lets every buyer take a step, `UNDER_WAY` at a time. Returns how many did a second.
async fn each(clients: &[Line], buyers: &mut [Buyer], sale: &str, step: Step) -> Result<f64> {
    let sales: Vec<String> =
        (0..SALES).map(|number| format!("orgs/{ORG}/sales/{sale}{number}")).collect();
    let count = buyers.len();
    let coming = RefCell::new(buyers.iter_mut().enumerate());
    let next = || coming.borrow_mut().next();
    let began = Instant::now();
    try_join_all((0..UNDER_WAY).map(|_| async {
        while let Some((number, buyer)) = next() {
            let (client, sale) = (&clients[number % CONNECTIONS], &sales[number % SALES]);
            match step {
                Step::Open => open(client, buyer, sale).await?,
                Step::Join => join(client, buyer, sale).await?,
                Step::Reserve => reserve(client, buyer, sale).await?,
                Step::JoinAndReserve => {
                    join(client, buyer, sale).await?;
                    reserve(client, buyer, sale).await?;
                }
            }
        }
        anyhow::Ok(())
    }))
    .await?;
    #[expect(clippy::cast_precision_loss, reason = "a count of buyers is far below 2^53")]
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

async fn open(client: &Line, buyer: &Buyer, sale: &str) -> Result<()> {
    let path = "/floodgate.storefront.v1.StorefrontService/GetSaleState";
    let _: SaleState =
        client.call(path, &buyer.token, &GetSaleStateRequest { sale: sale.into() }).await?;
    Ok(())
}

async fn join(client: &Line, buyer: &mut Buyer, sale: &str) -> Result<()> {
    let path = "/floodgate.storefront.v1.StorefrontService/Join";
    let ticket: Ticket =
        client.call(path, &buyer.token, &JoinRequest { sale: sale.into() }).await?;
    buyer.ticket = ticket.ticket;
    Ok(())
}

async fn reserve(client: &Line, buyer: &Buyer, sale: &str) -> Result<()> {
    let path = "/floodgate.storefront.v1.StorefrontService/Reserve";
    let request = ReserveRequest {
        sale: sale.into(),
        ticket: buyer.ticket.clone(),
        quantity: 1,
        request_id: buyer.request_id.clone(),
    };
    loop {
        match client.call::<Order>(path, &buyer.token, &request).await {
            Ok(_) => return Ok(()),
            Err(error) => match error.downcast_ref::<Refused>() {
                Some(Refused(Code::Unavailable, _)) => tokio::time::sleep(AGAIN).await,
                _ => return Err(error),
            },
        }
    }
}
