//! Merkle proofs: whatever path somebody shows, it proves what is so and nothing else.
//!
//! An input is how many leaves there are, two places among them, what stands for the leaf, eight bytes each of a place and
//! a size at random, and a byte for each hash of the path: which one of all hashes of the tree.

use std::hint::black_box;

use proto::merkle::proof::{climb, consistency, continues, includes, inclusion, steps};
use proto::merkle::{Frontier, Hash, leaf, root};

use crate::Seed;

/// Leaves of the largest tree.
const LEAVES_MAX: usize = 40;

/// Proves what is so and nothing else.
///
/// # Panics
/// When a promise is broken.
pub fn proof(bytes: &[u8]) {
    let Some((&[count, first, second, stands], rest)) = bytes.split_first_chunk() else { return };
    let Some((strange, path)) = rest.split_first_chunk::<16>() else { return };
    let count = usize::from(count) % LEAVES_MAX + 1;
    let leaves: Vec<Hash> = (0..count).map(|number| leaf(&number.to_be_bytes())).collect();
    let all = hashes(&leaves);
    let of = |byte: u8| all[usize::from(byte) % all.len()];
    let path: Vec<Hash> = path.iter().map(|byte| of(*byte)).collect();
    let (size, top) = (u64::try_from(count).unwrap(), root(&leaves));
    let at = usize::from(first) % (count + 2);
    let place = u64::try_from(at).unwrap();
    if includes(of(stands), (place, size), &path, &top) {
        assert_eq!(
            (Some(&of(stands)), Some(path.clone())),
            (leaves.get(at), inclusion(&leaves, at))
        );
    }
    let before = usize::from(second) % (count + 2);
    let earlier = u64::try_from(before).unwrap();
    if continues((earlier, &of(stands)), (size, &top), &path) {
        assert_eq!(Some(of(stands)), leaves.get(..before).map(root));
    }
    genuine(&leaves, at, before);
    // Sizes are as signed; of those that nobody has no log continues another with the same root, and all come to an end.
    let [odd, even] = [0, 8].map(|at| u64::from_le_bytes(strange[at..at + 8].try_into().unwrap()));
    black_box(includes(of(stands), (odd, even), &path, &top));
    assert!(!continues((odd, &top), (even, &top), &path) || odd == even);
}

/// What is so can be proven.
fn genuine(leaves: &[Hash], at: usize, before: usize) {
    let (size, top) = (u64::try_from(leaves.len()).unwrap(), root(leaves));
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    assert_eq!((frontier.size(), frontier.root()), (size, top));
    if let Some(leaf) = leaves.get(at) {
        let path = inclusion(leaves, at).unwrap();
        assert!(includes(*leaf, (u64::try_from(at).unwrap(), size), &path, &top));
        assert_eq!(climb(*leaf, &steps(leaves, at).unwrap()), top);
    }
    let path = consistency(leaves, before);
    assert_eq!(path.is_some(), (1..=leaves.len()).contains(&before));
    if let Some(path) = path {
        let earlier = (u64::try_from(before).unwrap(), &root(&leaves[..before]));
        assert!(continues(earlier, (size, &top), &path));
    }
}

/// The leaves, then the roots of all their beginnings and ends.
fn hashes(leaves: &[Hash]) -> Vec<Hash> {
    let ends = (1..leaves.len()).map(|at| root(&leaves[at..]));
    let mut all: Vec<Hash> = leaves.to_vec();
    all.extend((1..=leaves.len()).map(|count| root(&leaves[..count])).chain(ends));
    let pairs = leaves.chunks(2).chain(leaves.chunks(4)).chain(leaves.chunks(8));
    all.extend(pairs.map(root));
    all
}

/// Proofs, good and bad.
pub fn seeds() -> Vec<Seed> {
    let of = |head: [u8; 4], numbers: [u64; 2], path: &[u8]| {
        let numbers = numbers.map(u64::to_le_bytes).concat();
        [&head[..], &numbers, path].concat()
    };
    vec![
        ("one leaf", of([0, 0, 1, 0], [0, 1], &[])),
        ("two", of([1, 0, 1, 0], [1, 2], &[1])),
        ("the last of three", of([2, 2, 2, 2], [0, 0], &[4])),
        ("a node for a leaf", of([3, 0, 2, 9], [0, 2], &[12])),
        ("beside the tree", of([4, 5, 6, 4], [9, 4], &[1, 2, 3])),
        ("the largest numbers", of([5, 1, 1, 1], [u64::MAX - 1, u64::MAX], &[7; 70])),
        ("a number beyond its size", of([6, 1, 1, 1], [u64::MAX, 5], &[7; 3])),
        ("a long path", of([39, 7, 9, 7], [1 << 63, (1 << 63) + 1], &[3; 64])),
    ]
}
