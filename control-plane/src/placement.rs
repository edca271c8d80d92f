//! Which k of the n cells an org lives in: shuffle sharding, decided once when the org is registered.
//!
//! A pure function of the org's id, the cells and the placements that exist. It promises, for `n ≥ k` cells:
//! - k distinct cells, the same for the same input, in the order of the org's rendezvous hash;
//! - balance: with a fixed set of cells the numbers of orgs of any two cells differ by at most [`BALANCE_MAX`]; a cell
//!   that joins later is in every new placement until it has caught up;
//! - overlap: the largest overlap with any existing placement is never more than what the plain greedy choice
//!   ([`least_loaded`]) would give at this point, and usually less.
//!
//! It does not look at time (whose sales run at the same moment) and never moves an org.
//!
//! Share of pairs of orgs that have so many cells in common, n = 50 and k = 4, orgs placed one after another (a test
//! below computes it; random is the hypergeometric distribution):
//!
//! ```text
//!  cells in common         0        1        2        3        4
//!  random              70.86%   26.37%    2.70%   0.080%  0.0004%
//!  150 orgs            70.43%   29.57%       0        0        0
//!  500 orgs            70.60%   27.54%    1.86%       0        0
//! ```

use proto::id::{CellId, OrgId};
use ring::digest;
use std::cmp::Reverse;
use std::collections::HashMap;

/// The most by which the numbers of orgs in two cells differ.
pub const BALANCE_MAX: usize = 3;

/// Sets of cells that are compared before one is chosen: the choice stays cheap in a fleet of any size.
const STARTS_MAX: usize = 64;

/// Chooses `k` of `cells` for `org`, given the placements that exist; none when there are fewer than `k`.
///
/// Placements may name cells that are not in `cells`; those are left out of all counts.
pub fn place(
    org: &OrgId,
    cells: &[CellId],
    k: usize,
    existing: &[Vec<CellId>],
) -> Option<Vec<CellId>> {
    let fleet = Fleet::new(org, cells, existing);
    let plain = fleet.least_loaded(k)?;
    let (fixed, pool) = fleet.balanced(k);
    let starts = pool.iter().take(STARTS_MAX);
    let mut best = starts.map(|&start| fleet.extend(&fixed, start, &pool, k)).fold(
        (fleet.overlap(&plain), plain),
        |best, set| {
            let overlap = fleet.overlap(&set);
            if overlap < best.0 { (overlap, set) } else { best }
        },
    );
    best.1.sort_by_key(|&cell| fleet.rank[cell]);
    Some(best.1.into_iter().map(|cell| cells[cell].clone()).collect())
}

/// The plain greedy choice: the `k` cells with the fewest orgs, ties by rendezvous hash; none when there are fewer.
pub fn least_loaded(
    org: &OrgId,
    cells: &[CellId],
    k: usize,
    existing: &[Vec<CellId>],
) -> Option<Vec<CellId>> {
    let chosen = Fleet::new(org, cells, existing).least_loaded(k)?;
    Some(chosen.into_iter().map(|cell| cells[cell].clone()).collect())
}

/// How many cells two placements have in common.
pub fn overlap(one: &[CellId], other: &[CellId]) -> usize {
    one.iter().filter(|cell| other.contains(cell)).count()
}

/// Cells in the order in which `name` prefers them: by rendezvous hash, so that each name has an order of its own and
/// a cell that joins or goes changes nobody else's.
pub fn by_preference<'a>(name: &str, cells: &'a [CellId]) -> Vec<&'a CellId> {
    let mut ordered: Vec<_> = cells.iter().collect();
    ordered.sort_by_cached_key(|cell| (Reverse(score(name, cell)), *cell));
    ordered
}

fn score(name: &str, cell: &CellId) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(name.as_bytes());
    context.update(&[0]);
    context.update(cell.as_str().as_bytes());
    let mut score = [0; 32];
    score.copy_from_slice(context.finish().as_ref());
    score
}

