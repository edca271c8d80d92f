//! The ledger's `hold`: what it records, what it refuses, and what a repetition does.

use floodgate_cell::ledger::{self, Hold, LedgerError};
use proto::wire::cell::{SaleRecord, sale_record::State};
use proto::wire::events::ledger_entry::Kind;

use crate::stores::{Stores, buyer, hold, order};

#[tokio::test]
async fn a_batch_is_recorded_once_however_often_it_is_sent() {
    let stores = Stores::start().await;
    let mut bucket = stores.bucket("s01", 10, 2).await;
    let holds = [hold(1, &[0]), hold(2, &[1, 2])];
    let at_us = bucket.hold(&stores.pool, &holds).await.unwrap();

    for _ in 0..3 {
        let again = bucket.hold_as(&stores.pool, (1, 1), &holds).await.unwrap();
        assert_eq!(again, at_us, "the same answer");
    }
    assert_eq!(stores.counts(bucket.bucket).await, (2, 10, 3, 0));
    let entries = stores.ledger(bucket.bucket).await;
    let kinds: Vec<_> = entries.iter().map(|entry| entry.kind()).collect();
    assert_eq!(kinds, [Kind::Granted, Kind::Held, Kind::Held]);
    assert_eq!(entries[2].units, [101, 102]);
    assert_eq!(entries[2].buyer, buyer(2).0);

    let found = ledger::find_orders(&stores.pool, bucket.bucket, &[order(2), order(3)]).await;
    let found = found.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].order, found[0].state, &found[0].units[..]),
        (order(2), 1, &[101, 102][..])
    );
    assert_eq!(found[0].amount_minor, 2 * 1_999);
    let elsewhere = ledger::BucketRef { bucket: 1, ..bucket.bucket };
    assert!(ledger::find_orders(&stores.pool, elsewhere, &[order(2)]).await.unwrap().is_empty());
}

#[tokio::test]
async fn other_epochs_and_numbers_are_refused() {
    let stores = Stores::start().await;
    let mut bucket = stores.bucket("s01", 10, 2).await;
    bucket.hold(&stores.pool, &[hold(1, &[0])]).await.unwrap();
    let before = stores.counts(bucket.bucket).await;
    for of in [(0, 2), (2, 2), (1, 0), (1, 3), (1, -1)] {
        let refused = bucket.hold_as(&stores.pool, of, &[hold(2, &[1])]).await;
        assert!(matches!(refused, Err(LedgerError::Stale(_))), "{of:?}: {refused:?}");
    }
    assert_eq!(stores.counts(bucket.bucket).await, before);
}

#[tokio::test]
async fn one_bad_hold_refuses_its_batch_and_nothing_of_it_stays() {
    let stores = Stores::start().await;
    let mut bucket = stores.bucket("s01", 10, 2).await;
    bucket.hold(&stores.pool, &[hold(1, &[0])]).await.unwrap();
    let rows: [(&str, Hold, &str); 8] = [
        ("a unit that an order has", hold(2, &[0]), "unit_once"),
        ("a unit twice", hold(2, &[1, 1]), "unit_once"),
        ("more than the cap", hold(2, &[1, 2, 3]), "unit_slot"),
        ("slots that begin too high", Hold { first_slot: 2, ..hold(2, &[1]) }, "unit_slot"),
        ("a slot that the buyer uses", Hold { buyer: buyer(1), ..hold(2, &[1]) }, "unit_slot"),
        ("a spent ticket", Hold { ticket: 1, ..hold(2, &[1]) }, "order_ticket"),
        ("an order that is there", Hold { ticket: 9, ..hold(1, &[1]) }, "order_pkey"),
        ("a unit of the batch", hold(2, &[9]), "unit_once"),
    ];
    let before = stores.counts(bucket.bucket).await;
    for (what, bad, constraint) in rows {
        let refused = bucket.hold(&stores.pool, &[hold(3, &[9]), bad]).await;
        let Err(LedgerError::Taken(said)) = refused else { panic!("{what}: {refused:?}") };
        assert_eq!(said, constraint, "{what}");
        assert_eq!(stores.counts(bucket.bucket).await, before, "{what}");
    }
    bucket.hold(&stores.pool, &[hold(3, &[9])]).await.unwrap();
    assert_eq!(stores.ledger(bucket.bucket).await.len(), 3);
}

