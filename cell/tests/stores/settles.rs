//! The ledger's `settle`: every kind of move from every state, in and out of time, by this attempt or another.

use floodgate_cell::ledger::{self, BucketRef, LedgerError, Move, SettleBatch};
use proto::id::OrderId;
use proto::wire::events::ledger_entry::Kind;
use proto::wire::storefront::order::State;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use crate::stores::{Bucket, FIRST_UNIT, Stores, hold, order};

const STATES: [State; 6] =
    [State::Held, State::Paying, State::Paid, State::Expired, State::Cancelled, State::Review];
const KINDS: [Kind; 7] = [
    Kind::Expired,
    Kind::Cancelled,
    Kind::Paying,
    Kind::Declined,
    Kind::Paid,
    Kind::Review,
    Kind::Refunded,
];

/// An order that was brought into a state: one unit, one attempt behind it unless it never left HELD.
struct Subject {
    order: OrderId,
    unit: u32,
    state: State,
    attempt: u32,
    intent: String,
}

/// What the move should lead to; none when it should be refused.
fn expected(from: State, kind: Kind, overdue: bool, own: bool) -> Option<State> {
    let under_way = matches!(from, State::Paying | State::Review);
    match kind {
        Kind::Expired if overdue && (from == State::Held || under_way && own) => {
            Some(State::Expired)
        }
        Kind::Cancelled if from == State::Held => Some(State::Cancelled),
        Kind::Paying if from == State::Held && !overdue && own => Some(State::Paying),
        Kind::Declined if from == State::Paying && !overdue && own => Some(State::Held),
        Kind::Paid if under_way && own => Some(State::Paid),
        Kind::Review if from == State::Paying && own => Some(State::Review),
        Kind::Refunded if from != State::Paid || !own => Some(from),
        _ => None,
    }
}

#[tokio::test]
async fn an_order_moves_only_as_its_state_its_time_and_its_attempt_allow() {
    let stores = Stores::start().await;
    let mut bucket = stores.bucket("s01", 1_000, 1).await;
    let mut number = 0;
    for from in STATES {
        for kind in KINDS {
            for overdue in [false, true] {
                for own in [true, false] {
                    number += 1;
                    let subject = subject(&stores, &mut bucket, number, from).await;
                    if overdue {
                        set_deadline(&stores.admin, &bucket, subject.order).await;
                    }
                    let wanted = expected(from, kind, overdue, own);
                    let row = format!("{from:?} {kind:?} overdue {overdue} own {own}");
                    try_move(&stores, &mut bucket, &subject, (kind, own), wanted, &row).await;
                }
            }
        }
    }
    let (_, granted, live, paid) = stores.counts(bucket.bucket).await;
    let units: i64 =
        sqlx::query_scalar("select count(*) from unit").fetch_one(&stores.admin).await.unwrap();
    assert_eq!((granted, i64::from(live + paid)), (1_000, units), "INV-2");
    stores.ledger(bucket.bucket).await;
}

async fn try_move(
    stores: &Stores,
    bucket: &mut Bucket,
    subject: &Subject,
    (kind, own): (Kind, bool),
    wanted: Option<State>,
    row: &str,
) {
    let before = stores.counts(bucket.bucket).await;
    let attempt = match kind {
        Kind::Paying => subject.attempt + if own { 1 } else { 2 },
        _ => subject.attempt + u32::from(!own),
    };
    let intent = if own { subject.intent.clone() } else { "pi_other".to_owned() };
    let moved = settle(stores, bucket, &[step(subject, kind, attempt, Some(intent.clone()))]).await;
    let (_, _, live, paid) = stores.counts(bucket.bucket).await;
    let (state, kept_intent, units) = look(&stores.admin, subject.order).await;
    let Some(wanted) = wanted else {
        assert!(matches!(moved, Err(LedgerError::Conflict(_))), "{row}: {moved:?}");
        assert_eq!(stores.counts(bucket.bucket).await, before, "{row}");
        assert_eq!(state, subject.state, "{row}");
        return;
    };
    moved.unwrap_or_else(|error| panic!("{row}: {error}"));
    let is_live = |state| matches!(state, State::Held | State::Paying | State::Review);
    let (was, is) = (i32::from(is_live(subject.state)), i32::from(is_live(wanted)));
    assert_eq!(state, wanted, "{row}");
    assert_eq!(live - before.2, is - was, "{row}");
    let was_paid = i32::from(subject.state == State::Paid);
    assert_eq!(paid - before.3, i32::from(wanted == State::Paid) - was_paid, "{row}");
    assert_eq!(units, i64::from(is_live(wanted) || wanted == State::Paid), "{row}");
    let expected_intent = if kind == Kind::Paying { &intent } else { &subject.intent };
    assert_eq!(kept_intent.unwrap_or_default(), *expected_intent, "{row}: whose payment it is");
}

