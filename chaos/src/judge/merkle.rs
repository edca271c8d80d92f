//! How the ledger's rows are hashed, written a second time: RFC 6962 roots and a chain of SHA-256.

use ring::digest::{Context, SHA256};

pub(super) type Hash = [u8; 32];

/// The root over the entries of an encoded `LedgerBatch`; none when the bytes are no such message.
pub(super) fn root(batch: &[u8]) -> Option<Hash> {
    let leaves: Vec<Hash> = entries(batch)?.iter().map(|entry| hash(&[&[0], entry])).collect();
    Some(subtree(&leaves))
}

/// The hash of a row behind `previous`.
pub(super) fn row(previous: &[u8], seq: i64, epoch: i64, at_us: i64, root: &[u8]) -> Hash {
    hash(&[previous, &seq.to_be_bytes(), &epoch.to_be_bytes(), &at_us.to_be_bytes(), root])
}

fn subtree(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => hash(&[]),
        [leaf] => *leaf,
        _ => {
            // The left part is the largest full tree that leaves something for the right.
            let mut left = 1;
            while left * 2 < leaves.len() {
                left *= 2;
            }
            hash(&[&[1], &subtree(&leaves[..left]), &subtree(&leaves[left..])])
        }
    }
}

/// The bytes of each entry, as they lie in the batch: field 1, length-delimited, nothing else.
fn entries(mut batch: &[u8]) -> Option<Vec<&[u8]>> {
    const FIELD_1_BYTES: u8 = 1 << 3 | 2;
    let mut found = Vec::new();
    while let Some((&tag, rest)) = batch.split_first() {
        if tag != FIELD_1_BYTES {
            return None;
        }
        batch = rest;
        let length = prost::encoding::decode_varint(&mut batch).ok()?;
        let (entry, rest) = batch.split_at_checked(usize::try_from(length).ok()?)?;
        found.push(entry);
        batch = rest;
    }
    Some(found)
}

fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use proto::merkle;
    use proto::wire::events::{LedgerBatch, LedgerEntry};

    use super::*;

    #[test]
    fn both_ways_of_hashing_agree() {
        for count in [0, 1, 2, 3, 4, 5, 8, 9, 100, 256] {
            let entry = |number: u32| LedgerEntry {
                units: (0..number % 40).collect(),
                ticket: number.into(),
                ..Default::default()
            };
            let batch = LedgerBatch { entries: (0..count).map(entry).collect() };
            let leaves: Vec<_> =
                batch.entries.iter().map(|entry| merkle::leaf(&entry.encode_to_vec())).collect();
            let expected = merkle::root(&leaves);
            assert_eq!(root(&batch.encode_to_vec()), Some(expected), "{count} entries");
            assert_eq!(
                row(&[7; 32], 1, 2, 3, &expected),
                merkle::chain(&[7; 32], 1, 2, 3, &expected)
            );
        }
    }

    #[test]
    fn bytes_that_are_no_batch_have_no_root() {
        for bad in [&[0x12, 0][..], &[0x0a], &[0x0a, 5, 0], &[0x0a, 0xff]] {
            assert_eq!(root(bad), None, "{bad:?}");
        }
    }
}
