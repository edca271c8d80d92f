//! What merchants may not do to the stock of a sale.

use anyhow::Context;
use proto::fault::Reason;
use proto::wire::admin::{
    AddStockRequest, CancelSaleRequest, Sale, ScheduleSaleRequest, SurrenderStockRequest,
};
use tonic::Code;

use crate::row::{Expected, Outcome, Row, field, refused, row, says};
use crate::shop::fresh_id;
use crate::stage::{Stage, in_ms, stock};

#[derive(Clone, Copy)]
enum Way {
    Add,
    Surrender,
}

/// Asks for a change of a sale's stock and says how large it is then.
async fn change(s: &Stage, way: Way, name: &str, units: u32, request_id: &str) -> Outcome {
    let (name, request_id) = (name.to_owned(), request_id.to_owned());
    let answer = match way {
        Way::Add => s.sales().add_stock(AddStockRequest { name, units, request_id }).await,
        Way::Surrender => {
            let request = SurrenderStockRequest { name, units, request_id };
            s.sales().surrender_stock(request).await
        }
    };
    Ok(answer.map(|sale| format!("{} units", sale.get_ref().stock)))
}

/// A sale of ten units whose cells will get them in an hour.
async fn far_away(s: &Stage) -> anyhow::Result<String> {
    let sale = Sale { start_time: in_ms(7_200_000), end_time: in_ms(9_000_000), ..stock(10) };
    let name = s.write_down(&s.acme, sale).await?;
    let request = ScheduleSaleRequest { name: name.clone() };
    s.sales().schedule_sale(request).await.context("ScheduleSale")?;
    Ok(name)
}

/// One change of the open sale that makes no sense.
fn bad(what: &str, way: Way, units: u32, id: &'static str, name: &'static str) -> Row {
    row(what, field(name), async move |s: &Stage| change(s, way, &s.open, units, id).await)
}

/// One of a sale that is far away, with an id of its own.
fn far(what: &str, expected: Expected, way: Way, units: u32) -> Row {
    row(what, expected, async move |s: &Stage| {
        change(s, way, &far_away(s).await?, units, &fresh_id()).await
    })
}

/// The same request twice, the second time perhaps with another number or the other way round.
fn twice(what: &str, expected: Expected, ways: [Way; 2], units: [u32; 2]) -> Row {
    row(what, expected, async move |s: &Stage| {
        let (name, id) = (far_away(s).await?, fresh_id());
        change(s, ways[0], &name, units[0], &id).await?.context("the first time")?;
        change(s, ways[1], &name, units[1], &id).await
    })
}

/// All of them.
pub(crate) fn rows() -> Vec<Row> {
    use Way::{Add, Surrender};
    let conflict = || refused(Code::FailedPrecondition, Reason::SaleStateConflict);
    let reused = || refused(Code::InvalidArgument, Reason::RequestIdReused);
    let id = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
    let drafted = |what: &str, way: Way| {
        row(what, conflict(), async move |s: &Stage| change(s, way, &s.draft, 1, &fresh_id()).await)
    };
    let cancelled = |what: &str, way: Way| {
        row(what, conflict(), async move |s: &Stage| {
            let name = far_away(s).await?;
            let request = CancelSaleRequest { name: name.clone() };
            s.sales().cancel_sale(request).await.context("CancelSale")?;
            change(s, way, &name, 1, &fresh_id()).await
        })
    };
    vec![
        bad("AddStock: no units", Add, 0, id, "units"),
        bad("AddStock: 4 billion units", Add, u32::MAX, id, "units"),
        bad("AddStock: more than a sale may have", Add, 10_000_000, id, "units"),
        bad("AddStock: no request_id", Add, 1, "", "request_id"),
        bad("AddStock: a request_id that is no UUID", Add, 1, "1", "request_id"),
        bad("SurrenderStock: no units", Surrender, 0, id, "units"),
        bad("SurrenderStock: 4 billion units", Surrender, u32::MAX, id, "units"),
        bad("SurrenderStock: no request_id", Surrender, 1, "", "request_id"),
        far("SurrenderStock: all that there is", field("units"), Surrender, 10),
        far("SurrenderStock: all but one", says("1 units"), Surrender, 9),
        drafted("AddStock: a draft", Add),
        drafted("SurrenderStock: a draft", Surrender),
        cancelled("AddStock: called off", Add),
        cancelled("SurrenderStock: called off", Surrender),
        twice("AddStock: the same request again", says("15 units"), [Add, Add], [5, 5]),
        twice("AddStock: the same id, more units", reused(), [Add, Add], [5, 6]),
        twice("AddStock: the id of another call", reused(), [Surrender, Add], [5, 5]),
        twice(
            "SurrenderStock: the same request again",
            says("5 units"),
            [Surrender, Surrender],
            [5, 5],
        ),
    ]
}
