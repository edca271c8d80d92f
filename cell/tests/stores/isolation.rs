//! Orgs in Postgres: a transaction is of one org and one bucket, sees and writes nothing of others, and the ledger only
//! grows (INV-9). Asked of a real Postgres, as the role that cells work as.

use floodgate_cell::ledger::{self, BucketRef, LedgerError, TransferSide};
use floodgate_cell::transfer::TransferId;
use sqlx::postgres::{PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Row};

use crate::stores::{Bucket, FIRST_UNIT, KEEPER, Stores, hold, record};

/// The condition that says: no org, or another one.
const NO_ORG: &str = "FG004";
/// The condition that says: not permitted, by grant or by row security.
const DENIED: &str = "42501";

/// Two orgs with a sale each and one hold in it.
struct Two {
    stores: Stores,
    ours: Bucket,
    theirs: Bucket,
}

impl Two {
    async fn start() -> Two {
        let stores = Stores::start().await;
        let mut ours = stores.bucket("s01", 10, 2).await;
        ours.hold(&stores.pool, &[hold(1, &[0])]).await.unwrap();
        let record = proto::wire::cell::SaleRecord { org: "other".into(), ..record("s02", 10, 2) };
        let share = ledger::Share { first_unit: FIRST_UNIT, units: 10 };
        let aliases = ledger::accept(&stores.pool, &record, 0, share).await.unwrap();
        let bucket = BucketRef { org: aliases.org, sale: aliases.sale, bucket: 0 };
        ledger::set_sale(&stores.pool, bucket, &record).await.unwrap();
        let epoch = ledger::take_over(&stores.pool, bucket, 0, KEEPER).await.unwrap().unwrap();
        let mut theirs = Bucket { bucket, record, epoch, hold_batch: 0, settle_batch: 0 };
        theirs.hold(&stores.pool, &[hold(2, &[1])]).await.unwrap();
        assert_ne!((ours.org, ours.sale), (theirs.org, theirs.sale));
        for bucket in [&ours, &theirs] {
            let put = sqlx::query("select put_head($1, $2, 0, 1, 'a head')");
            let put = put.bind(bucket.org).bind(bucket.sale);
            put.execute(&stores.pool).await.unwrap();
            let back = sqlx::query("insert into given_back values ($1, $2, 0, 'pi_back')");
            let back = back.bind(bucket.org).bind(bucket.sale);
            back.execute(&stores.admin).await.unwrap();
            let (bucket, epoch) = (bucket.bucket, bucket.epoch);
            let transfer = TransferId([7; 16]);
            let side = TransferSide { bucket, epoch, transfer, peer: None };
            side.give_up(&stores.pool, &[]).await.unwrap();
        }
        Two { stores, ours, theirs }
    }

    /// Tables with an org, as a statement names them.
    async fn tables(&self) -> Vec<String> {
        let tables: Vec<String> = sqlx::query_scalar(
            "select c.oid::regclass::text from pg_class c
             join pg_attribute a on a.attrelid = c.oid and a.attname = 'org'
             where c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace order by 1",
        )
        .fetch_all(&self.stores.admin)
        .await
        .unwrap();
        assert!(tables.len() >= 8, "{tables:?}");
        tables
    }

    /// A session of the role that cells work as, `{ours}`, `{theirs}` and the like standing for aliases in statements.
    async fn session(&self) -> PgConnection {
        let url = self.stores.stack.endpoint("cell-1/postgres").unwrap().url;
        PgConnection::connect(&url).await.unwrap()
    }

    fn fill(&self, statement: &str) -> String {
        statement
            .replace("{ours}", &self.ours.org.to_string())
            .replace("{theirs}", &self.theirs.org.to_string())
            .replace("{our sale}", &self.ours.sale.to_string())
            .replace("{their sale}", &self.theirs.sale.to_string())
    }

