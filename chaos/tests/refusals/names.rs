//! Names of others, of nobody and of nothing look exactly alike (INV-9).

use anyhow::{Context, bail};
use proto::wire::admin::{
    AddStockRequest, CancelSaleRequest, CreateSaleRequest, GetSaleRequest, ListSalesRequest,
    PauseSaleRequest, ResumeSaleRequest, Sale, ScheduleSaleRequest, SurrenderStockRequest,
    UpdateSaleRequest,
};
use proto::wire::fleet::{
    GetCellRequest, GetOrgRequest, GetPlacementRequest, ProbeRequest, PublicKey, SetOrgKeysRequest,
};
use tonic::Status;

use crate::row::{Outcome, Row, not_found, row};
use crate::shop::{CARD, fresh_id, word};
use crate::stage::{Stage, creation, stock};

const NO_SALE: &str = "s0000000000000000";
const NO_ORDER: &str = "00000000000000000000000000000000";

/// Sales that do not exist for acme's buyers, for one reason or another.
fn sales(stage: &Stage) -> Vec<String> {
    let foreign = stage.foreign.rsplit('/').next().unwrap();
    vec![
        format!("orgs/acme/sales/{NO_SALE}"),
        format!("orgs/nobody/sales/{NO_SALE}"),
        format!("orgs/other/sales/{NO_SALE}"),
        stage.foreign.clone(),
        format!("orgs/acme/sales/{foreign}"),
        stage.draft.clone(),
        "orgs/ACME/sales/Sale".to_owned(),
        "orgs/acme".to_owned(),
        "nonsense".to_owned(),
        String::new(),
    ]
}

/// Orders that do not exist for a new buyer of acme.
async fn orders(stage: &Stage) -> anyhow::Result<Vec<String>> {
    let mut names = vec![format!("{}/orders/{NO_ORDER}", stage.open)];
    // Buyers lie in both buckets of the sale: an order in the same one and in another one.
    for _ in 0..4 {
        names.push(stage.buyer().holds(&stage.open, 1).await?);
    }
    names.push(stage.buyer().buys(&stage.open, 1).await?);
    names.push(stage.buyer_of(&stage.other).holds(&stage.foreign, 1).await?);
    names.extend(sales(stage).iter().map(|sale| format!("{sale}/orders/{NO_ORDER}")));
    names.push(format!("{}/orders/nonsense", stage.open));
    Ok(names)
}

/// All refusals must be the same to the byte, which the row then compares.
fn alike(answers: Vec<(String, Result<String, Status>)>) -> Outcome {
    let mut first: Option<Status> = None;
    for (name, answer) in answers {
        let status = match answer {
            Ok(said) => bail!("{name:?} was answered {said}"),
            Err(status) => status,
        };
        let told = |status: &Status| {
            (status.code(), status.message().to_owned(), status.details().to_vec())
        };
        if first.as_ref().is_some_and(|first| told(first) != told(&status)) {
            bail!("{name:?} looks different: {first:?} and {status:?}");
        }
        first.get_or_insert(status);
    }
    Ok(Err(first.context("nothing was asked")?))
}

macro_rules! each {
    ($names:expr, |$name:ident| $call:expr) => {{
        let mut answers = Vec::new();
        for $name in $names {
            let answer = word($call.await)?;
            answers.push(($name.clone(), answer));
        }
        alike(answers)
    }};
}

/// The storefront's names.
pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("Join: a sale of others, of nobody, a draft", not_found(), async |s: &Stage| {
            let buyer = s.buyer();
            each!(sales(s), |name| buyer.join(&name))
        }),
        row("GetTicket: the same", not_found(), async |s: &Stage| {
            let buyer = s.buyer();
            each!(sales(s), |name| buyer.ticket(&name, "ticket"))
        }),
        row("GetSaleState: the same", not_found(), async |s: &Stage| {
            let buyer = s.buyer();
            each!(sales(s), |name| buyer.state(&name))
        }),
        row("WatchSale: the same", not_found(), async |s: &Stage| {
            let buyer = s.buyer();
            each!(sales(s), |name| buyer.watch(&name))
        }),
        row("Reserve: the same", not_found(), async |s: &Stage| {
            let buyer = s.buyer();
            each!(sales(s), |name| buyer.reserve(&name, "ticket", 1, &fresh_id()))
        }),
        row("Checkout: an order of others, of nobody", not_found(), async |s: &Stage| {
            let buyer = s.buyer();
            each!(orders(s).await?, |name| buyer.checkout(&name, CARD))
        }),
        row("CancelOrder: the same", not_found(), async |s: &Stage| {
            let buyer = s.buyer();
            each!(orders(s).await?, |name| buyer.cancel(&name))
        }),
        row("GetOrder: the same", not_found(), async |s: &Stage| {
            let buyer = s.buyer();
            each!(orders(s).await?, |name| buyer.order(&name))
        }),
        row("Probe: a cell of others, of nobody", not_found(), async |s: &Stage| {
            let ours = s.cells_of(&s.acme).await?;
            let cells = (1..=3).map(|number| format!("cells/cell-{number}"));
            let foreign = cells.filter(|cell| !ours.contains(cell));
            let none = ["cells/cell-99", "cells/Cell", "nonsense"].map(str::to_owned);
            let mut probes = s.probes();
            let request = |cell: &str| ProbeRequest { cell: cell.to_owned(), ..Default::default() };
            each!(foreign.chain(none), |name| probes.probe(request(&name)))
        }),
    ]
}

