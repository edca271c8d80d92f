//! The entries of a row as bytes: a `LedgerBatch` has one way to be written, and any other is refused, so that no byte
//! of a row can change without its hash.

use prost::encoding::{decode_varint, encoded_len_varint};

/// Field 1, length-delimited.
const ENTRY: u8 = 1 << 3 | 2;

/// The bytes of each entry of an encoded `LedgerBatch`. None when it is none, or not written as prost writes it.
pub fn entries_of(mut batch: &[u8]) -> Option<Vec<&[u8]>> {
    let mut entries = Vec::new();
    while let Some((&tag, rest)) = batch.split_first() {
        let mut after = rest;
        let length = decode_varint(&mut after).ok()?;
        if tag != ENTRY || rest.len() - after.len() != encoded_len_varint(length) {
            return None;
        }
        let (entry, rest) = after.split_at_checked(usize::try_from(length).ok()?)?;
        entries.push(entry);
        batch = rest;
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_way_to_write_a_batch() {
        assert_eq!(entries_of(&[]), Some(vec![]));
        assert_eq!(entries_of(&[0x0a, 0, 0x0a, 2, 7, 8]), Some(vec![&[][..], &[7, 8]]));
        for bad in [&[0x12, 0][..], &[0x0a], &[0x0a, 5, 0], &[0x0a, 0xff], &[0x0a, 0x80, 0], &[0]] {
            assert_eq!(entries_of(bad), None, "{bad:?}");
        }
    }
}