    /// Runs statements in one transaction of our org, which is then rolled back. Returns what became of the last: rows,
    /// or the condition.
    async fn as_us(&self, statement: &str) -> Result<u64, String> {
        let mut session = self.session().await;
        let mut transaction = session.begin().await.unwrap();
        sqlx::query("select enter_org($1)")
            .bind(self.ours.org)
            .execute(&mut *transaction)
            .await
            .unwrap();
        let done =
            sqlx::query(AssertSqlSafe(self.fill(statement))).execute(&mut *transaction).await;
        done.map(|done| done.rows_affected()).map_err(|error| code(&error))
    }
}

fn code(error: &sqlx::Error) -> String {
    let refusal = error.as_database_error().unwrap_or_else(|| panic!("no refusal: {error}"));
    refusal.code().unwrap().into_owned()
}

#[tokio::test]
async fn inv_9_a_transaction_of_no_org_gets_an_error_from_every_table() {
    let two = Two::start().await;
    let mut session = two.session().await;
    for after in ["never set", "its transaction ended", "its transaction failed", "set to nothing"]
    {
        for table in two.tables().await {
            let all = sqlx::query(AssertSqlSafe(format!("select * from {table}")));
            let refused = all.fetch_all(&mut session).await.unwrap_err();
            assert_eq!(code(&refused), NO_ORG, "{table}, {after}: {refused}");
        }
        let insert = "insert into terms values (1, 1, 9, 1, 'EUR', 1, 1)";
        let refused = sqlx::query(insert).execute(&mut session).await.unwrap_err();
        assert_eq!(code(&refused), NO_ORG, "{after}");
        let mut transaction = session.begin().await.unwrap();
        match after {
            "never set" => {
                let enter = sqlx::query("select enter_org($1)").bind(two.ours.org);
                enter.execute(&mut *transaction).await.unwrap();
                transaction.commit().await.unwrap();
            }
            "its transaction ended" => {
                let enter = sqlx::query("select enter_org($1)").bind(two.ours.org);
                enter.execute(&mut *transaction).await.unwrap();
                sqlx::query("select 1 / 0").execute(&mut *transaction).await.unwrap_err();
                transaction.rollback().await.unwrap();
            }
            _ => {
                transaction.rollback().await.unwrap();
                sqlx::raw_sql("set floodgate.org = ''").execute(&mut session).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn inv_9_anothers_rows_cannot_be_seen_or_written() {
    let two = Two::start().await;
    for table in two.tables().await {
        let mut session = two.session().await;
        let mut transaction = session.begin().await.unwrap();
        let enter = sqlx::query("select enter_org($1)").bind(two.ours.org);
        enter.execute(&mut *transaction).await.unwrap();
        let count = format!("select count(*), count(*) filter (where org <> $1) from {table}");
        let count = sqlx::query(AssertSqlSafe(count)).bind(two.ours.org);
        let row = count.fetch_one(&mut *transaction).await.unwrap();
        let (all, others): (i64, i64) = (row.get(0), row.get(1));
        assert!(all > 0 && others == 0, "{table}: {all} rows, {others} of others");
        let theirs = format!("select 1 from {table} where org = {}", two.theirs.org);
        let theirs = sqlx::query(AssertSqlSafe(theirs)).fetch_all(&mut *transaction).await;
        assert!(theirs.unwrap().is_empty(), "{table}");
        transaction.rollback().await.unwrap();
        let all: i64 = sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {table}")))
            .fetch_one(&two.stores.admin)
            .await
            .unwrap();
        assert!(all >= 2, "{table} has nothing of theirs to hide");
    }
    // What would write their rows; none of it is missed by a statement that names no org.
    let untouched = [
        r#"update "order" set state = 3 where org = {theirs}"#,
        r#"update "order" set state = 3 where sale = {their sale}"#,
        "update bucket set live = 0 where sale = {their sale}",
        "update sale set stopped = true where id = 's02'",
        "delete from unit where sale = {their sale}",
        "delete from share where org = {theirs}",
    ];
    for statement in untouched {
        assert_eq!(two.as_us(statement).await, Ok(0), "{statement}");
        let own = statement.replace("their", "our").replace("s02", "s01");
        assert_eq!(two.as_us(&own).await, Ok(1), "{own} finds our own row");
    }
    let refused = [
        "insert into sale (org, id, class, start_at, end_at, update_ms) values ({theirs}, 's03', 1, now(), now(), 1)",
        "insert into terms values ({theirs}, {their sale}, 9, 1, 'EUR', 1, 1)",
        "insert into bucket (org, sale, bucket) values ({theirs}, {their sale}, 7)",
        "insert into share values ({theirs}, {their sale}, 500, 1, 0)",
        r#"insert into "order" (org, sale, id, buyer, bucket, quantity, state, revision, ticket, deadline)
           values ({theirs}, {their sale}, gen_random_uuid(), gen_random_uuid(), 0, 1, 1, 1, 99, now())"#,
        "insert into unit values ({theirs}, {their sale}, 109, 0, gen_random_uuid(), gen_random_uuid(), 0)",
        "insert into ledger values ({theirs}, {their sale}, 0, 99, 1, 1, '', '', '')",
        "insert into transfer values ({theirs}, {their sale}, gen_random_uuid(), true, 0, null, '{}', '{}')",
    ];
    for statement in refused {
        assert_eq!(two.as_us(statement).await, Err(DENIED.into()), "{statement}");
        let own = statement.replace("{theirs}", "{ours}").replace("{their sale}", "{our sale}");
        assert_eq!(two.as_us(&own).await, Ok(1), "{own}");
    }
}

#[tokio::test]
async fn inv_9_a_transaction_stays_with_its_org_and_its_bucket() {
    let two = Two::start().await;
    let stays = [
        "select enter_org({theirs})",
        "select enter_bucket({theirs}, {their sale}, 0)",
        "select set_gate({theirs}, {their sale}, 0, 1, 1, 0, 0, 0)",
        "select take_over({theirs}, {their sale}, 0, 1, 'p9')",
        "select find_orders({theirs}, {their sale}, 0, '{}')",
        "select set_sale({theirs}, {their sale}, 9, now(), now(), true, true, 9, 1, 'EUR', 1, 1)",
        "select rest({theirs}, {their sale}, 0, 1)",
        "select find_transfer({theirs}, {their sale}, 0, 1, gen_random_uuid(), false)",
        "select give_up({theirs}, {their sale}, 0, 1, gen_random_uuid(), 1, '{100}', '{1}', '', '')",
        "select accept_units({theirs}, {their sale}, 0, 1, gen_random_uuid(), 1, '{900}', '{1}', '', '')",
        "select accept('other', 's02', 1::smallint, 1, 0, 1, '', '')",
    ];
    for statement in stays {
        assert_eq!(two.as_us(statement).await, Err(NO_ORG.into()), "{statement}");
    }
    let mut session = two.session().await;
    let mut transaction = session.begin().await.unwrap();
    let gate = "select set_gate({ours}, {our sale}, 0, 1, 1, 0, 0, 0)";
    for _ in 0..2 {
        let gate = sqlx::query(AssertSqlSafe(two.fill(gate)));
        gate.execute(&mut *transaction).await.unwrap();
    }
    let beside = two.fill("select set_gate({ours}, {our sale}, 1, 1, 1, 0, 0, 0)");
    let refused = sqlx::query(AssertSqlSafe(beside)).execute(&mut *transaction).await.unwrap_err();
    assert_eq!(code(&refused), NO_ORG, "another bucket in the same transaction");
    transaction.rollback().await.unwrap();

    // Under our org their sale is what no sale is.
    let mixed = |sale: i32| BucketRef { org: two.ours.org, sale, bucket: 0 };
    let gate = ledger::GateRow { ranks: 1, tail: 0, cursor: 0, gate_us: 0 };
    let mut said = Vec::new();
    for sale in [two.theirs.sale, 9_999] {
        let refused = ledger::set_gate(&two.stores.pool, mixed(sale), 1, gate).await;
        let Err(LedgerError::Stale(words)) = refused else { panic!("{refused:?}") };
        said.push(words.replace(&sale.to_string(), "N"));
        assert_eq!(ledger::keeper_of(&two.stores.pool, mixed(sale)).await.unwrap(), None);
        let orders = [crate::stores::order(2)];
        let found = ledger::find_orders(&two.stores.pool, mixed(sale), &orders).await.unwrap();
        assert!(found.is_empty());
    }
    assert_eq!(said[0], said[1], "whether it exists cannot be told");
    // Nor is their sale's id any use to us: ids are given out by the platform, once.
    let stolen = record("s02", 10, 2);
    let share = ledger::Share { first_unit: FIRST_UNIT, units: 10 };
    let refused = ledger::accept(&two.stores.pool, &stolen, 0, share).await;
    assert!(matches!(refused, Err(LedgerError::Refused(_))), "{refused:?}");
    let candidates = ledger::candidates(&two.stores.pool, 10).await.unwrap();
    assert_eq!(candidates.len(), 2, "a process knows of all buckets");
}

#[tokio::test]
async fn what_happened_stays_and_what_was_promised_stands() {
    let two = Two::start().await;
    let denied = [
        "update ledger set entries = ''",
        "update ledger set at_us = at_us where false",
        "delete from ledger",
        "truncate ledger",
        "drop table ledger",
        "alter table ledger disable row level security",
        "create policy all_of_it on ledger using (true)",
        "lock table ledger in access exclusive mode",
        r#"delete from "order""#,
        r#"update "order" set buyer = gen_random_uuid()"#,
        r#"update "order" set quantity = 1"#,
        r#"update "order" set deadline = now()"#,
        r#"update "order" set org = {theirs}"#,
        "update unit set buyer = gen_random_uuid()",
        "update terms set cap = 9",
        "delete from terms",
        "update share set units = 99",
        "update transfer set accepted = true",
        "delete from transfer",
        "delete from bucket",
        "update bucket set org = {theirs}",
        "update bucket set bucket = 9",
        "update sale set org = {theirs}",
        "update sale set id = 's09'",
        "delete from sale",
        "insert into org (id) values ('third')",
        "update org set id = 'third'",
        "delete from org",
        "create table mine (a int)",
        "create temporary table mine (a int)",
        "create function mine() returns int language sql as 'select 1'",
        "set role floodgate",
        "set role floodgate_finder",
        "insert into _sqlx_migrations (version) values (9)",
    ];
    for statement in denied {
        assert_eq!(two.as_us(statement).await, Err(DENIED.into()), "{statement}");
    }
    assert_eq!(two.stores.ledger(two.ours.bucket).await.len(), 2, "and it is whole");
}

#[tokio::test]
async fn a_connection_goes_back_to_its_pool_without_an_org() {
    let two = Two::start().await;
    let url = two.stores.stack.endpoint("cell-1/postgres").unwrap().url;
    let pool = PgPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
    let set = async |after: &str| {
        let set: (Option<String>, Option<String>) = sqlx::query_as(
            "select nullif(current_setting('floodgate.org', true), ''), nullif(current_setting('floodgate.bucket', true), '')",
        )
        .fetch_one(&pool)
        .await
        .unwrap();
        assert_eq!(set, (None, None), "after {after}");
    };
    let mut ours = two.ours.clone();
    ours.hold(&pool, &[hold(3, &[3])]).await.unwrap();
    set("a hold").await;
    let stale = ours.hold_as(&pool, (9, 9), &[]).await;
    assert!(matches!(stale, Err(LedgerError::Stale(_))), "{stale:?}");
    set("a refusal").await;
    ledger::load(&pool, ours.bucket, 1).await.unwrap();
    set("a load").await;
    let stale = ledger::load(&pool, ours.bucket, 9).await;
    assert!(stale.is_err());
    set("a load that was given up").await;
    assert!(!ledger::is_refund_written(&pool, ours.bucket, "pi").await.unwrap());
    set("a look into the ledger").await;
    ledger::find_orders(&pool, ours.bucket, &[]).await.unwrap();
    ledger::keeper_of(&pool, ours.bucket).await.unwrap();
    ledger::take_over(&pool, ours.bucket, 1, KEEPER).await.unwrap();
    set("a take-over").await;
    // And another org's turn on the same connection is its own.
    let found = ledger::find_orders(&pool, two.theirs.bucket, &[crate::stores::order(2)]).await;
    assert_eq!(found.unwrap().len(), 1);
}