#[tokio::test]
async fn a_batch_moves_all_or_none_and_only_once() {
    let stores = Stores::start().await;
    let mut bucket = stores.bucket("s01", 10, 1).await;
    bucket.hold(&stores.pool, &[hold(1, &[0]), hold(2, &[1]), hold(3, &[2])]).await.unwrap();
    let cancel = |n: u32| Move::plain(order(n), Kind::Cancelled, vec![FIRST_UNIT + n - 1]);
    let before = stores.counts(bucket.bucket).await;
    let rows: [(&str, Vec<Move>); 7] = [
        ("an order that is not there", vec![cancel(1), cancel(4)]),
        ("an order twice", vec![cancel(1), cancel(1)]),
        ("a unit too few", vec![cancel(1), Move { units: vec![], ..cancel(2) }]),
        ("a unit too many", vec![Move { units: vec![100, 101], ..cancel(1) }]),
        ("somebody else's unit", vec![Move { units: vec![102], ..cancel(2) }]),
        (
            "units swapped",
            vec![Move { units: vec![101], ..cancel(1) }, Move { units: vec![100], ..cancel(2) }],
        ),
        ("a move of no kind", vec![Move { kind: Kind::Granted, ..cancel(1) }]),
    ];
    for (what, moves) in rows {
        let refused = settle(&stores, &mut bucket, &moves).await;
        assert!(matches!(refused, Err(LedgerError::Conflict(_))), "{what}: {refused:?}");
        assert_eq!(stores.counts(bucket.bucket).await, before, "{what}");
    }

    let moves = [cancel(1), cancel(3)];
    let at_us = settle(&stores, &mut bucket, &moves).await.unwrap();
    for _ in 0..2 {
        let again = settle_as(&stores.pool, bucket.bucket, (1, 1), &moves).await.unwrap();
        assert_eq!(again, at_us);
    }
    for of in [(0, 2), (2, 2), (1, 0), (1, 3)] {
        let refused = settle_as(&stores.pool, bucket.bucket, of, &[cancel(2)]).await;
        assert!(matches!(refused, Err(LedgerError::Stale(_))), "{of:?}: {refused:?}");
    }
    assert_eq!(stores.counts(bucket.bucket).await, (3, 10, 1, 0));
    let entries = stores.ledger(bucket.bucket).await;
    assert_eq!(entries.iter().filter(|entry| entry.kind() == Kind::Cancelled).count(), 2);
}

