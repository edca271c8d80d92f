//! A finished sale in real stores: 40 units in two cells, of which 36 are sold and 4 are free again or still. One of them
//! has moved from one cell to the other, one was added later, and a 41st the merchant took back.
//!
//! Its ledgers are filled through the cell's own SQL functions, Redis by its layout, the provider's file by its
//! format. Among its buyers: one whose card was declined first, one whose hold ran out and who came again, one who
//! cancelled, one who was charged after their hold had run out and got the money back, and one who was refunded and whose
//! units somebody else bought then.

mod bucket;
mod moves;
mod notes;
mod order;

use std::path::PathBuf;

use floodgate_chaos::judge::Agreed;
use floodgate_chaos::told::Told;
use local::{Stack, StackOptions};
use proto::wire::events::ledger_entry::Kind;

use bucket::BucketBook;
pub use moves::{append, moved};
use notes::Notes;

pub const ORG: &str = "acme";
pub const SALE: &str = "s0000000000000001";
pub const CELLS: [&str; 2] = ["cell-1", "cell-2"];
/// The transfer from the second bucket to the first.
pub const MOVED: [u8; 16] = [1; 16];
const UNITS_PER_CELL: u32 = 20;
const PRICE: i64 = 999;

/// The sale with everything that four ledgers say about it.
pub struct Finished {
    pub stack: Stack,
    pub agreed: Agreed,
    pub told: Vec<Told>,
    pub provider_file: PathBuf,
    pub buckets: Vec<BucketBook>,
}

impl Finished {
    pub async fn build() -> Finished {
        let stack = Stack::new(StackOptions::default()).await.unwrap();
        let mut buckets = Vec::new();
        for (number, cell) in (0..).zip(CELLS) {
            tokio::try_join!(stack.start_postgres(cell), stack.start_redis(cell)).unwrap();
            let postgres = stack.postgres_admin_url(cell).unwrap();
            let redis = stack.redis_admin_url(cell).unwrap();
            buckets.push(BucketBook::open(number, &postgres, redis).await);
        }
        let now: i64 = sqlx::query_scalar("select (extract(epoch from now()) * 1000000)::bigint")
            .fetch_one(&mut buckets[0].session)
            .await
            .unwrap();
        let at_us = u64::try_from(now).unwrap();
        let mut notes = Notes { told: Vec::new(), lines: Vec::new(), call: 0, at_us };
        sell_out(&mut buckets[0], &mut notes).await;
        sell_some(&mut buckets[1], &mut notes).await;
        move_about(&mut buckets).await;
        buckets[1].refund(&mut notes, 0).await;
        buckets[1].hold(&mut notes, &[28], 2).await;
        buckets[1].pay(&mut notes, 9..10).await;
        let provider_file = stack.folder().join("provider.jsonl");
        std::fs::write(&provider_file, notes.lines.concat()).unwrap();
        let agreed = Agreed {
            org: ORG.into(),
            sale: SALE.into(),
            flash: true,
            stock: 2 * UNITS_PER_CELL + 1,
            surrendered: 1,
            cap: 2,
            price_minor: PRICE,
            admission_rate: 500,
        };
        let finished = Finished { stack, agreed, told: notes.told, provider_file, buckets };
        for bucket in &finished.buckets {
            bucket.fill_redis().await;
        }
        finished
    }
}

/// Ten buyers hold two units each and pay, two of them on their way having failed once.
async fn sell_out(bucket: &mut BucketBook, notes: &mut Notes) {
    let buyers: Vec<u32> = (0..10).collect();
    bucket.hold(notes, &buyers, 1).await;
    bucket.pay(notes, 0..4).await;
    // A take-over in the middle.
    bucket.take_over().await;
    bucket.decline(notes, 4).await;
    bucket.settle(notes, 5, Kind::Expired).await;
    bucket.settle(notes, 6, Kind::Cancelled).await;
    bucket.pay(notes, 4..5).await;
    bucket.pay(notes, 7..10).await;
    bucket.hold(notes, &[5, 10], 2).await;
    bucket.pay(notes, 10..12).await;
}

/// Eight buyers pay, one lets the hold run out after all; two units are never asked for.
async fn sell_some(bucket: &mut BucketBook, notes: &mut Notes) {
    let buyers: Vec<u32> = (20..29).collect();
    bucket.hold(notes, &buyers, 1).await;
    bucket.pay(notes, 0..8).await;
    bucket.paying(notes, 8..9).await;
    bucket.settle(notes, 8, Kind::Expired).await;
    let late = bucket.orders[8].clone();
    notes.provider(&late, "captured", PRICE * 2);
    notes.provider(&late, "refunded", PRICE * 2);
}

/// A unit goes from the second bucket to the first, one to the merchant, and a new one comes.
async fn move_about(buckets: &mut [BucketBook]) {
    let (first, second) = buckets.split_at_mut(1);
    let (first, second) = (&mut first[0], &mut second[0]);
    second.give_up(MOVED, Some(0), 39).await;
    second.give_up([2; 16], None, 38).await;
    second.accept([3; 16], None, 2 * UNITS_PER_CELL).await;
    first.accept(MOVED, Some(1), 39).await;
}
