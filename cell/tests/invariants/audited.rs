//! The cell's own audit: a storm leaves no difference, whatever is killed in it; what somebody changes behind its back is
//! found; and what is exported is as it was signed.

use std::path::PathBuf;
use std::process::Output;

use etcd_client::Client as Etcd;
use floodgate_cell::inventory::BucketKeys;
use floodgate_cell::ledger::BucketRef;
use local::{KeyFiles, PlaneBinaries};
use prost::Message;
use proto::id::BuyerKey;
use proto::keys;
use proto::wire::cell::{BucketReport, SaleRecord};
use redis::AsyncCommands;
use sqlx::{PgPool, Row};

use crate::audit::audit;
use crate::cell::{CellUnderTest, DEADLINE, id_of, name_of, seed, until};
use crate::found::{differences, metric, no_differences};
use crate::sale::record;
use crate::short_sale;
use crate::storm::{Storm, Told};

/// Waits until the newest head of a bucket covers its whole ledger.
async fn signed(cell: &CellUnderTest, bucket: BucketRef) -> String {
    until(DEADLINE, async || {
        let row = sqlx::query(
            "select h.head, h.seq, b.seq from bucket b left join head h using (org, sale, bucket)
             where b.org = $1 and b.sale = $2 and b.bucket = $3",
        );
        let row = row.bind(bucket.org).bind(bucket.sale).bind(bucket.bucket);
        let row = row.fetch_one(&cell.pool).await.map_err(|error| error.to_string())?;
        let (head, covered): (Option<String>, Option<i64>) = (row.get(0), row.get(1));
        let last: i64 = row.get(2);
        if covered == Some(last) {
            Ok(head.unwrap())
        } else {
            Err(format!("{covered:?} of {last} rows"))
        }
    })
    .await
}

/// Runs the command line in the stack's folder.
async fn floodgate(cell: &CellUnderTest, line: &str) -> Output {
    let program = PlaneBinaries::find().program("floodgate").unwrap();
    let mut command = tokio::process::Command::new(program);
    command
        .args(line.split(' '))
        .current_dir(cell.stack.folder())
        .env_clear()
        .output()
        .await
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn inv_3_a_storm_leaves_no_difference_and_a_ledger_that_can_be_shown() {
    let seed = seed();
    let cell = CellUnderTest::start(&["p1", "p2"]).await;
    let sale = short_sale("storm", 40, 2);
    cell.open(&sale).await;
    let storm = Storm::begin(&cell, &sale, 90, seed);
    storm.held(8).await;
    let (keeper, epoch) = cell.keeper_after(&sale, 0).await;
    cell.stack.kill(&name_of(&keeper)).await.unwrap();
    cell.keeper_after(&sale, epoch).await;
    cell.stack.restart(&name_of(&keeper)).await.unwrap();
    storm.held(14).await;
    cell.stack.kill("cell-1/redis").await.unwrap();
    cell.stack.restart("cell-1/redis").await.unwrap();
    let told = storm.end().await;
    audit(&cell, &sale, &told).await;

    let head = signed(&cell, cell.bucket("storm").await).await;
    for process in ["p1", "p2"] {
        no_differences(&cell, process).await;
        assert_eq!(metric(&cell, process, "floodgate_audit_lag_rows").await, Some(0.0));
    }
    let (keeper, _) = cell.keeper_after(&sale, 0).await;
    assert!(metric(&cell, &keeper, "floodgate_audit_rows_total").await.unwrap() > 10.0);
    witnessed(&cell, &head).await;
    shown(&cell, &told, &head).await;
}

/// Somebody outside the cell has the head too.
async fn witnessed(cell: &CellUnderTest, head: &str) {
    let etcd = cell.stack.endpoint("etcd").unwrap().url;
    let mut etcd = Etcd::connect([etcd], None).await.unwrap();
    until(DEADLINE, async || {
        let report =
            etcd.get(keys::report("storm", 0), None).await.map_err(|error| error.to_string())?;
        let report = report.kvs().first().ok_or("there is no report")?;
        let report = BucketReport::decode(report.value()).map_err(|error| error.to_string())?;
        if report.head == head { Ok(()) } else { Err(format!("the report has {:?}", report.head)) }
    })
    .await;
}

/// What is exported can be shown: all of it, and each order by itself; and not when it was changed.
async fn shown(cell: &CellUnderTest, told: &Told, head: &str) {
    let public = KeyFiles::ledger(cell.stack.folder(), "cell-1").unwrap().public;
    let public = public.display().to_string();
    let postgres = cell.stack.endpoint("cell-1/postgres").unwrap().url;
    let sale = "orgs/acme/sales/storm";
    let export = format!("ledger export --postgres {postgres} --sale {sale} --out storm.ledger");
    let done = floodgate(cell, &export).await;
    assert!(done.status.success(), "{}", text(&done.stderr));
    std::fs::write(cell.stack.folder().join("heads"), format!("{head}\n")).unwrap();
    let verify =
        format!("ledger verify storm.ledger --key {public} --head heads --stock 40 -o json");
    let done = floodgate(cell, &verify).await;
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains("\"asSigned\": true"), "{}", text(&done.stdout));
    for order in told.paid.iter().chain(&told.cancelled) {
        let receipt = format!("ledger receipt storm.ledger --order {order} --out {order}.receipt");
        let done = floodgate(cell, &receipt).await;
        assert!(done.status.success(), "{}", text(&done.stderr));
        let check = format!("ledger verify-receipt {order}.receipt --key {public}");
        let done = floodgate(cell, &check).await;
        let state = if told.paid.contains(order) { "PAID" } else { "CANCELLED" };
        assert!(text(&done.stdout).contains(state), "{}{}", text(&done.stdout), text(&done.stderr));
    }
    // One byte of it is another.
    let file: PathBuf = cell.stack.folder().join("storm.ledger");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    std::fs::write(&file, bytes).unwrap();
    let done = floodgate(cell, &verify).await;
    assert_eq!(done.status.code(), Some(6), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("false: bucket 0"), "{}", text(&done.stderr));
}

