//! A sale's buckets: which cells get which unit numbers when the sale is warmed.
//!
//! A pure function of the sale and its org's cells, run once per sale. It promises that the ranges are contiguous and
//! disjoint, start at 0 and add up to the stock (INV-2), that their sizes differ by at most one, and that the same sale
//! always gets the same list, so that a leader that repeats the work of another writes the same plan.

use proto::id::CellId;
use proto::wire::admin::sale::Class;
use proto::wire::cell::{BucketPlan, SaleRecord};

use crate::placement::by_preference;

/// A sale with fewer units than this for each of its cells gets a single bucket: shares would run dry one by one while
/// others still had units.
pub const CELL_UNITS_MIN: u32 = 10;

/// The sale's buckets: one in each of the org's cells; a single one when the sale is STANDARD or small. None at all
/// when the org has no cells, which no registered org has.
pub fn buckets(sale: &SaleRecord, cells: &[CellId]) -> Vec<BucketPlan> {
    let mut cells = by_preference(&sale.sale, cells);
    let count = u32::try_from(cells.len()).unwrap_or(u32::MAX);
    let small = u64::from(sale.stock) < u64::from(count) * u64::from(CELL_UNITS_MIN);
    if small || sale.class == i32::from(Class::Standard) {
        cells.truncate(1);
    }
    shares(sale.stock, &cells)
}

fn shares(stock: u32, cells: &[&CellId]) -> Vec<BucketPlan> {
    let Some(count) = u32::try_from(cells.len()).ok().filter(|count| *count > 0) else {
        return Vec::new();
    };
    let (each, more) = (stock / count, stock % count);
    let mut first_unit = 0;
    (0..count)
        .zip(cells)
        .map(|(bucket, cell)| {
            let units = each + u32::from(bucket < more);
            let plan = BucketPlan { cell: cell.to_string(), first_unit, units };
            first_unit += units;
            plan
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::limits::SALE_UNITS_MAX;

    fn cells(n: usize) -> Vec<CellId> {
        (0..n).map(|i| format!("cell-{i}").parse().unwrap()).collect()
    }

    fn sale(stock: u32, class: Class) -> SaleRecord {
        SaleRecord { sale: "s01".into(), stock, class: class.into(), ..SaleRecord::default() }
    }

    #[test]
    fn how_many_buckets() {
        let rows = [
            (1, Class::Flash, 3, 1),
            (29, Class::Flash, 3, 1),
            (30, Class::Flash, 3, 3),
            (31, Class::Flash, 3, 3),
            (10_000_000, Class::Flash, 4, 4),
            (10_000_000, Class::Standard, 4, 1),
            (9, Class::Flash, 1, 1),
            (10, Class::Flash, 0, 0),
        ];
        for (stock, class, n, expected) in rows {
            let plan = buckets(&sale(stock, class), &cells(n));
            assert_eq!(plan.len(), expected, "{stock} units, {class:?}, {n} cells");
        }
    }

    #[test]
    fn single_buckets_are_spread_over_the_cells() {
        let cells = cells(3);
        let mut taken: Vec<_> = (0..60)
            .flat_map(|i| {
                let sale = SaleRecord { sale: format!("s{i}"), ..sale(1, Class::Flash) };
                buckets(&sale, &cells)
            })
            .map(|plan| plan.cell)
            .collect();
        taken.sort();
        taken.dedup();
        assert_eq!(taken.len(), 3);
    }

    proptest! {
        #[test]
        fn every_unit_is_in_exactly_one_bucket(stock in 1..=SALE_UNITS_MAX, n in 1_usize..20) {
            let plan = buckets(&sale(stock, Class::Flash), &cells(n));
            let mut next = 0;
            for bucket in &plan {
                prop_assert_eq!(bucket.first_unit, next);
                prop_assert!(bucket.units > 0);
                next += bucket.units;
            }
            prop_assert_eq!(next, stock);
            let sizes = || plan.iter().map(|bucket| bucket.units);
            prop_assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1);
            let mut cells: Vec<_> = plan.iter().map(|bucket| &bucket.cell).collect();
            cells.sort();
            cells.dedup();
            prop_assert_eq!(cells.len(), plan.len());
        }
    }
}
