//! Isolation as the catalogue has it: which tables are bound, who owns what, and who may do what.

use sqlx::{AssertSqlSafe, PgPool};

use crate::stores::Stores;

async fn names(pool: &PgPool, query: &'static str) -> Vec<String> {
    sqlx::query_scalar(query).fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn inv_9_the_schema_itself_keeps_orgs_apart() {
    let stores = Stores::start().await;
    let of_org = "from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'org'
                  where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')";
    let find = async |select: &str| -> Vec<String> {
        let query = AssertSqlSafe(select.replace("{of org}", of_org));
        sqlx::query_scalar(query).fetch_all(&stores.admin).await.unwrap()
    };
    let bare = find(
        "select c.relname::text {of org} and not (c.relrowsecurity and c.relforcerowsecurity
           and exists (select from pg_policy p where p.polrelid = c.oid and p.polname = 'of_org'
                       and p.polcmd = '*' and p.polpermissive and p.polroles = '{0}'
                       and pg_get_expr(p.polqual, p.polrelid) like '%( SELECT current_org()%'))",
    );
    assert!(bare.await.is_empty(), "tables that row security does not bind");
    let lax = find(
        "select p.polname || ' on ' || c.relname || ' to ' || array_to_string(p.polroles::regrole[], ',')
         from pg_policy p join pg_class c on c.oid = p.polrelid where p.polname <> 'of_org' order by 1",
    );
    let finders =
        ["bucket", "head", "org", "sale"].map(|t| format!("finder on {t} to floodgate_finder"));
    assert_eq!(lax.await, finders);
    // Ids of orgs and sales are the platform's, unique over all orgs; every other key names its org.
    let keys = find(
        "select i.indexrelid::regclass::text from pg_index i where i.indisunique
           and i.indrelid in (select c.oid {of org})
           and not (select a.attnum from pg_attribute a
                    where a.attrelid = i.indrelid and a.attname = 'org') = any (i.indkey) order by 1",
    );
    assert_eq!(keys.await, ["org_id_key", "sale_id_key"]);
    let references = find(
        "select f.conname::text from pg_constraint f where f.contype = 'f'
           and f.conrelid in (select c.oid {of org})
           and not (select a.attnum from pg_attribute a
                    where a.attrelid = f.conrelid and a.attname = 'org') = any (f.conkey)",
    );
    assert!(references.await.is_empty(), "references that do not name the org");
}

#[tokio::test]
async fn roles_have_what_they_need_and_nothing_else() {
    let stores = Stores::start().await;
    let admin = &stores.admin;
    // Everything in the database that belongs to the two roles who own nothing.
    let owned = names(
        admin,
        "select pg_describe_object(classid, objid, objsubid) || ' of ' || refobjid::regrole
         from pg_shdepend where deptype = 'o'
           and refobjid in ('floodgate_cell'::regrole, 'floodgate_finder'::regrole) order by 1",
    );
    assert_eq!(
        owned.await,
        [
            "function buckets_at_rest(bigint) of floodgate_finder",
            "function buckets_to_keep(bigint) of floodgate_finder",
            "function org_alias(text) of floodgate_finder",
            "function unsigned_at_rest(integer) of floodgate_finder",
        ]
    );
    // Whoever adds a table says here what cells may do with it.
    let granted = names(
        admin,
        "select table_name || ' ' || string_agg(lower(privilege_type), ' ' order by privilege_type)
         from information_schema.role_table_grants where grantee = 'floodgate_cell' group by table_name order by 1",
    );
    assert_eq!(
        granted.await,
        [
            "_sqlx_migrations select",
            "bucket insert select",
            "given_back insert select",
            "head insert select",
            "ledger insert select",
            "order insert select",
            "org select",
            "process delete insert select update",
            "sale insert select",
            "share delete insert select",
            "terms insert select",
            "transfer insert select",
            "unit delete insert select",
        ]
    );
    let updated = names(
        admin,
        "select table_name || ' ' || string_agg(column_name, ' ' order by column_name)
         from information_schema.column_privileges
         where grantee = 'floodgate_cell' and privilege_type = 'UPDATE'
           and table_name not in ('process', 'bucket') group by table_name order by 1",
    );
    assert_eq!(
        updated.await,
        [
            "head head seq",
            "order attempt intent refunding refusals state",
            "sale cancelled end_at start_at stopped update_ms",
            "unit slot"
        ]
    );
}

#[tokio::test]
async fn who_looks_over_all_orgs_sees_no_buyer() {
    let stores = Stores::start().await;
    let admin = &stores.admin;
    // It sees no buyer, no unit and no ledger, and cannot log in.
    let seen = names(
        admin,
        "select table_name || ' ' || string_agg(distinct column_name, ' ' order by column_name)
         from information_schema.column_privileges where grantee = 'floodgate_finder'
         group by table_name order by 1",
    );
    assert_eq!(
        seen.await,
        [
            "bucket bucket epoch keeper org sale seq settled",
            "head bucket org sale seq",
            "org id org",
            "sale id org sale"
        ]
    );
    let trusted = names(
        admin,
        "select p.oid::regprocedure::text from pg_proc p where p.pronamespace = 'public'::regnamespace
           and p.prosecdef and p.proowner = 'floodgate_finder'::regrole
           and p.proconfig = array['search_path=public, pg_temp']
           and not exists (select from aclexplode(p.proacl) where grantee = 0) order by 1",
    );
    let definers = names(
        admin,
        "select oid::regprocedure::text from pg_proc
         where prosecdef and pronamespace = 'public'::regnamespace order by 1",
    );
    let (trusted, definers) = (trusted.await, definers.await);
    assert_eq!(trusted, definers, "every function that runs as another is one of the finder's");
    assert_eq!(definers.len(), 4);
    let may_log_in: bool =
        sqlx::query_scalar("select rolcanlogin from pg_roles where rolname = 'floodgate_finder'")
            .fetch_one(admin)
            .await
            .unwrap();
    assert!(!may_log_in);
}
