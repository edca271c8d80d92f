//! Moves of units in Postgres: given up once, accepted once, by nobody else, and never copied.

use std::collections::{BTreeMap, BTreeSet};

use floodgate_cell::ledger::{self, BucketRef, LedgerError, Share, TransferSide};
use floodgate_cell::transfer::{TransferId, ranges};
use proto::wire::cell::{SaleRecord, sale_record::State};
use proto::wire::events::{LedgerEntry, ledger_entry::Kind};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::Row;

use crate::stores::{Bucket, FIRST_UNIT, KEEPER, Stores, hold};

fn share(first_unit: u32, units: u32) -> Share {
    Share { first_unit, units }
}

fn id(n: u8) -> TransferId {
    TransferId([n; 16])
}

fn side(bucket: &Bucket, transfer: TransferId, peer: Option<u32>) -> TransferSide {
    TransferSide { bucket: bucket.bucket, epoch: bucket.epoch, transfer, peer }
}

fn taken(refused: &Result<Vec<Share>, LedgerError>) -> &str {
    match refused {
        Err(LedgerError::Taken(constraint)) => constraint,
        other => panic!("{other:?}"),
    }
}

/// Another bucket of `beside`'s sale.
pub(crate) async fn bucket_beside(
    stores: &Stores,
    beside: &Bucket,
    number: u32,
    first: Share,
) -> Bucket {
    ledger::accept(&stores.pool, &beside.record, number, first).await.unwrap();
    let bucket = BucketRef { bucket: number.cast_signed(), ..beside.bucket };
    let epoch = ledger::take_over(&stores.pool, bucket, 0, KEEPER).await.unwrap().unwrap();
    Bucket { bucket, epoch, hold_batch: 0, settle_batch: 0, ..beside.clone() }
}

/// What a bucket may sell.
async fn shares(stores: &Stores, bucket: &Bucket) -> Vec<Share> {
    ledger::load(&stores.pool, bucket.bucket, bucket.epoch).await.unwrap().shares
}

fn is(
    entry: &LedgerEntry,
    kind: Kind,
    units: &[u32],
    transfer: TransferId,
    peer: Option<u32>,
) -> bool {
    let same = (entry.kind(), &entry.units[..], entry.peer) == (kind, units, peer);
    same && entry.transfer == transfer.0
}

#[tokio::test]
async fn units_are_given_up_once_and_accepted_once() {
    let stores = Stores::start().await;
    let mut giver = stores.bucket("s01", 10, 2).await;
    let receiver = bucket_beside(&stores, &giver, 1, share(500, 5)).await;
    giver.hold(&stores.pool, &[hold(1, &[0])]).await.unwrap();

    let (first, second) = (side(&giver, id(1), Some(1)), side(&giver, id(2), None));
    assert_eq!(first.find(&stores.pool, false).await.unwrap(), None);
    let wanted = [share(102, 2), share(106, 1)];
    assert_eq!(first.give_up(&stores.pool, &wanted).await.unwrap(), wanted);
    // Whatever it is asked for under this id again, it is what it was.
    assert_eq!(first.give_up(&stores.pool, &[share(108, 1)]).await.unwrap(), wanted);
    assert_eq!(first.give_up(&stores.pool, &[]).await.unwrap(), wanted);
    assert_eq!(first.find(&stores.pool, false).await.unwrap().as_deref(), Some(&wanted[..]));
    assert_eq!(shares(&stores, &giver).await, [share(100, 2), share(104, 2), share(107, 3)]);
    assert_eq!(second.give_up(&stores.pool, &[share(108, 2)]).await.unwrap(), [share(108, 2)]);
    assert_eq!(stores.counts(giver.bucket).await, (4, 5, 1, 0));

    let accepts = side(&receiver, id(1), Some(0));
    assert_eq!(accepts.find(&stores.pool, true).await.unwrap(), None);
    let both =
        tokio::join!(accepts.accept(&stores.pool, &wanted), accepts.accept(&stores.pool, &wanted));
    assert_eq!((both.0.unwrap(), both.1.unwrap()), (wanted.to_vec(), wanted.to_vec()));
    assert_eq!(accepts.accept(&stores.pool, &[share(900, 9)]).await.unwrap(), wanted);
    assert_eq!(accepts.find(&stores.pool, true).await.unwrap().as_deref(), Some(&wanted[..]));
    assert_eq!(stores.counts(receiver.bucket).await, (2, 8, 0, 0));
    assert_eq!(shares(&stores, &receiver).await, [share(102, 2), share(106, 1), share(500, 5)]);

    let (gave, took) = (stores.ledger(giver.bucket).await, stores.ledger(receiver.bucket).await);
    assert!(is(&gave[2], Kind::GivenUp, &[102, 103, 106, 106], id(1), Some(1)), "{gave:?}");
    assert!(is(&gave[3], Kind::GivenUp, &[108, 109], id(2), None), "{gave:?}");
    assert!(is(&took[1], Kind::Accepted, &[102, 103, 106, 106], id(1), Some(0)), "{took:?}");
    assert_eq!((gave.len(), took.len()), (4, 2));

    // They may come back by another transfer, and by none that was carried out.
    let back = side(&receiver, id(3), Some(0));
    back.give_up(&stores.pool, &wanted).await.unwrap();
    assert_eq!(accepts.accept(&stores.pool, &wanted).await.unwrap(), wanted, "as before");
    assert_eq!(stores.counts(receiver.bucket).await, (3, 5, 0, 0));
    side(&giver, id(3), Some(1)).accept(&stores.pool, &wanted).await.unwrap();
    assert_eq!(stores.counts(giver.bucket).await, (5, 8, 1, 0));
}

