//! The ledger's other transitions: shares are accepted once, epochs and gates only rise, rest is final.

use std::collections::BTreeSet;
use std::time::Duration;

use floodgate_cell::ledger::{self, Beat, GateRow, LedgerError, Move, SettleBatch, Share};
use proto::wire::cell::{SaleRecord, sale_record::State};
use proto::wire::events::ledger_entry::Kind;
use sqlx::Row;
use uuid::Uuid;

use crate::stores::{FIRST_UNIT, KEEPER, Stores, hold, order, record};

#[tokio::test]
async fn a_share_is_accepted_once_by_however_many() {
    let stores = Stores::start().await;
    let record = record("s01", 10, 2);
    let share = Share { first_unit: FIRST_UNIT, units: 10 };
    let accepts = (0..6).map(|_| ledger::accept(&stores.pool, &record, 3, share));
    let aliases = futures_util::future::try_join_all(accepts).await.unwrap();
    assert!(aliases.iter().all(|one| *one == aliases[0]), "{aliases:?}");
    let other = Share { first_unit: 0, units: 50 };
    assert_eq!(ledger::accept(&stores.pool, &record, 3, other).await.unwrap(), aliases[0]);

    let bucket = ledger::BucketRef { org: aliases[0].org, sale: aliases[0].sale, bucket: 3 };
    assert_eq!(stores.counts(bucket).await, (1, 10, 0, 0));
    let entries = stores.ledger(bucket).await;
    assert_eq!((entries[0].kind(), &entries[0].units[..]), (Kind::Granted, &[100, 109][..]));

    // Its record is not there yet, so it is closed; a second bucket of the sale shares its aliases.
    let taken = ledger::take_over(&stores.pool, bucket, 0, KEEPER).await.unwrap();
    assert_eq!(taken, Some(1));
    let beside = Share { first_unit: 500, units: 5 };
    assert_eq!(ledger::accept(&stores.pool, &record, 4, beside).await.unwrap(), aliases[0]);
}

#[tokio::test]
async fn an_older_record_of_a_sale_changes_nothing() {
    let stores = Stores::start().await;
    let bucket = stores.bucket("s01", 10, 2).await;
    let set = async |update_ms: u64, paused: bool, revision: u32, price_minor: i64| {
        let record =
            SaleRecord { update_ms, paused, revision, price_minor, ..bucket.record.clone() };
        ledger::set_sale(&stores.pool, bucket.bucket, &record).await.unwrap();
        let row = sqlx::query("select stopped, update_ms from sale where sale = $1");
        let row = row.bind(bucket.sale).fetch_one(&stores.admin).await.unwrap();
        (row.get::<bool, _>(0), row.get::<i64, _>(1))
    };
    assert_eq!(set(20, true, 1, 1_999).await, (true, 20));
    assert_eq!(set(10, false, 1, 1_999).await, (true, 20), "older");
    assert_eq!(set(20, false, 1, 1_999).await, (true, 20), "the same");
    assert_eq!(set(30, false, 2, 5).await, (false, 30));
    assert_eq!(set(30, false, 1, 7).await, (false, 30));
    let prices: Vec<i64> =
        sqlx::query_scalar("select price_minor from terms where sale = $1 order by revision")
            .bind(bucket.sale)
            .fetch_all(&stores.admin)
            .await
            .unwrap();
    assert_eq!(prices, [1_999, 5], "a revision's terms stand");
}

