//! Statistics that know nothing of a sale: every sale is new to Postgres once, and its first take-over must not wait for
//! the next analysis.

use std::ops::Range;

use floodgate_cell::ledger;
use sqlx::types::Uuid;
use sqlx::{Acquire, PgConnection, Row};

use crate::stores::{Bucket, Stores, hold};

/// So many that to read each order once for every unit would take minutes.
const ORDERS: i32 = 60_000;

/// A batch of cancels.
const ENDED: i32 = 200;

#[tokio::test]
async fn orders_are_found_at_once_however_little_postgres_knows_of_its_sale() {
    let stores = Stores::start().await;
    for table in [r#""order""#, "unit"] {
        let off = format!("alter table {table} set (autovacuum_enabled = off)");
        sqlx::query(sqlx::AssertSqlSafe(off)).execute(&stores.admin).await.unwrap();
    }
    // What Postgres knows: another sale, of which it has seen every row.
    let mut known = stores.bucket("s01", 10, 1).await;
    known.hold(&stores.pool, &[hold(1, &[0])]).await.unwrap();
    insert(&stores, (known.bucket.org, known.bucket.sale), 1_000..1_000 + ORDERS).await;
    sqlx::query("analyze").execute(&stores.admin).await.unwrap();

    let new = stores.bucket("s02", 60_000, 1).await;
    insert(&stores, (new.bucket.org, new.bucket.sale), 0..ORDERS).await;
    let loaded = ledger::load(&stores.pool, new.bucket, new.epoch).await.unwrap();
    assert_eq!(loaded.holders.len(), usize::try_from(ORDERS).unwrap());
    assert_eq!(loaded.spent.len(), loaded.holders.len());

    let mut session = stores.pool.acquire().await.unwrap();
    let ask = r#"prepare ask(int, int, uuid) as
        select state from "order" where org = $1 and sale = $2 and id = $3"#;
    let (org, sale) = (new.bucket.org, new.bucket.sale);
    let set = format!("set floodgate.org = '{org}'; {ask}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(set)).execute(&mut *session).await.unwrap();
    let id = Uuid::from_bytes(loaded.holders[0].order.0);
    let explain = format!("explain execute ask({org}, {sale}, '{id}')");
    let explain = sqlx::raw_sql(sqlx::AssertSqlSafe(explain)).fetch_all(&mut *session).await;
    let plan: Vec<String> = explain.unwrap().iter().map(|row| row.get(0)).collect();
    assert!(plan.iter().any(|line| line.contains("order_pkey")), "not by its key: {plan:#?}");
}

#[tokio::test]
async fn orders_of_a_sale_that_postgres_does_not_know_are_ended_one_by_one() {
    let stores = Stores::start().await;
    for table in [r#""order""#, "unit"] {
        let off = format!("alter table {table} set (autovacuum_enabled = off)");
        sqlx::query(sqlx::AssertSqlSafe(off)).execute(&stores.admin).await.unwrap();
    }
    let new = stores.bucket("s01", 60_000, 1).await;
    let (org, sale) = (new.bucket.org, new.bucket.sale);
    insert(&stores, (org, sale), 0..1).await;
    let live = sqlx::query("update bucket set live = $1").bind(ORDERS);
    live.execute(&stores.admin).await.unwrap();

    // The session has made its plan when the second batch comes, and made it for tables that were as good as empty.
    let mut session = stores.pool.acquire().await.unwrap();
    end(&mut session, &new, 1, 0..1).await;
    insert(&stores, (org, sale), 1..ORDERS).await;
    let mut ending = session.begin().await.unwrap();
    end(&mut ending, &new, 2, 1..1 + ENDED).await;
    let read = "select relname::text, idx_tup_fetch + seq_tup_read from pg_stat_xact_user_tables
        where relname in ('order', 'unit')";
    let read: Vec<(String, i64)> = sqlx::query_as(read).fetch_all(&mut *ending).await.unwrap();
    assert_eq!(read.len(), 2);
    for (table, rows) in read {
        assert!(
            rows <= i64::from(2 * ENDED),
            "{rows} rows of {table} were read to end {ENDED} orders"
        );
    }
}

/// Cancels the orders of these units.
async fn end(session: &mut PgConnection, of: &Bucket, batch: i64, units: Range<i32>) {
    let settle = "with e as (select unit, md5($2 || '/' || unit)::uuid as id from generate_series($5, $6 - 1) unit)
        select settle($1, $2, 0, $3, $4, array_agg(id), array_agg(4::smallint), array_agg(0::smallint),
                      array_agg(null::text), array_agg(id), array_agg(unit), '', decode(repeat('00', 32), 'hex'))
        from e";
    let settle = sqlx::query(settle).bind(of.bucket.org).bind(of.bucket.sale).bind(of.epoch);
    let settle = settle.bind(batch).bind(units.start).bind(units.end);
    settle.execute(session).await.unwrap();
}

/// Writes held orders of one unit each, named after it.
async fn insert(stores: &Stores, (org, sale): (i32, i32), units: Range<i32>) {
    let orders = r#"insert into "order" (org, sale, id, buyer, bucket, quantity, state, revision, ticket, deadline)
        select $1, $2, md5($2 || '/' || n)::uuid, md5($2 || '/' || n)::uuid, 0, 1, 1, 1, n, now() + interval '1 hour'
        from generate_series($3, $4 - 1) n"#;
    let rows = "insert into unit (org, sale, unit, bucket, buyer, id, slot)
        select $1, $2, n, 0, md5($2 || '/' || n)::uuid, md5($2 || '/' || n)::uuid, 0
        from generate_series($3, $4 - 1) n";
    for insert in [orders, rows] {
        let insert = sqlx::query(insert).bind(org).bind(sale).bind(units.start).bind(units.end);
        insert.execute(&stores.admin).await.unwrap();
    }
}