/// What somebody does who may do anything in the stores: a name, the promise whose difference it is, and the damage.
const DAMAGES: &[(&str, &str, &str)] = &[
    (
        "an-old-row-is-edited",
        "INV-6",
        "update ledger set entries = set_byte(entries, 6, get_byte(entries, 6) # 1) where sale = $1 and seq = 2",
    ),
    ("an-old-row-is-deleted", "INV-6", "delete from ledger where sale = $1 and seq = 3"),
    (
        "the-newest-row-is-deleted",
        "INV-6",
        "delete from ledger where sale = $1 and seq = (select max(seq) from ledger where sale = $1)",
    ),
    ("a-unit-is-freed", "INV-1", "delete from unit where sale = $1 and slot = 1"),
    (
        "a-live-order-is-paid",
        "INV-6",
        r#"update "order" set state = 3 where sale = $1 and state = 1"#,
    ),
    (
        "an-ended-order-is-another",
        "INV-6",
        r#"update "order" set state = 4 where sale = $1 and state = 5"#,
    ),
    ("an-ended-order-is-gone", "INV-6", r#"delete from "order" where sale = $1 and state = 5"#),
    ("a-count-is-changed", "INV-2", "update bucket set live = live + 1 where sale = $1"),
    ("the-end-is-put-back", "INV-6", "update bucket set seq = seq - 1 where sale = $1"),
];

#[tokio::test]
async fn inv_6_what_is_changed_behind_its_back_is_found() {
    let cell = CellUnderTest::start(&["p1"]).await;
    let mut sales = Vec::new();
    for (name, ..) in DAMAGES.iter().chain([&("redis", "", "")]) {
        sales.push(sold(&cell, name).await);
    }
    for sale in &sales {
        signed(&cell, cell.bucket(&sale.sale).await).await;
    }
    no_differences(&cell, "p1").await;
    let superuser = superuser(&cell).await;
    for (sale, (name, invariant, damage)) in sales.iter().zip(DAMAGES) {
        let before = differences(&cell, "p1", invariant).await.unwrap();
        let bucket = cell.bucket(&sale.sale).await;
        let done = sqlx::query(*damage).bind(bucket.sale).execute(&superuser).await.unwrap();
        assert_eq!(done.rows_affected(), 1, "{name}");
        found(&cell, invariant, before, name).await;
    }
    let before = differences(&cell, "p1", "INV-3").await.unwrap();
    free_in_redis(&cell, &sales[DAMAGES.len()]).await;
    found(&cell, "INV-3", before, "a unit is freed in Redis").await;
    let broken = metric(&cell, "p1", "floodgate_invariant_broken_total{invariant=\"INV-3\"}").await;
    assert!(broken.unwrap() > 0.0);
}

/// A session of whoever may do anything.
async fn superuser(cell: &CellUnderTest) -> PgPool {
    let url = cell.stack.endpoint("cell-1/postgres").unwrap().url;
    let (_, place) = url.split_once('@').unwrap();
    PgPool::connect(&format!("postgres://postgres@{place}")).await.unwrap()
}

/// A sale in which one buyer holds two units and another gave one back.
async fn sold(cell: &CellUnderTest, name: &str) -> SaleRecord {
    let sale = record(name, 10, 2);
    cell.open(&sale).await;
    let (ada, bob) = (BuyerKey([1; 16]), BuyerKey([2; 16]));
    cell.held(name, ada, (2, [1; 16])).await;
    let given_back = cell.held(name, bob, (1, [2; 16])).await;
    cell.cancel(name, bob, id_of(&given_back)).await.unwrap();
    sale
}

async fn found(cell: &CellUnderTest, invariant: &str, before: f64, what: &str) {
    until(DEADLINE, async || {
        let now = differences(cell, "p1", invariant).await?;
        if now > before { Ok(()) } else { Err(format!("{what}: {now} differences of {invariant}")) }
    })
    .await;
}

/// Makes Redis forget that the first unit is somebody's.
async fn free_in_redis(cell: &CellUnderTest, sale: &SaleRecord) {
    let bucket = cell.bucket(&sale.sale).await;
    let epoch = sqlx::query_scalar("select epoch from bucket where org = $1 and sale = $2");
    let epoch: i64 = epoch.bind(bucket.org).bind(bucket.sale).fetch_one(&cell.pool).await.unwrap();
    let url = cell.stack.endpoint("cell-1/redis").unwrap().url;
    let redis = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await;
    let mut redis = redis.unwrap();
    let keys = BucketKeys::new(&sale.org, &sale.sale, 0, epoch);
    let _: () = redis.setrange(&keys.units, 0, &[0_u8; 16][..]).await.unwrap();
    let _: () = redis.rpush(&keys.free, 0).await.unwrap();
}

#[tokio::test]
async fn inv_6_a_ledger_that_was_put_back_is_found_by_its_head() {
    let cell = CellUnderTest::start(&["p1"]).await;
    sold(&cell, "old").await;
    let bucket = cell.bucket("old").await;
    signed(&cell, bucket).await;
    cell.stack.stop(&name_of("p1")).await.unwrap();
    // The rows that are left fit each other and the bucket's row; only the head knows of more.
    let superuser = superuser(&cell).await;
    for damage in [
        "delete from ledger where sale = $1 and seq > 2",
        "update bucket b set seq = 2, head = l.hash, at_us = l.at_us
         from ledger l where b.sale = $1 and l.sale = b.sale and l.seq = 2",
    ] {
        sqlx::query(damage).bind(bucket.sale).execute(&superuser).await.unwrap();
    }
    cell.stack.restart(&name_of("p1")).await.unwrap();
    found(&cell, "INV-6", 0.0, "the ledger was put back").await;
    let log = std::fs::read_to_string(cell.stack.log_path(&name_of("p1")).unwrap()).unwrap();
    assert!(log.contains("a head was signed for row 4: it was put back"), "{log}");
}