/// The cells by number, with who lives there.
struct Fleet {
    /// The orgs of each cell, by number.
    orgs: Vec<Vec<usize>>,
    /// Each cell's place in the order of preference of the org to be placed.
    rank: Vec<usize>,
    /// How many orgs there are.
    org_count: usize,
}

/// The largest overlap with an existing placement, and with how many it is reached.
type Overlap = (usize, usize);

impl Fleet {
    fn new(org: &OrgId, cells: &[CellId], existing: &[Vec<CellId>]) -> Fleet {
        let number: HashMap<&CellId, usize> = cells.iter().zip(0..).collect();
        let mut orgs = vec![Vec::new(); cells.len()];
        for (org, placement) in existing.iter().enumerate() {
            for cell in placement.iter().filter_map(|cell| number.get(cell)) {
                orgs[*cell].push(org);
            }
        }
        let mut rank = vec![0; cells.len()];
        for (place, cell) in by_preference(org.as_str(), cells).into_iter().enumerate() {
            rank[number[cell]] = place;
        }
        Fleet { orgs, rank, org_count: existing.len() }
    }

    fn load(&self, cell: usize) -> usize {
        self.orgs[cell].len()
    }

    fn least_loaded(&self, k: usize) -> Option<Vec<usize>> {
        let mut cells: Vec<_> = (0..self.orgs.len()).collect();
        cells.sort_by_key(|&cell| (self.load(cell), self.rank[cell]));
        (cells.len() >= k).then(|| cells[..k].to_vec())
    }

    /// The cells that must be taken for the sake of balance (fewer than `k`), and those from which the others may be
    /// chosen freely, in the order of preference.
    fn balanced(&self, k: usize) -> (Vec<usize>, Vec<usize>) {
        let mut fixed = Vec::new();
        let mut rest: Vec<_> = (0..self.orgs.len()).collect();
        rest.sort_by_key(|&cell| self.rank[cell]);
        loop {
            let least = rest.iter().map(|&cell| self.load(cell)).min().unwrap_or(0);
            let near = |cell: &usize| self.load(*cell) < least + BALANCE_MAX;
            let (pool, far): (Vec<_>, Vec<_>) = rest.into_iter().partition(near);
            if fixed.len() + pool.len() >= k || far.is_empty() {
                return (fixed, pool);
            }
            fixed.extend(pool);
            rest = far;
        }
    }

    /// Adds cells of `pool` to `fixed` and `start`, each time the one that raises overlaps least, until there are `k`.
    fn extend(&self, fixed: &[usize], start: usize, pool: &[usize], k: usize) -> Vec<usize> {
        let mut chosen = fixed.to_vec();
        let mut shared = vec![0_usize; self.org_count];
        let mut next = Some(start);
        for &cell in fixed {
            self.orgs[cell].iter().for_each(|&org| shared[org] += 1);
        }
        while let Some(cell) = next.filter(|_| chosen.len() < k) {
            self.orgs[cell].iter().for_each(|&org| shared[org] += 1);
            chosen.push(cell);
            let free = pool.iter().copied().filter(|cell| !chosen.contains(cell));
            next = free.min_by_key(|&cell| {
                let after = self.orgs[cell].iter().map(|&org| shared[org] + 1);
                (most(after), self.load(cell), self.rank[cell])
            });
        }
        chosen
    }

    fn overlap(&self, set: &[usize]) -> Overlap {
        let mut shared = vec![0_usize; self.org_count];
        for &cell in set {
            self.orgs[cell].iter().for_each(|&org| shared[org] += 1);
        }
        most(shared.into_iter())
    }
}

