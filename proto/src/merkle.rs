//! How the ledger is hashed: RFC 6962 Merkle roots over a row's entries, and a chain over a bucket's rows.
//!
//! The database computes a row's hash by the same rule when it appends it; [`chain`] is what readers check it with.
//! Over the rows' hashes stands a second tree, a log that only grows: [`Frontier`] is what appending needs of it, and
//! [`proof`] shows that something is in it, or that one log continues another.

pub mod proof;

use ring::digest::{Context, SHA256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// What the first row of a chain follows.
pub const GENESIS: Hash = [0; 32];

/// The hash of one entry's bytes.
pub fn leaf(entry: &[u8]) -> Hash {
    hash(&[&[0], entry])
}

/// The Merkle root of a row's entries: the hash of nothing when there are none.
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => hash(&[]),
        [only] => *only,
        _ => {
            let (left, right) = split(leaves);
            parent(&root(left), &root(right))
        }
    }
}

/// The left subtree, full and as large as can be, and the right one, which has the rest. For two leaves and more.
fn split(leaves: &[Hash]) -> (&[Hash], &[Hash]) {
    leaves.split_at(leaves.len().next_power_of_two() / 2)
}

/// A log that only grows, as little of it as appending needs: the roots of its full subtrees, the largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Appends a leaf, as [`leaf`] makes it.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = parent(&left, &node);
            }
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its root: what [`root`] makes of all leaves.
    pub fn root(&self) -> Hash {
        let peaks = self.peaks.iter().rev().copied();
        peaks.reduce(|right, left| parent(&left, &right)).unwrap_or_else(|| root(&[]))
    }
}

/// The hash of a row: what it follows, where and when it stands, and what it holds.
pub fn chain(previous: &Hash, seq: u64, epoch: u64, at_us: u64, root: &Hash) -> Hash {
    hash(&[previous, &seq.to_be_bytes(), &epoch.to_be_bytes(), &at_us.to_be_bytes(), root])
}

fn parent(left: &Hash, right: &Hash) -> Hash {
    hash(&[&[1], left, right])
}

fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::hex;

    #[test]
    fn roots_are_those_of_rfc_6962() {
        assert_eq!(
            hex(&root(&[])),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        // The test vectors of the reference implementation of certificate transparency.
        let inputs: [&[u8]; 8] = [
            &[],
            &[0x00],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &[
                0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d,
                0x6e, 0x6f,
            ],
        ];
        let leaves: Vec<Hash> = inputs.iter().map(|input| leaf(input)).collect();
        for (count, expected) in [
            (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
            (7, "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
            (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ] {
            assert_eq!(hex(&root(&leaves[..count])), expected, "{count} leaves");
        }
    }

    #[test]
    fn every_part_of_a_row_changes_its_hash() {
        let base = chain(&GENESIS, 1, 2, 3, &[4; 32]);
        for other in [
            chain(&[1; 32], 1, 2, 3, &[4; 32]),
            chain(&GENESIS, 2, 2, 3, &[4; 32]),
            chain(&GENESIS, 1, 3, 3, &[4; 32]),
            chain(&GENESIS, 1, 2, 4, &[4; 32]),
            chain(&GENESIS, 1, 2, 3, &[5; 32]),
        ] {
            assert_ne!(base, other);
        }
    }
}
