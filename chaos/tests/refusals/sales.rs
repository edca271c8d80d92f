//! What merchants and operators may not ask of the control plane.

use anyhow::{Context, ensure};
use floodgate_chaos::identity::Signer;
use proto::fault::Reason;
use proto::wire::admin::{
    CancelSaleRequest, CreateSaleRequest, ListSalesRequest, PauseSaleRequest, ResumeSaleRequest,
    Sale, ScheduleSaleRequest, UpdateSaleRequest,
};
use proto::wire::fleet::{CreateOrgRequest, ListOrgsRequest, Org, PublicKey};
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::row::{Expected, Outcome, Row, field, refused, row, says};
use crate::shop::{POLL, SOON, word};
use crate::stage::{Stage, Tenant, creation, euros, in_ms, lasting, registration, stock};

fn conflict() -> Expected {
    refused(Code::FailedPrecondition, Reason::SaleStateConflict)
}

/// One field of a sale that makes no sense.
fn bad(what: &str, name: &'static str, change: impl Fn(&mut Sale) + 'static) -> Row {
    row(format!("CreateSale: {what}"), field(name), async move |s: &Stage| {
        let mut sale = stock(100);
        change(&mut sale);
        let mut sales = s.sales();
        // Asking whether it would do must complain as doing it does.
        let only = CreateSaleRequest { validate_only: true, ..creation(&s.acme, sale.clone()) };
        let asked = word(sales.create_sale(only).await)?;
        let done = word(sales.create_sale(creation(&s.acme, sale)).await)?;
        let told = |answer: &Result<String, tonic::Status>| format!("{answer:?}");
        ensure!(told(&asked) == told(&done), "{asked:?} when only asked, {done:?} when done");
        Ok(done)
    })
}

/// Sales whose times, stock, cap or price make no sense.
pub(crate) fn field_rows() -> Vec<Row> {
    let currency = |code: &'static str| {
        move |sale: &mut Sale| {
            if let Some(price) = &mut sale.price {
                price.currency_code = code.into();
            }
        }
    };
    vec![
        bad("no units", "sale.stock", |sale| sale.stock = 0),
        bad("4 billion units", "sale.stock", |sale| sale.stock = u32::MAX),
        bad("a cap of 0", "sale.cap", |sale| sale.cap = 0),
        bad("a cap of 101", "sale.cap", |sale| sale.cap = 101),
        bad("no price", "sale.price", |sale| sale.price = None),
        bad("a price of 0", "sale.price", |sale| sale.price = euros(0, 0)),
        bad("a price below 0", "sale.price", |sale| sale.price = euros(-1, 0)),
        bad("a price that overflows", "sale.price", |sale| sale.price = euros(i64::MAX, 0)),
        bad("a price that overflows once it is in cents", "sale.price", |sale| {
            sale.price = euros(i64::MAX / 100 + 1, 0);
        }),
        bad("a price with half a cent", "sale.price", |sale| sale.price = euros(1, 5_000_000)),
        bad("a price with too many nanos", "sale.price", |sale| {
            sale.price = euros(1, 1_000_000_000);
        }),
        bad("no currency", "sale.price", currency("")),
        bad("a currency in small letters", "sale.price", currency("eur")),
        bad("a currency that does not exist", "sale.price", currency("ZZZ")),
        bad("a class that does not exist", "sale.class", |sale| sale.class = 9),
        bad("a start that has passed", "sale.start_time", |sale| {
            sale.start_time = in_ms(-60_000);
        }),
        bad("no start", "sale.start_time", |sale| sale.start_time = None),
        bad("a start before 1970", "sale.start_time", |sale| {
            sale.start_time = Some(prost_types::Timestamp { seconds: -1, nanos: 0 });
        }),
        bad("no end", "sale.end_time", |sale| sale.end_time = None),
        bad("an end before the start", "sale.end_time", |sale| {
            (sale.start_time, sale.end_time) = (in_ms(60_000), in_ms(30_000));
        }),
        bad("an end that is no time", "sale.end_time", |sale| {
            sale.end_time = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: -1 });
        }),
        bad("longer than 400 days", "sale.end_time", |sale| {
            sale.end_time = in_ms(401 * 86_400_000);
        }),
        bad("holds of no time", "sale.hold_ttl", |sale| sale.hold_ttl = lasting(0)),
        bad("holds of two hours", "sale.hold_ttl", |sale| sale.hold_ttl = lasting(7_200_000)),
        bad("holds of less than no time", "sale.hold_ttl", |sale| {
            sale.hold_ttl = Some(prost_types::Duration { seconds: -5, nanos: 0 });
        }),
        bad("a keeping time of two hours", "sale.keeping_time", |sale| {
            sale.keeping_time = lasting(7_200_000);
        }),
        bad("a million tickets a second", "sale.admission_rate", |sale| {
            sale.admission_rate = 1_000_000;
        }),
        bad("a name without end", "sale.display_name", |sale| {
            sale.display_name = "x".repeat(201);
        }),
        bad("a name with a line's end", "sale.display_name", |sale| {
            sale.display_name = "a\nb".into();
        }),
    ]
}

fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

/// Changes a sale of acme.
async fn update(s: &Stage, sale: Sale, paths: &[&str]) -> Outcome {
    let request = UpdateSaleRequest { sale: Some(sale), update_mask: mask(paths) };
    word(s.sales().update_sale(request).await)
}

/// What may not be done to a sale as it is.
pub(crate) fn rows() -> Vec<Row> {
    let stale = || refused(Code::Aborted, Reason::EtagMismatch);
    let reused = || refused(Code::InvalidArgument, Reason::RequestIdReused);
    vec![
        row("CreateSale: no request_id", field("request_id"), async |s: &Stage| {
            let request =
                CreateSaleRequest { request_id: "".into(), ..creation(&s.acme, stock(1)) };
            word(s.sales().create_sale(request).await)
        }),
        row("CreateSale: the same request again", says("the same sale"), async |s: &Stage| {
            let request = creation(&s.acme, stock(10));
            let first = s.sales().create_sale(request.clone()).await.context("CreateSale")?;
            let again = s.sales().create_sale(request).await;
            Ok(again.map(|again| {
                let same = again.get_ref().name == first.get_ref().name;
                if same { "the same sale".into() } else { "another sale".into() }
            }))
        }),
        row("CreateSale: the same id, another sale", reused(), async |s: &Stage| {
            let request = creation(&s.acme, stock(10));
            s.sales().create_sale(request.clone()).await.context("CreateSale")?;
            let other = CreateSaleRequest { sale: Some(stock(11)), ..request };
            word(s.sales().create_sale(other).await)
        }),
        row("UpdateSale: changed in between", stale(), async |s: &Stage| {
            let made = s.sales().create_sale(creation(&s.acme, stock(10))).await?.into_inner();
            update(s, Sale { cap: 3, ..made.clone() }, &["cap"]).await?.context("UpdateSale")?;
            update(s, Sale { cap: 4, ..made }, &["cap"]).await
        }),
        row("UpdateSale: no mask", field("update_mask"), async |s: &Stage| {
            update(s, Sale { name: s.draft.clone(), ..Sale::default() }, &[]).await
        }),
        row("UpdateSale: a field that cannot change", field("update_mask"), async |s: &Stage| {
            update(s, Sale { name: s.draft.clone(), ..Sale::default() }, &["state"]).await
        }),
        row("UpdateSale: a cap of 0", field("sale.cap"), async |s: &Stage| {
            update(s, Sale { name: s.draft.clone(), ..Sale::default() }, &["cap"]).await
        }),
        row(
            "UpdateSale: the stock of a promised sale",
            conflict().about("sale.stock"),
            async |s| {
                let sale = Sale { name: s.open.clone(), stock: 3_000, ..Sale::default() };
                update(s, sale, &["stock"]).await
            },
        ),
        row("ListSales: a page of less than nothing", field("page_size"), async |s: &Stage| {
            list(s, -1, "").await
        }),
        row("ListSales: a page_token of one's own", field("page_token"), async |s: &Stage| {
            list(s, 10, "bm9uc2Vuc2U").await
        }),
    ]
}

/// Steps that a sale cannot take from where it is.
pub(crate) fn step_rows() -> Vec<Row> {
    vec![
        row("PauseSale: a draft", conflict(), async |s: &Stage| {
            word(s.sales().pause_sale(PauseSaleRequest { name: s.draft.clone() }).await)
        }),
        row("ResumeSale: a draft", conflict(), async |s: &Stage| {
            word(s.sales().resume_sale(ResumeSaleRequest { name: s.draft.clone() }).await)
        }),
        row("ScheduleSale: called off", conflict(), async |s: &Stage| {
            let name = cancelled(s).await?;
            word(s.sales().schedule_sale(ScheduleSaleRequest { name }).await)
        }),
        row("UpdateSale: called off", conflict(), async |s: &Stage| {
            let name = cancelled(s).await?;
            update(s, Sale { name, cap: 3, ..Sale::default() }, &["cap"]).await
        }),
        row("ScheduleSale: too late", conflict().about("sale.end_time"), async |s: &Stage| {
            let sale = Sale { end_time: in_ms(1_000), ..stock(10) };
            let name = s.write_down(&s.acme, sale).await?;
            passes(s).await?;
            word(s.sales().schedule_sale(ScheduleSaleRequest { name }).await)
        }),
    ]
}