/// Brings order `number` into `state`.
async fn subject(stores: &Stores, bucket: &mut Bucket, number: u32, state: State) -> Subject {
    let intent = format!("pi_{number}");
    bucket.hold(&stores.pool, &[hold(number, &[number - 1])]).await.unwrap();
    let mut subject = Subject {
        order: order(number),
        unit: FIRST_UNIT + number - 1,
        state,
        attempt: 0,
        intent: String::new(),
    };
    let path: &[Kind] = match state {
        State::Held => &[],
        State::Paying => &[Kind::Paying],
        State::Paid => &[Kind::Paying, Kind::Paid],
        State::Review => &[Kind::Paying, Kind::Review],
        State::Cancelled => &[Kind::Cancelled],
        _ => &[Kind::Expired],
    };
    for &kind in path {
        if kind == Kind::Expired {
            set_deadline(&stores.admin, bucket, subject.order).await;
        }
        if kind == Kind::Paying {
            (subject.attempt, subject.intent) = (1, intent.clone());
        }
        let step = step(&subject, kind, subject.attempt, Some(intent.clone()));
        settle(stores, bucket, &[step]).await.unwrap();
    }
    if matches!(state, State::Expired) {
        // Back in time, so that a refusal is the state's doing.
        sqlx::query(r#"update "order" set deadline = now() + interval '1 hour' where id = $1"#)
            .bind(Uuid::from_bytes(subject.order.0))
            .execute(&stores.admin)
            .await
            .unwrap();
    }
    subject
}

fn step(subject: &Subject, kind: Kind, attempt: u32, intent: Option<String>) -> Move {
    let frees = matches!(kind, Kind::Expired | Kind::Cancelled);
    let units = if frees { vec![subject.unit] } else { Vec::new() };
    Move { attempt, intent, ..Move::plain(subject.order, kind, units) }
}

async fn settle(stores: &Stores, bucket: &mut Bucket, moves: &[Move]) -> Result<i64, LedgerError> {
    let of = (bucket.epoch, bucket.settle_batch + 1);
    let at_us = settle_as(&stores.pool, bucket.bucket, of, moves).await?;
    bucket.settle_batch += 1;
    Ok(at_us)
}

async fn settle_as(
    pool: &PgPool,
    bucket: BucketRef,
    (epoch, batch): (i64, i64),
    moves: &[Move],
) -> Result<i64, LedgerError> {
    SettleBatch { bucket, epoch, batch }.commit(pool, moves).await
}

async fn set_deadline(pool: &PgPool, bucket: &Bucket, order: OrderId) {
    sqlx::query(
        r#"update "order" set deadline = now() - interval '1 second' where sale = $1 and id = $2"#,
    )
    .bind(bucket.sale)
    .bind(Uuid::from_bytes(order.0))
    .execute(pool)
    .await
    .unwrap();
}

async fn look(pool: &PgPool, order: OrderId) -> (State, Option<String>, i64) {
    let row = sqlx::query(
        r#"select o.state, o.intent, (select count(*) from unit u where u.id = o.id)
           from "order" o where o.id = $1"#,
    );
    let row = row.bind(Uuid::from_bytes(order.0)).fetch_one(pool).await.unwrap();
    let state = State::try_from(i32::from(row.get::<i16, _>(0))).unwrap();
    (state, row.get(1), row.get(2))
}

#[tokio::test]
async fn the_end_of_an_earlier_attempt_does_not_touch_the_present_one() {
    let stores = Stores::start().await;
    let mut bucket = stores.bucket("s01", 10, 1).await;
    bucket.hold(&stores.pool, &[hold(1, &[0])]).await.unwrap();
    let step = |kind, attempt, intent: &str| Move {
        attempt,
        intent: Some(intent.into()),
        ..Move::plain(order(1), kind, vec![])
    };
    for done in [
        step(Kind::Paying, 1, "pi_1"),
        step(Kind::Declined, 1, "pi_1"),
        step(Kind::Paying, 2, "pi_2"),
    ] {
        settle(&stores, &mut bucket, &[done]).await.unwrap();
    }
    for late in [Kind::Declined, Kind::Paid, Kind::Review] {
        let refused = settle(&stores, &mut bucket, &[step(late, 1, "pi_1")]).await;
        assert!(matches!(refused, Err(LedgerError::Conflict(_))), "{late:?}: {refused:?}");
    }
    // A capture of the first one went back: the order is still paid for by the second.
    let is_written = async |bucket| {
        let written = ["pi_1", "pi_2", "pi_"].map(async |intent| {
            ledger::is_refund_written(&stores.pool, bucket, intent).await.unwrap()
        });
        let [first, second, part] = written;
        [first.await, second.await, part.await]
    };
    assert_eq!(is_written(bucket.bucket).await, [false; 3]);
    settle(&stores, &mut bucket, &[step(Kind::Refunded, 1, "pi_1")]).await.unwrap();
    assert_eq!(is_written(bucket.bucket).await, [true, false, false]);
    settle(&stores, &mut bucket, &[step(Kind::Paid, 2, "pi_2")]).await.unwrap();
    settle(&stores, &mut bucket, &[step(Kind::Refunded, 1, "pi_1")]).await.unwrap();
    let found = ledger::find_orders(&stores.pool, bucket.bucket, &[order(1)]).await.unwrap();
    assert_eq!(found[0].intent.as_deref(), Some("pi_2"));
    assert_eq!(found[0].state, i32::from(State::Paid));
}
