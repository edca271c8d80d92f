//! The evidence of one trial, read out of stores that hold other trials, too.

use sqlx::{Connection, Executor, PgConnection};

use crate::judge::{self, Agreed, Bucket, CellStores, Evidence, ReadError};
use crate::told::Told;

/// A session that runs this sees, under the tables' own names, only the rows of the sale `arena.sale`.
const ONLY_ONE_SALE: &str = "do $$
    declare v_table text;
    begin
        for v_table in
            select c.table_name from information_schema.columns c
            where c.table_schema = 'public' and c.column_name in ('org', 'sale')
            group by c.table_name having count(*) = 2
        loop
            execute format(
                'create temp view %I as select * from public.%I where (org, sale) in
                 (select org, sale from public.sale where id = %L)',
                v_table, v_table, current_setting('arena.sale'));
        end loop;
    end $$";

/// What the stores say of one sale. Its payments are not read yet: the provider's file does not tell sales apart.
pub(super) async fn read(
    agreed: Agreed,
    told: Vec<Told>,
    cells: &[CellStores],
) -> Result<Evidence, ReadError> {
    let sale = agreed.sale.clone();
    let mut evidence = Evidence { sales: vec![agreed], told, ..Evidence::default() };
    for stores in cells {
        evidence.buckets.extend(buckets(&sale, stores).await?);
    }
    Ok(evidence)
}

/// Does something to what a cell's Postgres says of a sale.
pub(super) async fn damage(
    sale: &str,
    stores: &CellStores,
    damage: &'static str,
) -> Result<(), ReadError> {
    let failed = |source| ReadError::Postgres { cell: stores.cell.clone(), source };
    let mut session = open(sale, stores).await.map_err(failed)?;
    session.execute(damage).await.map_err(failed)?;
    session.close().await.map_err(failed)
}

async fn buckets(sale: &str, stores: &CellStores) -> Result<Vec<Bucket>, ReadError> {
    let failed = |source| ReadError::Postgres { cell: stores.cell.clone(), source };
    let mut session = open(sale, stores).await.map_err(failed)?;
    session.execute(ONLY_ONE_SALE).await.map_err(failed)?;
    let buckets = judge::read_whole(&stores.cell, &mut session, &stores.redis_url).await?;
    session.close().await.map_err(failed)?;
    Ok(buckets)
}

/// A superuser's session for which `arena.sale` is the sale.
async fn open(sale: &str, stores: &CellStores) -> Result<PgConnection, sqlx::Error> {
    let mut session = PgConnection::connect(&stores.postgres_url).await?;
    let choose = sqlx::query("select set_config('arena.sale', $1, false)").bind(sale);
    choose.execute(&mut session).await?;
    Ok(session)
}