/// Waits until what was to end within a second has ended by the platform's clock: a sale cannot be made then.
async fn passes(s: &Stage) -> anyhow::Result<()> {
    let (sale, deadline) = (Sale { end_time: in_ms(1_000), ..stock(10) }, Instant::now() + SOON);
    loop {
        let request = CreateSaleRequest { validate_only: true, ..creation(&s.acme, sale.clone()) };
        if s.sales().create_sale(request).await.is_err() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "time does not pass");
        sleep(POLL).await;
    }
}

async fn list(s: &Stage, page_size: i32, page_token: &str) -> Outcome {
    let request =
        ListSalesRequest { parent: "orgs/acme".into(), page_size, page_token: page_token.into() };
    let answer = s.sales().list_sales(request).await;
    Ok(answer.map(|list| format!("{} sales", list.get_ref().sales.len())))
}

async fn cancelled(s: &Stage) -> anyhow::Result<String> {
    let name = s.write_down(&s.acme, stock(10)).await?;
    s.sales().cancel_sale(CancelSaleRequest { name: name.clone() }).await.context("CancelSale")?;
    Ok(name)
}

/// What may not be registered.
pub(crate) fn org_rows() -> Vec<Row> {
    let exists = || refused(Code::AlreadyExists, Reason::AlreadyExists);
    let upstart = || registration(&tenant("upstart"));
    let with = |request: CreateOrgRequest, keys: Vec<PublicKey>| CreateOrgRequest {
        org: Some(Org { keys, ..Org::default() }),
        ..request
    };
    let key = |kid: &str, bytes: usize| PublicKey::ed25519(kid, vec![7; bytes]);
    let asked = |what: &str, expected: Expected, request: CreateOrgRequest| {
        row(format!("CreateOrg: {what}"), expected, async move |s: &Stage| {
            word(s.orgs().create_org(request.clone()).await)
        })
    };
    let named = |id: &str| CreateOrgRequest { org_id: id.into(), ..upstart() };
    vec![
        asked("an id that is taken", exists(), named("acme")),
        asked("an id in capitals", field("org_id"), named("ACME")),
        asked("an id of two letters", field("org_id"), named("ab")),
        asked("no id", field("org_id"), named("")),
        asked("no key", field("org.keys"), with(upstart(), vec![])),
        asked(
            "three keys",
            field("org.keys"),
            with(upstart(), vec![key("a", 32), key("b", 32), key("c", 32)]),
        ),
        asked("a key of 31 bytes", field("org.keys"), with(upstart(), vec![key("a", 31)])),
        asked("a key without a kid", field("org.keys"), with(upstart(), vec![key("", 32)])),
        asked(
            "two keys of one kid",
            field("org.keys"),
            with(upstart(), vec![key("a", 32), key("a", 32)]),
        ),
        asked("a request_id that is no UUID", field("request_id"), {
            CreateOrgRequest { request_id: "1".into(), ..upstart() }
        }),
        row("CreateOrg: the same request again", says("orgs/twice"), async |s: &Stage| {
            let request = registration(&tenant("twice"));
            s.orgs().create_org(request.clone()).await.context("CreateOrg")?;
            word(s.orgs().create_org(request).await)
        }),
        row(
            "CreateOrg: the same id, another org",
            refused(Code::InvalidArgument, Reason::RequestIdReused),
            async |s: &Stage| {
                let request = registration(&tenant("renamed"));
                s.orgs().create_org(request.clone()).await.context("CreateOrg")?;
                let org = request.org.clone().unwrap_or_default();
                let other = Org { display_name: "Another".into(), ..org };
                let request = CreateOrgRequest { org: Some(other), ..request };
                word(s.orgs().create_org(request).await)
            },
        ),
        row("ListOrgs: a page_token of another list", field("page_token"), async |s: &Stage| {
            let request = ListSalesRequest {
                parent: "orgs/acme".into(),
                page_size: 1,
                ..ListSalesRequest::default()
            };
            let page_token = s.sales().list_sales(request).await?.into_inner().next_page_token;
            ensure!(!page_token.is_empty(), "one page holds all of acme's sales");
            let answer = s.orgs().list_orgs(ListOrgsRequest { page_size: 1, page_token }).await;
            Ok(answer.map(|list| format!("{} orgs", list.get_ref().orgs.len())))
        }),
    ]
}

fn tenant(id: &str) -> Tenant {
    Tenant { id: id.to_owned(), signer: Signer::of_org(id, "k1", &[3; 32]).unwrap() }
}
