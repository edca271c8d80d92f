//! Proofs about a Merkle tree (RFC 6962; checked as RFC 9162 says): that a leaf is in it, and that a later log continues
//! an earlier one. They are as long as the tree is high.
//!
//! What is proven is only as good as the root that it is held against: whoever checks has that from a signed head.

use super::{Hash, parent, root, split};

/// One step from a leaf to the root: the other subtree's root, and on which side it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It stands to the left.
    Left(Hash),
    /// It stands to the right.
    Right(Hash),
}

/// The steps from the leaf at `index` up to the root of `leaves`. None when there is no such leaf.
pub fn steps(leaves: &[Hash], index: usize) -> Option<Vec<Step>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut leaves, mut index, mut steps) = (leaves, index, Vec::new());
    while leaves.len() > 1 {
        let (left, right) = split(leaves);
        if index < left.len() {
            steps.push(Step::Right(root(right)));
            leaves = left;
        } else {
            steps.push(Step::Left(root(left)));
            index -= left.len();
            leaves = right;
        }
    }
    steps.reverse();
    Some(steps)
}

/// The root to which the steps lead from `leaf`. It says nothing of where in the tree the leaf stands.
pub fn climb(leaf: Hash, steps: &[Step]) -> Hash {
    steps.iter().fold(leaf, |node, step| match step {
        Step::Left(left) => parent(left, &node),
        Step::Right(right) => parent(&node, right),
    })
}

/// The inclusion proof of the leaf at `index`. None when there is no such leaf.
pub fn inclusion(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    let other = |step: Step| match step {
        Step::Left(hash) | Step::Right(hash) => hash,
    };
    Some(steps(leaves, index)?.into_iter().map(other).collect())
}

/// Whether `path` shows that `leaf` stands at `index` of the `size` leaves whose root is `root`.
pub fn includes(leaf: Hash, (index, size): (u64, u64), path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut node) = (index, size - 1, leaf);
    for other in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            node = parent(other, &node);
            // The last node of a level that has no sibling rises as it is.
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            node = parent(&node, other);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && node == *root
}

/// The proof that the log of all `leaves` continues that of the first `size`. None when `size` is 0 or there are fewer.
pub fn consistency(leaves: &[Hash], size: usize) -> Option<Vec<Hash>> {
    if size == 0 || size > leaves.len() {
        return None;
    }
    let (mut leaves, mut size, mut known, mut path) = (leaves, size, true, Vec::new());
    while size < leaves.len() {
        let (left, right) = split(leaves);
        if size <= left.len() {
            path.push(root(right));
            leaves = left;
        } else {
            path.push(root(left));
            size -= left.len();
            leaves = right;
            known = false;
        }
    }
    if !known {
        path.push(root(leaves));
    }
    path.reverse();
    Some(path)
}

/// Whether `path` shows that the log of the size and root `after` continues the one of `before`.
pub fn continues(before: (u64, &Hash), after: (u64, &Hash), path: &[Hash]) -> bool {
    let ((first, first_root), (second, second_root)) = (before, after);
    if first == 0 || first > second {
        return false;
    }
    if first == second {
        return path.is_empty() && first_root == second_root;
    }
    // A full subtree is proven by its root, which whoever asks has already.
    let mut path = path.iter();
    let begin = if first.is_power_of_two() { Some(first_root) } else { path.next() };
    let Some(&begin) = begin else { return false };
    let full = (first - 1).trailing_ones();
    let (mut at, mut last) = ((first - 1) >> full, (second - 1) >> full);
    let (mut old, mut new) = (begin, begin);
    for other in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old = parent(other, &old);
            new = parent(other, &new);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            new = parent(&new, other);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && old == *first_root && new == *second_root
}

#[cfg(test)]
mod tests {
    use super::super::{Frontier, leaf};
    use super::*;
    use crate::id::hex;
    use proptest::prelude::*;

    /// The leaves of the test vectors of certificate transparency's reference implementation.
    fn vector() -> Vec<Hash> {
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
        inputs.iter().map(|input| leaf(input)).collect()
    }

    fn hashes(path: Option<Vec<Hash>>) -> Vec<String> {
        path.unwrap().iter().map(|hash| hex(hash)).collect()
    }

    #[test]
    fn proofs_are_those_of_rfc_6962() {
        let leaves = vector();
        assert_eq!(hashes(inclusion(&leaves[..1], 0)), [""; 0]);
        assert_eq!(
            hashes(inclusion(&leaves, 0)),
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
            ]
        );
        assert_eq!(
            hashes(inclusion(&leaves[..3], 2)),
            ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]
        );
        assert_eq!(hashes(consistency(&leaves[..1], 1)), [""; 0]);
        assert_eq!(
            hashes(consistency(&leaves, 6)),
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"
            ]
        );
        assert_eq!(
            hashes(consistency(&leaves[..5], 2)),
            [
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
            ]
        );
    }

    fn some(count: usize) -> Vec<Hash> {
        (0..count).map(|number| leaf(&number.to_be_bytes())).collect()
    }

    #[test]
    fn nothing_is_in_an_empty_tree() {
        assert_eq!(
            (steps(&[], 0), consistency(&[], 0), consistency(&some(3), 4)),
            (None, None, None)
        );
        assert!(!includes([0; 32], (0, 0), &[], &root(&[])));
        assert!(!continues((0, &root(&[])), (1, &some(1)[0]), &[]));
    }

    proptest! {
        #[test]
        fn a_frontier_has_the_root_of_its_leaves(count in 0_usize..200) {
            let mut frontier = Frontier::default();
            some(count).into_iter().for_each(|leaf| frontier.push(leaf));
            prop_assert_eq!((frontier.size(), frontier.root()), (count as u64, root(&some(count))));
        }

        #[test]
        fn what_is_in_a_tree_is_proven_and_nothing_else(count in 1_usize..70, at: usize, other: usize, bit in 0..256_usize) {
            let (leaves, index) = (some(count), at % count);
            let (root, size) = (root(&leaves), count as u64);
            let path = inclusion(&leaves, index).unwrap();
            let steps = steps(&leaves, index).unwrap();
            prop_assert!(includes(leaves[index], (index as u64, size), &path, &root));
            prop_assert_eq!(climb(leaves[index], &steps), root);
            let elsewhere = other % (count + 3);
            if elsewhere != index {
                prop_assert!(!includes(leaves[index], (elsewhere as u64, size), &path, &root));
            }
            for part in 0..path.len() {
                let mut wrong = path.clone();
                wrong[part][bit / 8] ^= 1 << (bit % 8);
                prop_assert!(!includes(leaves[index], (index as u64, size), &wrong, &root));
                prop_assert!(!includes(leaves[index], (index as u64, size), &path[..part], &root));
            }
        }

        #[test]
        fn a_log_continues_its_beginnings_and_no_other(count in 1_usize..70, at: usize, bit in 0..256_usize) {
            let (leaves, first) = (some(count), at % count + 1);
            let (before, after) = (root(&leaves[..first]), root(&leaves));
            let path = consistency(&leaves, first).unwrap();
            let sizes = (first as u64, count as u64);
            prop_assert!(continues((sizes.0, &before), (sizes.1, &after), &path));
            let mut wrong = before;
            wrong[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!continues((sizes.0, &wrong), (sizes.1, &after), &path));
            for part in 0..path.len() {
                let mut wrong = path.clone();
                wrong[part][bit / 8] ^= 1 << (bit % 8);
                prop_assert!(!continues((sizes.0, &before), (sizes.1, &after), &wrong));
                prop_assert!(!continues((sizes.0, &before), (sizes.1, &after), &path[..part]));
            }
        }
    }
}
