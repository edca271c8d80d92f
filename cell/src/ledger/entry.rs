//! A batch's row in the ledger: its entries as bytes, and their Merkle root.

use prost::Message;
use proto::merkle;
use proto::wire::events::{LedgerBatch, LedgerEntry};

/// What is appended with a batch.
#[derive(Debug)]
pub struct Entries {
    pub(super) bytes: Vec<u8>,
    pub(super) root: merkle::Hash,
}

impl Entries {
    /// The entries of one batch, in their order.
    pub fn new(entries: Vec<LedgerEntry>) -> Entries {
        let leaves: Vec<_> =
            entries.iter().map(|entry| merkle::leaf(&entry.encode_to_vec())).collect();
        Entries { root: merkle::root(&leaves), bytes: LedgerBatch { entries }.encode_to_vec() }
    }
}
