//! A bucket's ledger as evidence: rows that follow one another, a head that a key has signed for, a receipt.
//!
//! [`Chain`] follows rows from the first one, or from where it was, and says what is wrong with a row that cannot follow.
//! Beside the chain it grows a Merkle tree over the rows' hashes, whose root a [`head`] signs: so whoever has a head can
//! be shown one row by a short path ([`receipt`]), and a later head can be shown to continue an earlier one.
//!
//! A chain alone says only that rows fit each other; whoever can write all of them can make another one. That it is the
//! one that was told says the head, or an older head that somebody kept.

mod entries;
pub mod head;
pub mod receipt;

pub use entries::entries_of;

use crate::merkle::{self, Frontier, GENESIS, Hash};
use crate::wire::events::LedgerEntry;
use prost::Message;

/// One row of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// 1, 2, …
    pub seq: u64,
    /// Of the keeper who wrote it.
    pub epoch: u64,
    /// Microseconds since 1970.
    pub at_us: u64,
    /// An encoded `LedgerBatch`.
    pub entries: Vec<u8>,
    /// RFC 6962 root of the entries.
    pub root: Hash,
    /// [`merkle::chain`] of all of it and the row before.
    pub hash: Hash,
}

/// Why a row cannot follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowFlaw {
    /// A row is missing, stands twice, or stands elsewhere.
    #[error("row {found} stands where row {expected} should")]
    OutOfOrder {
        /// The row that should have come.
        expected: u64,
        /// The row that came.
        found: u64,
    },
    /// INV-8 is broken.
    #[error("it is of epoch {found}, after epoch {before}")]
    OlderEpoch {
        /// Of the row before.
        before: u64,
        /// Of this row.
        found: u64,
    },
    /// Time went back.
    #[error("it is older than the row before")]
    OlderTime,
    /// The entries are no `LedgerBatch` as it is written.
    #[error("its entries cannot be read")]
    Unreadable,
    /// Entries and root do not belong together.
    #[error("its root is not that of its entries")]
    WrongRoot,
    /// The row, or the one before it, is not what was hashed.
    #[error("its hash is not that of its content behind the row before")]
    WrongHash,
}

/// How far a bucket's ledger has been followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    seq: u64,
    epoch: u64,
    at_us: u64,
    hash: Hash,
    tree: Frontier,
}

impl Default for Chain {
    fn default() -> Chain {
        Chain { seq: 0, epoch: 0, at_us: 0, hash: GENESIS, tree: Frontier::default() }
    }
}

impl Chain {
    /// The sequence of the last row; 0 before the first.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The epoch of the last row.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The time of the last row, in microseconds since 1970.
    pub fn at_us(&self) -> u64 {
        self.at_us
    }

    /// The hash of the last row.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The root of the tree over all rows' hashes.
    pub fn tree_root(&self) -> Hash {
        self.tree.root()
    }

    /// Follows the next row and returns its entries.
    ///
    /// # Errors
    /// Why it cannot follow; the chain then stands where it stood.
    pub fn follow(&mut self, row: &Row) -> Result<Vec<LedgerEntry>, RowFlaw> {
        if row.seq != self.seq + 1 {
            return Err(RowFlaw::OutOfOrder { expected: self.seq + 1, found: row.seq });
        }
        if row.epoch < self.epoch {
            return Err(RowFlaw::OlderEpoch { before: self.epoch, found: row.epoch });
        }
        if row.at_us < self.at_us {
            return Err(RowFlaw::OlderTime);
        }
        let raw = entries_of(&row.entries).ok_or(RowFlaw::Unreadable)?;
        let entries: Result<Vec<_>, _> =
            raw.iter().map(|entry| LedgerEntry::decode(*entry)).collect();
        let entries = entries.map_err(|_| RowFlaw::Unreadable)?;
        let leaves: Vec<_> = raw.iter().map(|entry| merkle::leaf(entry)).collect();
        if merkle::root(&leaves) != row.root {
            return Err(RowFlaw::WrongRoot);
        }
        if merkle::chain(&self.hash, row.seq, row.epoch, row.at_us, &row.root) != row.hash {
            return Err(RowFlaw::WrongHash);
        }
        self.stand_at(row);
        Ok(entries)
    }

    /// Goes on behind a row that could not follow, so that what comes after it can be looked at too.
    pub fn stand_at(&mut self, row: &Row) {
        self.seq = row.seq;
        self.epoch = row.epoch;
        self.at_us = row.at_us;
        self.hash = row.hash;
        self.tree.push(merkle::leaf(&row.hash));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::wire::events::{LedgerBatch, ledger_entry::Kind};

    /// Rows that follow one another, with `entries` each.
    pub(crate) fn rows(batches: Vec<Vec<LedgerEntry>>) -> Vec<Row> {
        let mut before = GENESIS;
        let chained = (1..).zip(batches).map(|(seq, entries)| {
            let leaves: Vec<_> =
                entries.iter().map(|entry| merkle::leaf(&entry.encode_to_vec())).collect();
            let (root, epoch, at_us) = (merkle::root(&leaves), 1 + seq / 3, 1_000 + seq);
            before = merkle::chain(&before, seq, epoch, at_us, &root);
            let entries = LedgerBatch { entries }.encode_to_vec();
            Row { seq, epoch, at_us, entries, root, hash: before }
        });
        chained.collect()
    }

    fn some() -> Vec<Row> {
        let entry = |unit| LedgerEntry {
            kind: Kind::Held.into(),
            units: vec![unit],
            ..LedgerEntry::default()
        };
        rows((0..7).map(|unit| (0..unit).map(entry).collect()).collect())
    }

    fn follow(rows: &[Row]) -> Result<Chain, (u64, RowFlaw)> {
        let mut chain = Chain::default();
        for row in rows {
            chain.follow(row).map_err(|flaw| (row.seq, flaw))?;
        }
        Ok(chain)
    }

    #[test]
    fn rows_are_followed_and_hashed_into_a_tree() {
        let chain = follow(&some()).unwrap();
        let hashes: Vec<_> = some().iter().map(|row| merkle::leaf(&row.hash)).collect();
        assert_eq!((chain.seq(), chain.epoch(), chain.at_us()), (7, 3, 1_007));
        assert_eq!((chain.hash(), chain.tree_root()), (some()[6].hash, merkle::root(&hashes)));
    }

    /// INV-8, and whatever else makes a row one that cannot follow.
    #[test]
    fn a_row_that_cannot_follow_is_named() {
        let flaw = |damage: fn(&mut Vec<Row>)| {
            let mut rows = some();
            damage(&mut rows);
            follow(&rows).unwrap_err()
        };
        assert_eq!(
            flaw(|rows| drop(rows.remove(2))),
            (4, RowFlaw::OutOfOrder { expected: 3, found: 4 })
        );
        assert_eq!(flaw(|rows| rows.swap(0, 1)).0, 2);
        assert_eq!(
            flaw(|rows| rows[3].epoch = 1),
            (4, RowFlaw::OlderEpoch { before: 2, found: 1 })
        );
        assert_eq!(flaw(|rows| rows[3].epoch += 1), (4, RowFlaw::WrongHash));
        assert_eq!(flaw(|rows| rows[3].at_us = 3), (4, RowFlaw::OlderTime));
        assert_eq!(flaw(|rows| rows[3].entries.push(0)), (4, RowFlaw::Unreadable));
        assert_eq!(flaw(|rows| rows[3].entries.clear()), (4, RowFlaw::WrongRoot));
        assert_eq!(flaw(|rows| rows[3].hash[0] ^= 1), (4, RowFlaw::WrongHash));
    }
}
