//! Holds that end together, and a Postgres that sleeps or is gone: units return once, and nobody waits in vain.

use std::sync::Mutex;

use futures_util::{StreamExt, stream};
use proto::fault::Reason;
use proto::id::BuyerKey;
use proto::wire::cell::answer::Kind as Answer;
use proto::wire::cell::call::Kind as Asked;
use proto::wire::cell::{Call, Join, Order, SaleRecord};
use proto::wire::storefront::order::State;
use sqlx::Row;

use crate::audit::audit;
use crate::cell::{CellUnderTest, DEADLINE, GOOD_CARD, No, StateOf, id_of, name_of, until};
use crate::line::Line;
use crate::short_sale;
use crate::storm::Told;

/// Holds that end in the same second, and those among all that do not.
const HOLDS: u32 = 2_000;
const SPARED: usize = 40;
/// Buyers who ask at the same time.
const AT_ONCE: usize = 64;

fn buyer(number: u32) -> BuyerKey {
    let mut key = [7; 16];
    key[..4].copy_from_slice(&number.to_be_bytes());
    BuyerKey(key)
}

#[tokio::test]
async fn inv_3_holds_that_end_in_the_same_second_return_once() {
    let cell = CellUnderTest::start(&["p1"]).await;
    let sale =
        SaleRecord { hold_ttl_ms: 600_000, keeping_ms: 600_000, ..short_sale("mass", HOLDS, 1) };
    cell.open(&sale).await;
    let held: Vec<(BuyerKey, Order)> = stream::iter(0..HOLDS)
        .map(async |number| (buyer(number), cell.held("mass", buyer(number), (1, [1; 16])).await))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut told = Told::default();
    for (buyer, order) in &held {
        told.hold(*buyer, order);
    }
    let (spared, doomed) = held.split_at(SPARED);

    // The next keeper finds them about to end together.
    let (_, epoch) = cell.keeper_after(&sale, 0).await;
    cell.stack.stop(&name_of("p1")).await.unwrap();
    let doomed: Vec<_> =
        doomed.iter().map(|(_, order)| uuid::Uuid::from_bytes(id_of(order).0)).collect();
    sqlx::query(
        r#"update "order" set deadline = clock_timestamp() + (id_number % 1000 + 2000) * interval '1 ms'
           from unnest($1) with ordinality as ended (id, id_number) where "order".id = ended.id"#,
    )
    .bind(&doomed)
    .execute(&cell.pool)
    .await
    .unwrap();
    cell.stack.restart(&name_of("p1")).await.unwrap();
    cell.keeper_after(&sale, epoch).await;

    // Others pay and give back while units return by the hundred.
    let told = Mutex::new(told);
    let (paying, leaving) = spared.split_at(SPARED / 2);
    let pay = stream::iter(paying).for_each_concurrent(None, async |(buyer, order)| {
        let paid = until(DEADLINE, async || {
            match cell.pay("mass", *buyer, id_of(order), GOOD_CARD).await {
                Ok(paid) if paid.state() == State::Paid => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        paid.await;
        told.lock().unwrap().paid.push(id_of(order));
    });
    let leave = stream::iter(leaving).for_each_concurrent(None, async |(buyer, order)| {
        let left = until(DEADLINE, async || {
            cell.cancel("mass", *buyer, id_of(order)).await.map_err(|no| format!("{no:?}"))
        });
        left.await;
        told.lock().unwrap().cancelled.push(id_of(order));
    });
    tokio::join!(pay, leave);
    audit(&cell, &sale, &told.into_inner().unwrap()).await;

    // In time by Postgres' clock at the earliest, which the ledger cannot be talked out of.
    let early: i64 = sqlx::query_scalar(
        r#"select count(*) from "order" where state = 4 and deadline > clock_timestamp()"#,
    )
    .fetch_one(&cell.pool)
    .await
    .unwrap();
    assert_eq!(early, 0, "no hold ended before its time");
    let rows = sqlx::query("select state, count(*) from \"order\" group by state order by state");
    let rows = rows.fetch_all(&cell.pool).await.unwrap();
    let counts: Vec<(i16, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let half = i64::try_from(SPARED / 2).unwrap();
    assert_eq!(counts, [(3, half), (4, i64::from(HOLDS) - 2 * half), (5, half)]);
    // What returned is sold again.
    cell.held("mass", buyer(HOLDS), (1, [2; 16])).await;
}

#[tokio::test]
async fn while_postgres_sleeps_holds_are_refused_and_display_goes_on() {
    let cell = CellUnderTest::start(&["p1"]).await;
    let sale =
        SaleRecord { hold_ttl_ms: 600_000, keeping_ms: 600_000, ..short_sale("calm", 100, 2) };
    cell.open(&sale).await;
    let ada = BuyerKey([1; 16]);
    let held = cell.held("calm", ada, (2, [1; 16])).await;
    let (ada_ticket, _) = cell.join("calm", ada).await.unwrap();
    let mut tickets = Vec::new();
    for number in 0..20 {
        let (ticket, rank) = cell.join("calm", buyer(number)).await.unwrap();
        tickets.push((buyer(number), ticket, rank));
    }
    let line = Line::to(&cell.stack.endpoint(&name_of("p1")).unwrap().url);
    let last = tickets.last().unwrap().2;
    until(DEADLINE, async || match line.state("calm") {
        Some(state) if state.cursor > last => Ok(()),
        other => Err(format!("not all are admitted: {other:?}")),
    })
    .await;

    cell.stack.pause("cell-1/postgres").await.unwrap();
    let reserve = async |(buyer, ticket, _): &(BuyerKey, String, u64)| {
        cell.reserve("calm", *buyer, ticket, (1, [2; 16])).await
    };
    // Whoever comes first is in a batch that nobody knows the end of; those behind it need not wait for that.
    let (first, others) = tickets.split_first().unwrap();
    let refused = async {
        until(DEADLINE, async || match reserve(&others[0]).await {
            Err(No::Refused(Reason::Overloaded)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        for other in others {
            assert_eq!(reserve(other).await, Err(No::Refused(Reason::Overloaded)));
        }
        // What needs no commit goes on: an order is shown, a request is repeated, a place is given and told.
        let shown = cell.show("calm", ada, id_of(&held)).await.unwrap();
        assert_eq!((shown.state(), &shown.units), (State::Held, &held.units));
        let again = cell.reserve("calm", ada, &ada_ticket, (2, [1; 16])).await.unwrap();
        assert_eq!(again.order, held.order);
        let (_, rank) = cell.join("calm", BuyerKey([9; 16])).await.unwrap();
        until(DEADLINE, async || match line.state("calm") {
            Some(state) if state.joined > rank => Ok(()),
            other => Err(format!("its place is not told: {other:?}")),
        })
        .await;
    };
    let (told, ()) = tokio::join!(reserve(first), refused);
    assert!(matches!(told, Err(No::Lost | No::Refused(Reason::Overloaded))), "{told:?}");
    cell.stack.resume("cell-1/postgres").await.unwrap();

    let mut told = Told::default();
    told.hold(ada, &held);
    for one in &tickets {
        let order = until(DEADLINE, async || reserve(one).await.map_err(|no| format!("{no:?}")));
        told.hold(one.0, &order.await);
    }
    let owners: Vec<_> = told.held.iter().map(|(order, held)| (held.buyer, *order)).collect();
    for (buyer, order) in owners {
        until(DEADLINE, async || {
            cell.cancel("calm", buyer, order).await.map_err(|no| format!("{no:?}"))
        })
        .await;
        told.cancelled.push(order);
    }
    audit(&cell, &sale, &told).await;
}

#[tokio::test]
async fn a_bucket_without_a_keeper_says_when_to_ask_again() {
    let cell = CellUnderTest::start(&["p1"]).await;
    let sale = short_sale("calm", 10, 2);
    cell.open(&sale).await;
    let line = Line::to(&cell.stack.endpoint(&name_of("p1")).unwrap().url);
    let join = async || {
        let call = Call {
            time_left_ms: 20_000,
            sale: "calm".into(),
            buyer: vec![3; 16].into(),
            kind: Some(Asked::Join(Join {})),
            ..Call::default()
        };
        line.call(call).await
    };
    cell.stack.kill("cell-1/redis").await.unwrap();
    // The longer it lasts, the later one is to ask again, and never later than in a second.
    let mut before_ms = 0;
    until(DEADLINE, async || match join().await {
        Some(Answer::Refusal(refusal)) => {
            assert_eq!(Reason::from_number(refusal.reason), Some(Reason::BucketMoving));
            assert!(refusal.retry_after_ms <= 1_000, "{refusal:?}");
            before_ms = before_ms.max(refusal.retry_after_ms);
            if before_ms == 1_000 { Ok(()) } else { Err(format!("{before_ms} ms")) }
        }
        other => Err(format!("{other:?}")),
    })
    .await;
    cell.stack.restart("cell-1/redis").await.unwrap();
    until(DEADLINE, async || match join().await {
        Some(Answer::Place(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}