/// The control plane's names.
pub(crate) fn admin_rows() -> Vec<Row> {
    vec![
        row("every call of SaleService: a sale of others, of nobody", not_found(), sale_calls),
        row("ListSales: of another org, of nobody", not_found(), async |s: &Stage| {
            let mut answers = Vec::new();
            for parent in ["orgs/other", "orgs/nobody", "orgs/ACME", "nonsense", ""] {
                let parent = parent.to_owned();
                let request = ListSalesRequest { parent: parent.clone(), ..Default::default() };
                let answer = s.sales().list_sales(request).await;
                answers.push((parent, answer.map(|list| format!("{list:?}"))));
            }
            alike(answers)
        }),
        row("CreateSale: in another org, in none", not_found(), async |s: &Stage| {
            let names = ["orgs/other", "orgs/nobody", "orgs/ACME", "nonsense", ""];
            let request = |parent: &str| CreateSaleRequest {
                parent: parent.to_owned(),
                ..creation(&s.acme, stock(10))
            };
            each!(names.map(str::to_owned), |name| s.sales().create_sale(request(&name)))
        }),
        row("GetOrg: no such org", not_found(), async |s: &Stage| {
            let names = ["orgs/nobody", "nobody", "orgs/", ""].map(str::to_owned);
            each!(names, |name| s.orgs().get_org(GetOrgRequest { name: name.clone() }))
        }),
        row("SetOrgKeys: no such org", not_found(), async |s: &Stage| {
            let key = PublicKey::ed25519("k1", s.acme.signer.public());
            let request = SetOrgKeysRequest { name: "orgs/nobody".into(), keys: vec![key] };
            word(s.orgs().set_org_keys(request).await)
        }),
        row("GetPlacement: no such org", not_found(), async |s: &Stage| {
            let mut answers = Vec::new();
            for name in ["orgs/nobody/placement", "orgs/acme", "placement"] {
                let request = GetPlacementRequest { name: name.into() };
                let answer = s.placements().get_placement(request).await;
                answers.push((name.to_owned(), answer.map(|placement| format!("{placement:?}"))));
            }
            alike(answers)
        }),
        row("GetCell: no such cell", not_found(), async |s: &Stage| {
            let mut answers = Vec::new();
            for name in ["cells/cell-99", "cells/", "cell-1", ""] {
                let answer = s.cells().get_cell(GetCellRequest { name: name.into() }).await;
                answers.push((name.to_owned(), answer.map(|cell| format!("{cell:?}"))));
            }
            alike(answers)
        }),
    ]
}

async fn sale_calls(s: &Stage) -> Outcome {
    let (mut sales_client, mut answers) = (s.sales(), Vec::new());
    // To its merchant a draft is there, and no call of a stranger has changed the other org's sale.
    for name in sales(s).into_iter().filter(|name| *name != s.draft) {
        let named = || name.clone();
        let sale = Sale { name: named(), cap: 9, etag: "x".into(), ..Sale::default() };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["cap".into()] });
        let change = UpdateSaleRequest { sale: Some(sale), update_mask };
        let asked = [
            word(sales_client.get_sale(GetSaleRequest { name: named() }).await)?,
            word(sales_client.update_sale(change).await)?,
            word(sales_client.schedule_sale(ScheduleSaleRequest { name: named() }).await)?,
            word(sales_client.pause_sale(PauseSaleRequest { name: named() }).await)?,
            word(sales_client.resume_sale(ResumeSaleRequest { name: named() }).await)?,
            word(sales_client.cancel_sale(CancelSaleRequest { name: named() }).await)?,
            // What else is wrong with a request must not be looked at first.
            word(
                sales_client
                    .add_stock(AddStockRequest { name: named(), ..Default::default() })
                    .await,
            )?,
            word(
                sales_client
                    .surrender_stock(SurrenderStockRequest { name: named(), ..Default::default() })
                    .await,
            )?,
        ];
        answers.extend(asked.map(|answer| (named(), answer)));
    }
    let request = GetSaleRequest { name: s.foreign.clone() };
    let there = s.sales_of(&s.other).get_sale(request).await?.into_inner();
    anyhow::ensure!(
        there.cap == 2 && word(Ok(tonic::Response::new(there)))?.is_ok_and(|w| w == "OPEN")
    );
    alike(answers)
}
