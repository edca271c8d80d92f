//! Ways of tampering with an export, by somebody who has everything but the key.

use prost::Message;
use proto::chain::Row;
use proto::merkle;
use proto::wire::events::{LedgerBatch, LedgerEntry, ledger_entry::Kind};
use rand::RngExt;
use rand::rngs::StdRng;

use super::random_sale::{RandomSale, chain_anew, row, written};
use crate::ledger::file::Item;

/// A tampered export.
pub(super) struct Forged {
    pub(super) how: &'static str,
    pub(super) files: Vec<String>,
    /// The bucket that was tampered with, when a check can know it.
    pub(super) bucket: Option<u32>,
    /// Whether only a head that was kept can show it: what is there was all signed once.
    pub(super) needs_kept: bool,
}

type Way = (&'static str, fn(&RandomSale, usize, &mut StdRng) -> (Vec<String>, bool));

/// How many ways there are.
pub(super) const WAYS: usize = ALL.len();

const PUT_BACK: &str = "it is put back to an older head";
const LEFT_OUT: &str = "a bucket is left out";

const ALL: &[Way] = &[
    ("a byte is edited", |sale, _, luck| {
        let mut files = sale.files();
        let file = luck.random_range(0..files.len());
        let mut bytes = files[file].clone().into_bytes();
        let at = luck.random_range(0..bytes.len());
        bytes[at] = luck.random_range(b' '..=b'~');
        files[file] = String::from_utf8(bytes).unwrap();
        (files, false)
    }),
    ("a file is cut off", |sale, _, luck| {
        let mut files = sale.files();
        let file = luck.random_range(0..files.len());
        let length = luck.random_range(0..files[file].len());
        files[file].truncate(length);
        (files, false)
    }),
    ("a field is edited", |sale, bucket, luck| {
        of_rows(sale, bucket, |rows| {
            let at = luck.random_range(0..rows.len());
            let row = &mut rows[at];
            let bit = |length: usize, luck: &mut StdRng| {
                (luck.random_range(0..length), 1 << luck.random_range(0..8))
            };
            match luck.random_range(0..6) {
                0 => row.seq ^= 1 << luck.random_range(0..8),
                1 => row.epoch ^= 1 << luck.random_range(0..8),
                2 => row.at_us ^= 1 << luck.random_range(0..20),
                3 => {
                    let (at, bit) = bit(32, luck);
                    row.root[at] ^= bit;
                }
                4 => {
                    let (at, bit) = bit(32, luck);
                    row.hash[at] ^= bit;
                }
                _ => {
                    let (at, bit) = bit(row.entries.len(), luck);
                    row.entries[at] ^= bit;
                }
            }
        })
    }),
    ("a row is deleted", |sale, bucket, luck| {
        of_rows(sale, bucket, |rows| drop(rows.remove(luck.random_range(0..rows.len()))))
    }),
    ("two rows are swapped", |sale, bucket, luck| {
        of_rows(sale, bucket, |rows| {
            let (one, other) = (luck.random_range(0..rows.len()), luck.random_range(0..rows.len()));
            rows.swap(one, other);
        })
    }),
    ("a row is repeated", |sale, bucket, luck| {
        of_rows(sale, bucket, |rows| {
            let row = rows[luck.random_range(0..rows.len())].clone();
            rows.insert(luck.random_range(0..=rows.len()), row);
        })
    }),
    ("the last rows are cut off", |sale, bucket, luck| {
        of_rows(sale, bucket, |rows| rows.truncate(luck.random_range(0..rows.len())))
    }),
    ("a row comes from another bucket", |sale, bucket, luck| {
        let other = &sale.buckets[(bucket + 1) % sale.buckets.len()];
        of_rows(sale, bucket, |rows| {
            let at = luck.random_range(0..rows.len());
            rows[at] =
                Row { seq: rows[at].seq, ..other[luck.random_range(0..other.len())].clone() };
        })
    }),
    ("all rows come from another bucket", |sale, bucket, _| {
        let other = sale.buckets[(bucket + 1) % sale.buckets.len()].clone();
        of_rows(sale, bucket, |rows| *rows = other)
    }),
    (PUT_BACK, |sale, bucket, luck| {
        let mut older = sale.clone();
        let rows = luck.random_range(1..older.buckets[bucket].len());
        // The head of that moment was signed with the key.
        older.buckets[bucket].truncate(rows);
        (older.files(), true)
    }),
    ("rows are changed and chained anew", |sale, bucket, luck| {
        of_rows(sale, bucket, |rows| {
            change_an_entry(rows, luck);
            chain_anew(rows);
        })
    }),
    ("a row is taken out and the others chained anew", |sale, bucket, luck| {
        of_rows(sale, bucket, |rows| {
            rows.remove(luck.random_range(0..rows.len()));
            chain_anew(rows);
        })
    }),
    ("rows are chained anew and signed with another key", |sale, bucket, luck| {
        let mut forged = sale.clone();
        change_an_entry(&mut forged.buckets[bucket], luck);
        chain_anew(&mut forged.buckets[bucket]);
        let head = forged.head_by(bucket, forged.buckets[bucket].len(), 2);
        (of_head(&forged, bucket, head), true)
    }),
    ("a row is put behind the head", |sale, bucket, _| {
        of_rows(sale, bucket, |rows| {
            let last = rows.last().unwrap().clone();
            let hold = LedgerEntry { kind: Kind::Unspecified.into(), ..LedgerEntry::default() };
            rows.push(row(last.hash, last.seq + 1, last.at_us, vec![hold]));
        })
    }),
    ("heads are exchanged", |sale, bucket, _| {
        let other = (bucket + 1) % sale.buckets.len();
        (of_head(sale, bucket, sale.head(other, sale.buckets[other].len())), true)
    }),
    ("a head is left out", |sale, bucket, _| (of_head(sale, bucket, String::new()), true)),
    (LEFT_OUT, |sale, bucket, _| {
        let mut items = sale.items();
        for file in &mut items {
            let mut inside = None;
            file.retain(|item| {
                if let Item::Bucket { bucket, .. } = item {
                    inside = Some(*bucket);
                }
                inside != Some(bucket as u32)
            });
        }
        (items.iter().map(|file| written(file)).collect(), true)
    }),
    ("a bucket is called by another number", |sale, bucket, luck| {
        let mut items = sale.items();
        for item in items.iter_mut().flatten() {
            if let Item::Bucket { bucket: number, .. } = item
                && *number == bucket as u32
            {
                *number = luck.random_range(3..9);
            }
        }
        (items.iter().map(|file| written(file)).collect(), false)
    }),
];

/// Tampers with a sale's export in one of the ways.
pub(super) fn forge(sale: &RandomSale, luck: &mut StdRng) -> Forged {
    let (how, way) = &ALL[luck.random_range(0..ALL.len())];
    let bucket = luck.random_range(0..sale.buckets.len());
    let (files, is_named) = way(sale, bucket, luck);
    Forged {
        how,
        files,
        bucket: is_named.then_some(bucket as u32),
        needs_kept: [PUT_BACK, LEFT_OUT].contains(how),
    }
}

/// Changes a bucket's rows, and leaves the head as it was signed.
fn of_rows(
    sale: &RandomSale,
    bucket: usize,
    change: impl FnOnce(&mut Vec<Row>),
) -> (Vec<String>, bool) {
    let mut forged = sale.clone();
    change(&mut forged.buckets[bucket]);
    (of_head(&forged, bucket, sale.head(bucket, sale.buckets[bucket].len())), true)
}

/// The files with this head for a bucket.
pub(super) fn of_head(sale: &RandomSale, bucket: usize, head: String) -> Vec<String> {
    let mut items = sale.items();
    for item in items.iter_mut().flatten() {
        if let Item::Bucket { bucket: number, head: signed } = item
            && *number == bucket as u32
        {
            signed.clone_from(&head);
        }
    }
    items.iter().map(|file| written(file)).collect()
}

/// Changes what an entry says, with a root that fits.
pub(super) fn change_an_entry(rows: &mut [Row], luck: &mut StdRng) {
    let at = luck.random_range(0..rows.len());
    let row = &mut rows[at];
    let mut batch = LedgerBatch::decode(&row.entries[..]).unwrap();
    let at = luck.random_range(0..batch.entries.len());
    let entry = &mut batch.entries[at];
    match luck.random_range(0..3) {
        0 => entry.amount_minor += 1,
        1 => entry.units = entry.units.iter().map(|unit| unit + 1).collect(),
        _ => entry.ticket += 1_000_000,
    }
    let leaves: Vec<_> =
        batch.entries.iter().map(|entry| merkle::leaf(&entry.encode_to_vec())).collect();
    (row.entries, row.root) = (batch.encode_to_vec(), merkle::root(&leaves));
}