/// The largest value and how often it stands there.
fn most(values: impl Iterator<Item = usize>) -> Overlap {
    values.fold((0, 0), |(largest, times), value| match value.cmp(&largest) {
        std::cmp::Ordering::Less => (largest, times),
        std::cmp::Ordering::Equal => (largest, times + 1),
        std::cmp::Ordering::Greater => (value, 1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cells(n: usize) -> Vec<CellId> {
        (0..n).map(|i| format!("cell-{i}").parse().unwrap()).collect()
    }

    fn org(i: usize) -> OrgId {
        format!("org-{i}").parse().unwrap()
    }

    fn loads(cells: &[CellId], placements: &[Vec<CellId>]) -> Vec<usize> {
        cells.iter().map(|cell| placements.iter().filter(|p| p.contains(cell)).count()).collect()
    }

    fn worst(set: &[CellId], existing: &[Vec<CellId>]) -> usize {
        existing.iter().map(|other| overlap(set, other)).max().unwrap_or(0)
    }

    /// Pairs of placements by how many cells they have in common.
    fn table(placements: &[Vec<CellId>], k: usize) -> Vec<usize> {
        let mut pairs = vec![0; k + 1];
        for (i, one) in placements.iter().enumerate() {
            placements[..i].iter().for_each(|other| pairs[overlap(one, other)] += 1);
        }
        pairs
    }

    fn placed(cells: &[CellId], k: usize, orgs: usize) -> Vec<Vec<CellId>> {
        let mut placements = Vec::new();
        for i in 0..orgs {
            placements.push(place(&org(i), cells, k, &placements).unwrap());
        }
        placements
    }

    #[test]
    fn too_few_cells_are_refused() {
        assert_eq!(place(&org(1), &cells(2), 3, &[]), None);
        assert_eq!(place(&org(1), &cells(3), 3, &[]).map(|set| set.len()), Some(3));
    }

    #[test]
    fn the_overlap_table() {
        let placements = placed(&cells(50), 4, 500);
        assert_eq!(table(&placements[..150], 4), [7_871, 3_304, 0, 0, 0]);
        assert_eq!(table(&placements, 4), [88_070, 34_355, 2_325, 0, 0]);
    }

    #[test]
    fn a_cell_that_joins_late_catches_up() {
        let mut fleet = cells(6);
        let mut placements = placed(&fleet, 3, 30);
        fleet.push("late".parse().unwrap());
        for i in 0..40 {
            let set = place(&org(1_000 + i), &fleet, 3, &placements).unwrap();
            placements.push(set);
        }
        let loads = loads(&fleet, &placements);
        let spread = loads.iter().max().unwrap() - loads.iter().min().unwrap();
        assert!(spread <= BALANCE_MAX, "{loads:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn placements_keep_their_promises(n in 1_usize..24, k in 1_usize..5, orgs in 0_usize..60) {
            prop_assume!(k <= n);
            let cells = cells(n);
            let mut placements: Vec<Vec<CellId>> = Vec::new();
            for i in 0..orgs {
                let set = place(&org(i), &cells, k, &placements).unwrap();
                let again = place(&org(i), &cells, k, &placements).unwrap();
                prop_assert_eq!(&set, &again);
                let mut distinct = set.clone();
                distinct.sort();
                distinct.dedup();
                prop_assert_eq!(distinct.len(), k);
                let greedy = least_loaded(&org(i), &cells, k, &placements).unwrap();
                prop_assert!(worst(&set, &placements) <= worst(&greedy, &placements));
                placements.push(set);
                let loads = loads(&cells, &placements);
                let spread = loads.iter().max().unwrap() - loads.iter().min().unwrap();
                prop_assert!(spread <= BALANCE_MAX, "{:?}", loads);
            }
        }

        #[test]
        fn a_cell_that_goes_changes_no_order(name in "[a-z]{3,8}", n in 2_usize..12, gone in 0_usize..12) {
            let all = cells(n);
            let gone = &all[gone % n];
            let left: Vec<_> = all.iter().filter(|cell| *cell != gone).cloned().collect();
            let before: Vec<_> =
                by_preference(&name, &all).into_iter().filter(|cell| *cell != gone).collect();
            prop_assert_eq!(before, by_preference(&name, &left));
        }
    }
}