#[tokio::test]
async fn only_a_sale_that_sells_holds() {
    let stores = Stores::start().await;
    let bucket = stores.bucket("s01", 10, 2).await;
    let sells = bucket.record.clone();
    let far = sells.end_ms - 1;
    let rows: [(&str, SaleRecord, bool); 8] = [
        ("open", sells.clone(), true),
        ("before its start", SaleRecord { start_ms: far, ..sells.clone() }, false),
        ("after its end", SaleRecord { end_ms: 2_000, ..sells.clone() }, false),
        ("paused", SaleRecord { paused: true, ..sells.clone() }, false),
        ("not warm", SaleRecord { state: State::Warming.into(), ..sells.clone() }, false),
        ("called off", SaleRecord { state: State::Cancelled.into(), ..sells.clone() }, false),
        ("settled", SaleRecord { state: State::Settled.into(), ..sells.clone() }, false),
        ("open again", sells.clone(), true),
    ];
    let mut batch = 0;
    for (number, (what, record, holds)) in (2_u32..).zip(rows) {
        let record = SaleRecord { update_ms: number.into(), ..record };
        ledger::set_sale(&stores.pool, bucket.bucket, &record).await.unwrap();
        let held = bucket.hold_as(&stores.pool, (1, batch + 1), &[hold(number, &[number])]).await;
        match held {
            Ok(_) => assert!(holds, "{what}"),
            Err(LedgerError::NotSelling) => assert!(!holds, "{what}"),
            Err(error) => panic!("{what}: {error}"),
        }
        batch += i64::from(holds);
    }
    assert_eq!(stores.counts(bucket.bucket).await, (3, 10, 2, 0));
}

#[tokio::test]
async fn a_batch_whose_server_dies_is_sent_again_and_recorded_once() {
    let stores = Stores::start().await;
    let mut bucket = stores.bucket("s01", 200, 2).await;
    for round in 0..2_u32 {
        let first = 1 + round * 100;
        let holds: Vec<Hold> = (first..first + 100).map(|n| hold(n, &[n - 1])).collect();
        let (unsure, ()) =
            tokio::join!(bucket.hold_as(&stores.pool, (1, bucket.hold_batch + 1), &holds), async {
                // Somewhere in the middle, another place each time.
                for _ in 0..round * 40 {
                    tokio::task::yield_now().await;
                }
                stores.stack.kill("cell-1/postgres").await.unwrap();
            });
        if let Err(error) = &unsure {
            assert!(matches!(error, LedgerError::Unknown(_)), "{error}");
        }
        stores.stack.restart("cell-1/postgres").await.unwrap();
        let again = loop {
            match bucket.hold(&stores.pool, &holds).await {
                // The pool's other connections died as well.
                Err(LedgerError::Unknown(_)) => {}
                settled => break settled.unwrap(),
            }
        };
        if let Ok(at_us) = unsure {
            assert_eq!(again, at_us, "what was answered was committed");
        }
        let live = i32::try_from(first + 99).unwrap();
        assert_eq!(stores.counts(bucket.bucket).await, (2 + i64::from(round), 200, live, 0));
    }
    let held: Vec<u32> =
        stores.ledger(bucket.bucket).await.iter().skip(1).map(|entry| entry.units[0]).collect();
    assert_eq!(held, (100..300).collect::<Vec<_>>());
}

#[tokio::test]
async fn deadlines_count_from_the_time_that_is_answered_and_by_the_order_s_revision() {
    let stores = Stores::start().await;
    let mut bucket = stores.bucket("s01", 10, 2).await;
    let at_us = bucket.hold(&stores.pool, &[hold(1, &[0])]).await.unwrap();
    let dearer = SaleRecord {
        revision: 2,
        price_minor: 5,
        hold_ttl_ms: 1_000,
        update_ms: 2,
        ..bucket.record.clone()
    };
    ledger::set_sale(&stores.pool, bucket.bucket, &dearer).await.unwrap();
    bucket.record = dearer;
    let later_us = bucket.hold(&stores.pool, &[hold(2, &[1, 2])]).await.unwrap();
    assert!(later_us > at_us);

    let loaded = ledger::load(&stores.pool, bucket.bucket, 1).await.unwrap();
    let mut holders = loaded.holders;
    holders.sort_by_key(|holder| holder.order);
    assert_eq!(holders[0].deadline_us, at_us + 600_000_000);
    assert_eq!((holders[0].revision, holders[0].amount_minor), (1, 1_999));
    assert_eq!(holders[1].deadline_us, later_us + 1_000_000);
    assert_eq!((holders[1].revision, holders[1].amount_minor), (2, 10));
}
