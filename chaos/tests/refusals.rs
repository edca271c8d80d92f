//! The table of bad inputs: what comes in, and the status, reason and details with which it is refused.
//!
//! Every row is tried on one running platform, through its ports. A refusal must be whole: the gRPC code, the reason
//! in `google.rpc.ErrorInfo`, `RetryInfo` exactly when the same call may succeed later, and the name of the field that
//! makes no sense. A second test fails when a reason of the closed list stands in no row.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "tests"
)]

#[path = "refusals/attacks.rs"]
mod attacks;
#[path = "refusals/edges.rs"]
mod edges;
#[path = "refusals/holds.rs"]
mod holds;
#[path = "refusals/keys.rs"]
mod keys;
#[path = "refusals/matrix.rs"]
mod matrix;
#[path = "refusals/names.rs"]
mod names;
#[path = "refusals/orders.rs"]
mod orders;
#[path = "refusals/outage.rs"]
mod outage;
#[path = "support/platform.rs"]
mod platform;
#[path = "refusals/refunds.rs"]
mod refunds;
#[path = "refusals/replays.rs"]
mod replays;
#[path = "refusals/row.rs"]
mod row;
#[path = "refusals/sales.rs"]
mod sales;
#[path = "refusals/shop.rs"]
mod shop;
#[path = "refusals/stage.rs"]
mod stage;
#[path = "refusals/stock.rs"]
mod stock;
#[path = "refusals/tickets.rs"]
mod tickets;
#[path = "refusals/tokens.rs"]
mod tokens;
#[path = "refusals/watching.rs"]
mod watching;
#[path = "refusals/wire.rs"]
mod wire;

use futures_util::{StreamExt, stream};
use proto::fault::Reason;
use row::{Expected, Row};
use stage::Stage;

/// Rows that are tried at the same time: each has its own buyers and, where it matters, its own sale.
const AT_ONCE: usize = 8;

/// Reasons that no row can show, and why.
const EXCUSED: [(Reason, &str); 1] = [(
    Reason::Internal,
    "only a defect of ours says it: a row that showed it would be a bug report",
)];

/// Rows that do not concern each other.
fn together() -> Vec<Row> {
    [
        names::rows(),
        names::admin_rows(),
        tokens::rows(),
        tokens::more_rows(),
        keys::rows(),
        tickets::rows(),
        holds::rows(),
        holds::closed_rows(),
        holds::line_rows(),
        holds::rested_rows(),
        orders::rows(),
        orders::card_rows(),
        refunds::rows(),
        sales::field_rows(),
        sales::rows(),
        sales::step_rows(),
        sales::org_rows(),
        stock::rows(),
        edges::rows(),
        edges::deadline_rows(),
        watching::rows(),
        edges::rate_rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Rows that change the platform for everybody, in their order.
fn one_by_one() -> Vec<Row> {
    [orders::provider_rows(), outage::rows()].into_iter().flatten().collect()
}

#[tokio::test]
async fn every_bad_input_is_refused_as_the_table_says() {
    let stage = Stage::set().await.unwrap();
    let mut tried = 0;
    let mut wrong = Vec::new();
    let mut note = |(line, right): (String, bool)| {
        println!("{line}");
        tried += 1;
        if !right {
            wrong.push(line);
        }
    };
    let (rows, alone) = (together(), one_by_one());
    let mut lines = stream::iter(&rows).map(|row| row.run(&stage)).buffered(AT_ONCE);
    while let Some(line) = lines.next().await {
        note(line);
    }
    for row in &alone {
        note(row.run(&stage).await);
    }
    assert!(wrong.is_empty(), "{} of {tried} rows:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_reason_stands_in_a_row() {
    let rows: Vec<Row> = together().into_iter().chain(one_by_one()).collect();
    let shown = |reason: Reason| {
        rows.iter()
            .any(|row| matches!(row.expected, Expected::Refused { reason: r, .. } if r == reason))
    };
    let excused = |reason| EXCUSED.iter().any(|(one, _)| *one == reason);
    let missing: Vec<_> =
        Reason::ALL.iter().filter(|one| !shown(**one) && !excused(**one)).collect();
    assert!(missing.is_empty(), "no row shows {missing:?}");
    let needless: Vec<_> = EXCUSED.iter().filter(|(reason, _)| shown(*reason)).collect();
    assert!(needless.is_empty(), "a row shows what is excused: {needless:?}");
}