#[tokio::test]
async fn what_an_order_has_or_another_bucket_stays() {
    let stores = Stores::start().await;
    let mut giver = stores.bucket("s01", 10, 2).await;
    let beside = bucket_beside(&stores, &giver, 1, share(110, 5)).await;
    giver.hold(&stores.pool, &[hold(1, &[3, 4])]).await.unwrap();
    let before = stores.counts(giver.bucket).await;
    for (units, constraint) in [
        (&[share(103, 1)][..], "unit_once"),
        (&[share(100, 10)][..], "unit_once"),
        (&[share(109, 2)][..], "share_once"),
        (&[share(110, 1)][..], "share_once"),
        (&[share(100, 1), share(700, 1)][..], "share_once"),
    ] {
        let refused = side(&giver, id(1), Some(1)).give_up(&stores.pool, units).await;
        assert_eq!(taken(&refused), constraint, "{units:?}");
    }
    // A bucket of this cell may sell them: nobody accepts them here.
    for (bucket, units) in
        [(&beside, share(109, 1)), (&beside, share(114, 9)), (&giver, share(112, 1))]
    {
        let refused = side(bucket, id(1), None).accept(&stores.pool, &[share(900, 1), units]).await;
        assert_eq!(taken(&refused), "share_once", "{units:?}");
    }
    assert_eq!(stores.counts(giver.bucket).await, before, "nothing was done");
    assert_eq!(stores.counts(beside.bucket).await, (1, 5, 0, 0));
    // Nothing of it is remembered, so the same transfer may still be carried out.
    let gives = side(&giver, id(1), Some(1));
    assert_eq!(gives.find(&stores.pool, false).await.unwrap(), None);
    gives.give_up(&stores.pool, &[share(105, 1)]).await.unwrap();
    let other = side(&beside, id(1), None).give_up(&stores.pool, &[share(110, 1)]).await;
    assert_eq!(taken(&other), "transfer_once", "another bucket's part");
    // At once, under two ids: one is accepted.
    let (one, two) = (side(&giver, id(5), None), side(&beside, id(6), None));
    let new = [share(2_000, 3)];
    let both = tokio::join!(one.accept(&stores.pool, &new), two.accept(&stores.pool, &new));
    assert_eq!([both.0.is_ok(), both.1.is_ok()].iter().filter(|ok| **ok).count(), 1, "a copy");
}

#[tokio::test]
async fn a_bucket_that_had_nothing_to_give_gives_nothing_later() {
    let stores = Stores::start().await;
    let giver = stores.bucket("s01", 10, 2).await;
    let gives = side(&giver, id(1), Some(1));
    assert_eq!(gives.give_up(&stores.pool, &[]).await.unwrap(), []);
    assert_eq!(gives.find(&stores.pool, false).await.unwrap(), Some(vec![]));
    assert_eq!(gives.give_up(&stores.pool, &[share(100, 5)]).await.unwrap(), []);
    assert_eq!(stores.counts(giver.bucket).await, (1, 10, 0, 0), "and its ledger says nothing");
}

