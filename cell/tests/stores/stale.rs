//! Statistics that know nothing of a sale: every sale is new to Postgres once, and its first take-over must not wait for
//! the next analysis.

use floodgate_cell::ledger;
use sqlx::Row;
use sqlx::types::Uuid;

use crate::stores::{Stores, hold};

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
    insert(&stores, (known.bucket.org, known.bucket.sale), 1_000).await;
    sqlx::query("analyze").execute(&stores.admin).await.unwrap();

    let new = stores.bucket("s02", 60_000, 1).await;
    insert(&stores, (new.bucket.org, new.bucket.sale), 0).await;
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
    insert(&stores, (org, sale), 0).await;
    let live = sqlx::query("update bucket set live = $1").bind(ORDERS);
    live.execute(&stores.admin).await.unwrap();

    let mut ending = stores.pool.begin().await.unwrap();
    let settle = "with e as (select n, md5($2 || '/' || n)::uuid as id from generate_series(1, $4::int) n)
        select settle($1, $2, 0, $3, 1, array_agg(id), array_agg(4::smallint), array_agg(0::smallint),
                      array_agg(null::text), array_agg(id), array_agg(n - 1), '', decode(repeat('00', 32), 'hex'))
        from e";
    let settle = sqlx::query(settle).bind(org).bind(sale).bind(new.epoch).bind(ENDED);
    settle.execute(&mut *ending).await.unwrap();
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

/// Writes held orders of one unit each, from unit `first` on.
async fn insert(stores: &Stores, (org, sale): (i32, i32), first: i32) {
    let orders = r#"insert into "order" (org, sale, id, buyer, bucket, quantity, state, revision, ticket, deadline)
        select $1, $2, md5($2 || '/' || n)::uuid, md5($2 || '/' || n)::uuid, 0, 1, 1, 1, n, now() + interval '1 hour'
        from generate_series($3 + 1, $3 + $4) n"#;
    let units = "insert into unit (org, sale, unit, bucket, buyer, id, slot)
        select $1, $2, n - 1, 0, md5($2 || '/' || n)::uuid, md5($2 || '/' || n)::uuid, 0
        from generate_series($3 + 1, $3 + $4) n";
    for insert in [orders, units] {
        let insert = sqlx::query(insert).bind(org).bind(sale).bind(first).bind(ORDERS);
        insert.execute(&stores.admin).await.unwrap();
    }
}