#[tokio::test]
async fn of_many_who_take_over_one_does_and_deposes_the_others() {
    let stores = Stores::start().await;
    let bucket = stores.bucket("s01", 10, 2).await;
    let names: Vec<String> = (0..6).map(|n| format!("p{n}")).collect();
    let takes = names.iter().map(|name| ledger::take_over(&stores.pool, bucket.bucket, 1, name));
    let taken = futures_util::future::try_join_all(takes).await.unwrap();
    assert_eq!(taken.iter().flatten().collect::<Vec<_>>(), [&2], "{taken:?}");
    let winner = &names[taken.iter().position(Option::is_some).unwrap()];

    let keeper = ledger::keeper_of(&stores.pool, bucket.bucket).await.unwrap();
    assert_eq!(keeper, Some((winner.clone(), 2)));
    let candidates = ledger::candidates(&stores.pool, 10).await.unwrap();
    assert_eq!((candidates[0].epoch, candidates[0].keeper.as_deref()), (2, Some(winner.as_str())));
    let refused = ledger::load(&stores.pool, bucket.bucket, 1).await;
    assert!(matches!(refused, Err(LedgerError::Stale(_))), "{refused:?}");
    let gate = GateRow { ranks: 1, tail: 0, cursor: 0, gate_us: 0 };
    for refused in [
        ledger::set_gate(&stores.pool, bucket.bucket, 1, gate).await,
        ledger::rest(&stores.pool, bucket.bucket, 1).await.map(drop),
        bucket.hold_as(&stores.pool, (1, 1), &[hold(1, &[0])]).await.map(drop),
        SettleBatch { bucket: bucket.bucket, epoch: 1, batch: 1 }
            .commit(&stores.pool, &[Move::plain(order(1), Kind::Cancelled, vec![])])
            .await
            .map(drop),
    ] {
        assert!(matches!(refused, Err(LedgerError::Stale(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_take_over_waits_for_the_commit_under_way_and_reads_it() {
    let stores = Stores::start().await;
    let bucket = stores.bucket("s01", 10, 2).await;
    let mut under_way = stores.pool.begin().await.unwrap();
    sqlx::query(
        "select hold($1, $2, 0, 1, 1, 1, array[$3], array[$4], array[1::smallint], array[7::bigint],
                     array[$3], array[$4], array[100], array[0::smallint], '', '')",
    )
    .bind(bucket.org)
    .bind(bucket.sale)
    .bind(Uuid::from_bytes(order(1).0))
    .bind(Uuid::from_bytes(crate::stores::buyer(1).0))
    .execute(&mut *under_way)
    .await
    .unwrap();
    let (pool, of) = (stores.pool.clone(), bucket.bucket);
    let mut taking = tokio::spawn(async move { ledger::take_over(&pool, of, 1, "p2").await });
    let waits = tokio::time::timeout(Duration::from_millis(200), &mut taking).await;
    assert!(waits.is_err(), "it took the bucket from under a commit");
    under_way.commit().await.unwrap();
    assert_eq!(taking.await.unwrap().unwrap(), Some(2));
    let loaded = ledger::load(&stores.pool, bucket.bucket, 2).await.unwrap();
    let spent: Vec<u64> = loaded.spent.iter().map(|ticket| ticket.rank).collect();
    assert_eq!((loaded.hold_batch, loaded.holders.len(), &spent[..]), (1, 1, &[7][..]));
}

#[tokio::test]
async fn a_gate_only_rises() {
    let stores = Stores::start().await;
    let bucket = stores.bucket("s01", 10, 2).await;
    let gate = |ranks, tail, cursor, gate_us| GateRow { ranks, tail, cursor, gate_us };
    let rows = [
        (gate(512, 0, 0, 0), (512, 0, 0, 0)),
        (gate(20, 5, 20, 900), (512, 5, 20, 900)),
        (gate(0, 0, 0, 0), (512, 5, 20, 900)),
        (gate(600, 4, 30, 800), (600, 5, 30, 900)),
    ];
    for (set, expected) in rows {
        ledger::set_gate(&stores.pool, bucket.bucket, 1, set).await.unwrap();
        let now = ledger::load(&stores.pool, bucket.bucket, 1).await.unwrap();
        assert_eq!((now.ranks, now.tail, now.cursor, now.gate_us), expected);
    }
    for bad in [gate(0, 0, 601, 0), gate(0, 31, 30, 0)] {
        let refused = ledger::set_gate(&stores.pool, bucket.bucket, 1, bad).await;
        assert!(matches!(refused, Err(LedgerError::Refused(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_bucket_rests_when_its_sale_is_over_and_nothing_is_live() {
    let stores = Stores::start().await;
    for (sale, over) in [
        ("s01", SaleRecord { end_ms: 2_000, ..record("s01", 10, 2) }),
        ("s02", SaleRecord { state: State::Cancelled.into(), ..record("s02", 10, 2) }),
    ] {
        let mut bucket = stores.bucket(sale, 10, 2).await;
        bucket.hold(&stores.pool, &[hold(1, &[0])]).await.unwrap();
        let rest = async || ledger::rest(&stores.pool, bucket.bucket, 1).await.unwrap();
        assert!(!rest().await, "the sale goes on");
        let over = SaleRecord { update_ms: 2, ..over };
        ledger::set_sale(&stores.pool, bucket.bucket, &over).await.unwrap();
        assert!(!rest().await, "an order is live");
        let cancel = Move::plain(order(1), Kind::Cancelled, vec![FIRST_UNIT]);
        let batch = SettleBatch { bucket: bucket.bucket, epoch: 1, batch: 1 };
        batch.commit(&stores.pool, &[cancel]).await.unwrap();
        assert!(rest().await && rest().await);
        assert_eq!(ledger::take_over(&stores.pool, bucket.bucket, 1, "p2").await.unwrap(), None);
    }
    assert!(ledger::candidates(&stores.pool, 10).await.unwrap().is_empty());
}

fn sign<'a>(process: &'a str, incarnation: u128, is_first: bool, fresh: Duration) -> Beat<'a> {
    Beat { process, incarnation: Uuid::from_u128(incarnation), is_first, fresh }
}

#[tokio::test]
async fn processes_are_seen_while_they_give_signs_of_life() {
    let stores = Stores::start().await;
    let beat = async |process: &str, fresh: Duration| {
        let life = ledger::beat(&stores.pool, sign(process, 1, true, fresh)).await.unwrap();
        assert!(life.now_us > 1_700_000_000_000_000);
        assert!(!life.replaced);
        life.living.into_iter().collect::<BTreeSet<_>>()
    };
    let long = Duration::from_secs(60);
    assert_eq!(beat("p1", long).await, ["p1".to_owned()].into());
    assert_eq!(beat("p2", long).await, ["p1".to_owned(), "p2".to_owned()].into());
    assert_eq!(beat("p1", long).await.len(), 2);
    assert_eq!(beat("p1", Duration::ZERO).await, ["p1".to_owned()].into(), "itself at least");
    ledger::leave(&stores.pool, "p2", Uuid::from_u128(1)).await.unwrap();
    assert_eq!(beat("p1", long).await, ["p1".to_owned()].into(), "who leaves is not waited for");
}

#[tokio::test]
async fn a_name_belongs_to_whoever_started_under_it_last() {
    let stores = Stores::start().await;
    let (long, long_ago) = (Duration::from_secs(60), Duration::ZERO);
    let replaced = async |incarnation: u128, is_first: bool, fresh: Duration| {
        let beat = sign("p1", incarnation, is_first, fresh);
        ledger::beat(&stores.pool, beat).await.unwrap().replaced
    };
    assert!(!replaced(1, true, long).await);
    assert!(!replaced(1, false, long).await, "its own sign of life");
    assert!(!replaced(2, true, long).await, "a start takes the name");
    assert!(replaced(1, false, long).await, "the one before finds out");
    assert!(!replaced(2, false, long).await, "and has not touched the sign of life");
    ledger::leave(&stores.pool, "p1", Uuid::from_u128(1)).await.unwrap();
    assert!(replaced(1, false, long).await, "nor has it taken it back");
    assert!(!replaced(1, false, long_ago).await, "the other one has died since");
    assert!(replaced(2, false, long).await);
    ledger::leave(&stores.pool, "p1", Uuid::from_u128(1)).await.unwrap();
    assert!(!replaced(2, false, long).await, "nobody has the name");
}
