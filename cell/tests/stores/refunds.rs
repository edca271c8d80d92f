//! The ledger's functions about refunds: what each does to an order in each state, that repeating one is safe, and that no
//! bucket comes to rest over a refund that is under way.

use floodgate_cell::ledger::{self, BucketRef, LedgerError, Move, Refund, SettleBatch};
use proto::wire::cell::{SaleRecord, sale_record};
use proto::wire::events::ledger_entry::Kind;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use crate::stores::{Bucket, FIRST_UNIT, Stores, hold, order};

const INTENT: &str = "pi_1";

fn refund(intent: &str) -> Refund {
    Refund {
        order: order(1),
        intent: intent.into(),
        amount_minor: 1_999,
        currency: "EUR".into(),
        units: vec![FIRST_UNIT],
    }
}

async fn settle(pool: &PgPool, bucket: &mut Bucket, kind: Kind) {
    let step =
        Move { attempt: 1, intent: Some(INTENT.into()), ..Move::plain(order(1), kind, vec![]) };
    bucket.settle_batch += 1;
    let batch =
        SettleBatch { bucket: bucket.bucket, epoch: bucket.epoch, batch: bucket.settle_batch };
    batch.commit(pool, &[step]).await.unwrap();
}

/// The order's state, whether its refund is under way, and how often it was refused.
async fn look(stores: &Stores) -> (i16, bool, i32) {
    let row = sqlx::query(r#"select state, refunding, refusals from "order" where id = $1"#);
    let row = row.bind(Uuid::from_bytes(order(1).0)).fetch_one(&stores.admin).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

async fn kinds(stores: &Stores, bucket: BucketRef) -> Vec<Kind> {
    let about = [Kind::Refunding, Kind::RefundRefused, Kind::Refunded];
    let kinds = stores.ledger(bucket).await.into_iter().map(|entry| entry.kind());
    kinds.filter(|kind| about.contains(kind)).collect()
}

#[tokio::test]
async fn a_refund_ends_once_by_being_made_or_refused() {
    let stores = Stores::start().await;
    let mut bucket = stores.bucket("s01", 10, 1).await;
    let (of, epoch, pool) = (bucket.bucket, bucket.epoch, &stores.pool);
    let conflicts = |done: Result<(), LedgerError>| matches!(done, Err(LedgerError::Conflict(_)));
    bucket.hold(pool, &[hold(1, &[0])]).await.unwrap();
    assert!(conflicts(refund(INTENT).begin(pool, of, epoch).await.map(|_| ())), "HELD");
    settle(pool, &mut bucket, Kind::Paying).await;
    assert!(conflicts(refund(INTENT).begin(pool, of, epoch).await.map(|_| ())), "PAYING");
    settle(pool, &mut bucket, Kind::Paid).await;
    assert!(conflicts(refund("pi_2").begin(pool, of, epoch).await.map(|_| ())), "another's");
    assert!(conflicts(refund(INTENT).end(pool, of, epoch).await), "not begun");
    refund(INTENT).refuse(pool, of, epoch, 0).await.unwrap();
    assert_eq!(look(&stores).await, (3, false, 0), "there is none to refuse");

    for times in 0..2 {
        for _ in 0..2 {
            assert_eq!(refund(INTENT).begin(pool, of, epoch).await.unwrap(), times);
        }
        assert_eq!(look(&stores).await, (3, true, times));
        // What comes late from the refund before ends that one alone.
        refund(INTENT).refuse(pool, of, epoch, times - 1).await.unwrap();
        assert_eq!(look(&stores).await, (3, true, times));
        let stale = refund(INTENT).refuse(pool, of, epoch - 1, times).await;
        assert!(matches!(stale, Err(LedgerError::Stale(_))), "{stale:?}");
        for _ in 0..2 {
            refund(INTENT).refuse(pool, of, epoch, times).await.unwrap();
        }
        assert_eq!(look(&stores).await, (3, false, times + 1));
        assert!(conflicts(refund(INTENT).end(pool, of, epoch).await), "it was refused");
    }
    assert_eq!(stores.counts(of).await.3, 1, "it is paid for");
    assert_eq!(refund(INTENT).begin(pool, of, epoch).await.unwrap(), 2);
    for _ in 0..2 {
        refund(INTENT).end(pool, of, epoch).await.unwrap();
    }
    refund(INTENT).refuse(pool, of, epoch, 2).await.unwrap();
    assert_eq!(look(&stores).await, (7, false, 2), "what was made is made");
    assert_eq!(stores.counts(of).await.3, 0);
    let twice = [Kind::Refunding, Kind::RefundRefused];
    let written = [&twice[..], &twice[..], &[Kind::Refunding, Kind::Refunded]].concat();
    assert_eq!(kinds(&stores, of).await, written);
}

#[tokio::test]
async fn a_bucket_does_not_rest_while_a_refund_is_under_way() {
    let stores = Stores::start().await;
    let mut bucket = stores.bucket("s01", 10, 1).await;
    let (of, epoch, pool) = (bucket.bucket, bucket.epoch, &stores.pool);
    bucket.hold(pool, &[hold(1, &[0])]).await.unwrap();
    settle(pool, &mut bucket, Kind::Paying).await;
    settle(pool, &mut bucket, Kind::Paid).await;
    let state = sale_record::State::Cancelled.into();
    let over = SaleRecord { state, update_ms: 9, ..bucket.record.clone() };
    ledger::set_sale(pool, of, &over).await.unwrap();
    let rests = async || ledger::rest(pool, of, epoch).await.unwrap();
    refund(INTENT).begin(pool, of, epoch).await.unwrap();
    assert!(!rests().await, "its unit may yet be free");
    refund(INTENT).refuse(pool, of, epoch, 0).await.unwrap();
    assert!(rests().await && rests().await);
    // Then the count is frozen, and a refund of which money moves only keeps nobody awake.
    assert_eq!(refund(INTENT).begin(pool, of, epoch).await.unwrap(), 1);
    assert!(rests().await);
    Refund { units: Vec::new(), ..refund(INTENT) }.end(pool, of, epoch).await.unwrap();
    let rested = ledger::rested(pool, of).await.unwrap().unwrap();
    assert_eq!((rested.granted, rested.paid), (10, 1));
}
