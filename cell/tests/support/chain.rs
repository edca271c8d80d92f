//! A bucket's ledger, read and checked.

use floodgate_cell::ledger::BucketRef;
use prost::Message;
use proto::merkle;
use proto::wire::events::{LedgerBatch, LedgerEntry};
use sqlx::{PgPool, Row};

/// A row of the ledger: its epoch and entries.
pub(crate) type LedgerRow = (i64, Vec<LedgerEntry>);

/// Reads a bucket's ledger and checks everything that can be checked about rows: no gap, no older epoch after a newer
/// one (INV-8), time that does not go back, roots, and the chain of hashes up to the bucket's head.
pub(crate) async fn checked_ledger(pool: &PgPool, bucket: BucketRef) -> Vec<LedgerRow> {
    let rows = sqlx::query(
        "select l.seq, l.epoch, l.at_us, l.entries, l.root, l.hash, b.head, b.seq
         from bucket b join ledger l on (l.org, l.sale, l.bucket) = (b.org, b.sale, b.bucket)
         where b.org = $1 and b.sale = $2 and b.bucket = $3 order by l.seq",
    );
    let rows = rows.bind(bucket.org).bind(bucket.sale).bind(bucket.bucket);
    let rows = rows.fetch_all(pool).await.unwrap();
    let mut hash = merkle::GENESIS;
    let (mut epoch, mut at_us) = (0, 0);
    let mut read = Vec::new();
    for (number, row) in (1_i64..).zip(&rows) {
        let (seq, row_epoch, row_at_us): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(seq, number, "a gap in the ledger");
        assert!(row_epoch >= epoch, "INV-8: epoch {row_epoch} follows {epoch} at {seq}");
        assert!(row_at_us >= at_us, "time went back at {seq}");
        (epoch, at_us) = (row_epoch, row_at_us);
        let batch = LedgerBatch::decode(row.get::<&[u8], _>(3)).unwrap();
        let leaves: Vec<_> =
            batch.entries.iter().map(|entry| merkle::leaf(&entry.encode_to_vec())).collect();
        let root = merkle::root(&leaves);
        assert_eq!(row.get::<&[u8], _>(4), root, "the root of row {seq}");
        hash = merkle::chain(
            &hash,
            seq.cast_unsigned(),
            epoch.cast_unsigned(),
            at_us.cast_unsigned(),
            &root,
        );
        assert_eq!(row.get::<&[u8], _>(5), hash, "the hash of row {seq}");
        read.push((epoch, batch.entries));
    }
    if let Some(last) = rows.last() {
        assert_eq!(last.get::<&[u8], _>(6), hash, "the head is the last row's hash");
        assert_eq!(last.get::<i64, _>(7), i64::try_from(rows.len()).unwrap());
    }
    read
}
