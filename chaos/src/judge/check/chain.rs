//! INV-8: in a bucket no entry of an older epoch follows one of a newer epoch. The chain of hashes and the gapless
//! sequence are what shows that nothing was put in between, changed or taken out.

use proto::invariant::Invariant::Inv8;

use crate::judge::case::{BucketCase, Findings, SaleCase};
use crate::judge::merkle;

pub(super) fn check(sale: &SaleCase<'_>, findings: &mut Findings) {
    sale.buckets.iter().for_each(|bucket| bucket_chain(bucket, findings));
}

fn bucket_chain(bucket: &BucketCase<'_>, findings: &mut Findings) {
    let (mut seq, mut epoch, mut at_us) = (0, 0, 0);
    let mut head = vec![0; 32];
    for row in &bucket.row.rows {
        if row.seq != seq + 1 {
            findings.name(Inv8, bucket, format!("row {} follows row {seq}", row.seq));
        }
        if row.epoch < epoch {
            let sentence =
                format!("row {} is of epoch {}, after epoch {epoch}", row.seq, row.epoch);
            findings.name(Inv8, bucket, sentence);
        }
        if row.at_us < at_us {
            findings.name(Inv8, bucket, format!("row {} is older than the row before", row.seq));
        }
        match merkle::root(&row.entries) {
            Some(root) if root[..] == row.root[..] => {}
            _ => findings.name(
                Inv8,
                bucket,
                format!("row {} has not the root of its entries", row.seq),
            ),
        }
        if merkle::row(&head, row.seq, row.epoch, row.at_us, &row.root)[..] != row.hash[..] {
            let sentence = format!("row {} does not continue the chain of hashes", row.seq);
            findings.name(Inv8, bucket, sentence);
        }
        (seq, epoch, at_us) = (row.seq, epoch.max(row.epoch), row.at_us);
        head.clone_from(&row.hash);
    }
    if bucket.row.seq != seq || bucket.row.head != head {
        let sentence =
            format!("its head is row {}, the ledger ends with row {seq}", bucket.row.seq);
        findings.name(Inv8, bucket, sentence);
    }
    let newest = bucket.row.epoch;
    if epoch > newest {
        findings.name(Inv8, bucket, format!("its epoch is {newest}, a row is of epoch {epoch}"));
    }
    if let Some(memory) = bucket.row.memory.as_ref().filter(|memory| memory.epoch > newest) {
        let sentence = format!("its epoch is {newest}, Redis serves epoch {}", memory.epoch);
        findings.name(Inv8, bucket, sentence);
    }
}
