//! A move that is broken off: its giver and its receiver die before their commit, after it without knowing, and after it
//! with nobody told. Locks in Postgres and a sleeping etcd hold them where they are to die.

use proto::wire::cell::SaleRecord;
use rand::SeedableRng;
use rand::rngs::StdRng;
use sqlx::{PgPool, Row};

use crate::audit::audit;
use crate::cell::{CellUnderTest, DEADLINE, name_of, until};
use crate::moves::{buyer_of, has_written, sale_over, shop};
use crate::planner::Planner;

/// Where somebody dies.
#[derive(Clone, Copy, Debug)]
enum At {
    /// Redis has let the units go, or nothing was done yet; Postgres never hears of it.
    Before,
    /// Postgres commits after the death.
    Unknown,
    /// Postgres has committed, and etcd was not told.
    Untold,
}

/// Waits until a statement like this waits for a lock, and says which session's it is.
async fn blocked(pool: &PgPool, function: &str) -> i32 {
    until(DEADLINE, async || {
        let row = sqlx::query(
            "select pid from pg_stat_activity where wait_event_type = 'Lock' and position($1 in query) > 0",
        );
        let row = row.bind(function).fetch_optional(pool).await;
        let row = row.map_err(|error| error.to_string())?;
        row.map(|row| row.get(0)).ok_or(format!("nobody waits in {function}"))
    })
    .await
}

/// Lets the keeper of both buckets die in the middle of one part of a transfer, and comes back with it.
async fn die(cell: &CellUnderTest, sale: &SaleRecord, (transfer, accepted): (u8, bool), at: At) {
    let (_, epoch) = cell.keeper_of(sale, u32::from(accepted), 0).await;
    let mut lock = cell.pool.begin().await.unwrap();
    let mut planner = Planner::of(cell, sale).await;
    // What that part alone waits for: to write down what is given up, to look for overlaps, or to begin at all.
    let table = match (at, accepted) {
        (At::Before | At::Unknown, false) => "lock table transfer in share mode",
        (At::Before | At::Unknown, true) => "select from sale for share",
        (At::Untold, false) => "select from bucket where bucket = 0 for update",
        (At::Untold, true) => "select from bucket where bucket = 1 for update",
    };
    sqlx::query(table).execute(&mut *lock).await.unwrap();
    planner.ask(transfer, (0, Some(1)), 2).await;
    let function = if accepted { "accept_units" } else { "give_up" };
    match at {
        At::Before | At::Unknown => {
            let session = blocked(&cell.pool, function).await;
            cell.stack.kill(&name_of("p1")).await.unwrap();
            if matches!(at, At::Before) {
                let end = sqlx::query("select pg_terminate_backend($1)").bind(session);
                end.execute(&cell.pool).await.unwrap();
            }
            lock.rollback().await.unwrap();
        }
        At::Untold => {
            blocked(&cell.pool, "find_transfer").await;
            cell.stack.pause("etcd").await.unwrap();
            lock.rollback().await.unwrap();
            until(DEADLINE, async || has_written(&cell.pool, transfer, accepted).await).await;
            cell.stack.kill(&name_of("p1")).await.unwrap();
            cell.stack.resume("etcd").await.unwrap();
        }
    }
    cell.stack.restart(&name_of("p1")).await.unwrap();
    cell.keeper_of(sale, u32::from(accepted), epoch).await;
    assert_eq!(planner.end(transfer).await, 2, "{at:?} {accepted}");
}

#[tokio::test]
async fn inv_2_a_move_that_is_broken_off_anywhere_is_carried_out_once() {
    let cell = CellUnderTest::start(&["p1"]).await;
    let sale = sale_over("steps", &["cell-1", "cell-1"], 12, 1);
    let sale = SaleRecord { hold_ttl_ms: 20_000, ..sale };
    cell.decide(&sale).await;
    for bucket in 0..2 {
        cell.keeper_of(&sale, bucket, 0).await;
    }
    let mut transfer = 0;
    for accepted in [false, true] {
        for at in [At::Before, At::Unknown, At::Untold] {
            transfer += 1;
            println!("transfer {transfer}: {at:?}, accepted {accepted}");
            die(&cell, &sale, (transfer, accepted), at).await;
        }
    }
    let mut luck = StdRng::seed_from_u64(1);
    let buyers: Vec<_> = (0..sale.stock).map(|_| buyer_of(1, 2, &mut luck)).collect();
    let told = shop(&cell, &sale, buyers.into_iter()).await;
    assert_eq!(told.paid.len(), usize::try_from(sale.stock).unwrap(), "every unit is sold");
    audit(&cell, &sale, &told).await;
}