#[tokio::test]
async fn older_epochs_move_nothing_and_a_bucket_at_rest_accepts() {
    let stores = Stores::start().await;
    let old = stores.bucket("s01", 10, 2).await;
    let epoch = ledger::take_over(&stores.pool, old.bucket, old.epoch, KEEPER).await.unwrap();
    let now = Bucket { epoch: epoch.unwrap(), ..old.clone() };
    let stale = side(&old, id(1), None);
    assert!(matches!(stale.find(&stores.pool, false).await, Err(LedgerError::Stale(_))));
    let units = [share(100, 1)];
    assert!(matches!(stale.give_up(&stores.pool, &units).await, Err(LedgerError::Stale(_))));
    let more = [share(900, 2)];
    assert!(matches!(stale.accept(&stores.pool, &more).await, Err(LedgerError::Stale(_))));
    assert_eq!(stores.counts(old.bucket).await, (1, 10, 0, 0));

    let over = SaleRecord { state: State::Cancelled.into(), update_ms: 9, ..old.record.clone() };
    ledger::set_sale(&stores.pool, now.bucket, &over).await.unwrap();
    assert_eq!(ledger::rested(&stores.pool, now.bucket).await.unwrap(), None);
    assert!(ledger::rest(&stores.pool, now.bucket, now.epoch).await.unwrap());
    let rested = |granted| {
        let (epoch, paid, head) = (now.epoch, 0, None);
        Some(ledger::Rested { epoch, granted, paid, head })
    };
    assert_eq!(ledger::rested(&stores.pool, now.bucket).await.unwrap(), rested(10));
    assert_eq!(side(&now, id(2), None).accept(&stores.pool, &more).await.unwrap(), more);
    assert_eq!(ledger::rested(&stores.pool, now.bucket).await.unwrap(), rested(12));
    assert_eq!(side(&now, id(3), None).give_up(&stores.pool, &[]).await.unwrap(), []);
    assert_eq!(stores.counts(now.bucket).await, (2, 12, 0, 0));
}

/// Transfers between three buckets, begun and carried out in any order, with repetitions: whatever happens, every unit is
/// in one bucket or in transit.
#[tokio::test]
async fn units_are_never_copied_and_never_lost() {
    let seed: u64 = std::env::var("FLOODGATE_SEED")
        .map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    println!("FLOODGATE_SEED={seed}");
    let mut luck = StdRng::seed_from_u64(seed);
    let stores = Stores::start().await;
    let first = stores.bucket("s01", 30, 2).await;
    let second = bucket_beside(&stores, &first, 1, share(FIRST_UNIT + 30, 30)).await;
    let third = bucket_beside(&stores, &first, 2, share(FIRST_UNIT + 60, 30)).await;
    let buckets = [first, second, third];
    let of = |from: u32, count: u32| from..from + count;
    let mut has: Vec<BTreeSet<u32>> =
        (0..3).map(|n| of(FIRST_UNIT + 30 * n, 30).collect()).collect();
    // By transfer: giver, receiver, units, and whether it was accepted.
    let mut moves: BTreeMap<u8, (usize, usize, BTreeSet<u32>, bool)> = BTreeMap::new();
    for n in 0..80 {
        let (from, to) = (luck.random_range(0..3_usize), luck.random_range(0..3_usize));
        let (start, count) = (luck.random_range(95..195_u32), luck.random_range(1..12_u32));
        let wanted: BTreeSet<u32> = of(start, count).filter(|_| luck.random_bool(0.8)).collect();
        let gives = side(&buckets[from], id(n), Some(u32::try_from(to).unwrap()));
        let given = gives.give_up(&stores.pool, &ranges(wanted.iter().copied().collect())).await;
        if wanted.is_subset(&has[from]) {
            assert_eq!(given.unwrap(), ranges(wanted.iter().copied().collect()));
            has[from].retain(|unit| !wanted.contains(unit));
            moves.insert(n, (from, to, wanted, false));
        } else {
            assert_eq!(taken(&given), "share_once", "{wanted:?}");
        }
        for (&n, (from, to, units, accepted)) in &mut moves {
            if luck.random_bool(0.7) {
                continue;
            }
            let peer = Some(u32::try_from(*from).unwrap());
            let units_in = ranges(units.iter().copied().collect());
            let took = side(&buckets[*to], id(n), peer).accept(&stores.pool, &units_in).await;
            assert_eq!(took.unwrap(), units_in);
            if !*accepted {
                has[*to].extend(units.iter());
                *accepted = true;
            }
        }
    }
    for (bucket, has) in buckets.iter().zip(&has) {
        let units = shares(&stores, bucket).await.into_iter();
        let units: BTreeSet<u32> =
            units.flat_map(|share| of(share.first_unit, share.units)).collect();
        assert_eq!(units, *has, "INV-2");
        let granted = i32::try_from(has.len()).unwrap();
        assert_eq!(stores.counts(bucket.bucket).await.1, granted, "INV-2");
        stores.ledger(bucket.bucket).await;
    }
    let in_transit = moves.values().filter(|one| !one.3).map(|one| one.2.len()).sum::<usize>();
    assert_eq!(has.iter().map(BTreeSet::len).sum::<usize>() + in_transit, 90, "INV-2");
    let rows = sqlx::query("select count(*) from transfer where accepted").fetch_one(&stores.admin);
    let accepted = moves.values().filter(|one| one.3).count();
    assert_eq!(rows.await.unwrap().get::<i64, _>(0), i64::try_from(accepted).unwrap());
}
