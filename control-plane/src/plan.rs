//! A sale's buckets: which cells get which unit numbers when the sale is warmed.
//!
//! A pure function of the sale and its org's cells, run once per sale. It promises that the ranges are contiguous and
//! disjoint, start at 0 and add up to the stock (INV-2), that their sizes differ by at most one, that no cell has two
//! buckets more than another, and that the same sale always gets the same list, so that a leader that repeats the work
//! of another writes the same plan. It does not look at who will come: units move later ([`crate::moves`]).

use proto::id::CellId;
use proto::limits::CELL_BUCKETS_MAX;
use proto::wire::admin::sale::Class;
use proto::wire::cell::{BucketPlan, SaleRecord};

use crate::placement::by_preference;

/// A sale with fewer units than this for each of its cells gets a single bucket: shares would run dry one by one while
/// others still had units.
pub const CELL_UNITS_MIN: u32 = 10;

/// The sale's buckets: one in each of the org's cells, a single one when the sale is small, and more when one would have
/// more than `bucket_units_max` units, as far as its cells may have them. A STANDARD sale always has a single one. None
/// at all when the org has no cells, which no registered org has.
pub fn buckets(sale: &SaleRecord, cells: &[CellId], bucket_units_max: u32) -> Vec<BucketPlan> {
    let cells = by_preference(&sale.sale, cells);
    let count = u32::try_from(cells.len()).unwrap_or(u32::MAX);
    let most = count.saturating_mul(CELL_BUCKETS_MAX).min(sale.stock);
    let small = u64::from(sale.stock) < u64::from(count) * u64::from(CELL_UNITS_MIN);
    let least = if small { 1 } else { count };
    let wanted = sale.stock.div_ceil(bucket_units_max.max(1)).max(least).min(most);
    let standard = sale.class == i32::from(Class::Standard);
    shares(sale.stock, &cells, if standard { wanted.min(1) } else { wanted })
}

/// `count` shares, dealt to the cells in turn.
fn shares(stock: u32, cells: &[&CellId], count: u32) -> Vec<BucketPlan> {
    if count == 0 {
        return Vec::new();
    }
    let (each, more) = (stock / count, stock % count);
    let mut first_unit = 0;
    (0..count)
        .zip(cells.iter().cycle())
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
            (1, Class::Flash, 3, 250_000, 1),
            (29, Class::Flash, 3, 250_000, 1),
            (30, Class::Flash, 3, 250_000, 3),
            (31, Class::Flash, 3, 250_000, 3),
            (750_000, Class::Flash, 3, 250_000, 3),
            (750_001, Class::Flash, 3, 250_000, 4),
            (10_000_000, Class::Flash, 8, 250_000, 40),
            (10_000_000, Class::Flash, 3, 250_000, 24),
            (10_000_000, Class::Standard, 4, 250_000, 1),
            (9, Class::Flash, 1, 250_000, 1),
            (10, Class::Flash, 0, 250_000, 0),
            (0, Class::Flash, 3, 250_000, 0),
            // What tests ask for: small sales in several buckets.
            (13, Class::Flash, 3, 13, 1),
            (14, Class::Flash, 3, 13, 2),
            (29, Class::Flash, 1, 13, 3),
            (50, Class::Flash, 3, 13, 4),
            (50, Class::Flash, 2, 1, 16),
            (3, Class::Flash, 2, 1, 3),
            (3, Class::Flash, 2, 0, 3),
        ];
        for (stock, class, n, bucket_units_max, expected) in rows {
            let plan = buckets(&sale(stock, class), &cells(n), bucket_units_max);
            assert_eq!(
                plan.len(),
                expected,
                "{stock} units, {class:?}, {n} cells, {bucket_units_max} units a bucket"
            );
        }
    }

    #[test]
    fn single_buckets_are_spread_over_the_cells() {
        let cells = cells(3);
        let mut taken: Vec<_> = (0..60)
            .flat_map(|i| {
                let sale = SaleRecord { sale: format!("s{i}"), ..sale(1, Class::Flash) };
                buckets(&sale, &cells, 250_000)
            })
            .map(|plan| plan.cell)
            .collect();
        taken.sort();
        taken.dedup();
        assert_eq!(taken.len(), 3);
    }

    proptest! {
        #[test]
        fn every_unit_is_in_exactly_one_bucket(
            stock in prop_oneof![1..60_u32, 1..=SALE_UNITS_MAX],
            n in 1_usize..20,
            bucket_units_max in prop_oneof![1..60_u32, 1..=SALE_UNITS_MAX],
        ) {
            let cells = cells(n);
            let plan = buckets(&sale(stock, Class::Flash), &cells, bucket_units_max);
            prop_assert_eq!(&plan, &buckets(&sale(stock, Class::Flash), &cells, bucket_units_max));
            let mut next = 0;
            for bucket in &plan {
                prop_assert_eq!(bucket.first_unit, next);
                prop_assert!(bucket.units > 0);
                next += bucket.units;
            }
            prop_assert_eq!(next, stock);
            let sizes = || plan.iter().map(|bucket| bucket.units);
            prop_assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1);
            let in_cell = |cell: &CellId| {
                u32::try_from(plan.iter().filter(|bucket| bucket.cell == cell.as_str()).count())
            };
            let counts: Vec<u32> = cells.iter().map(|cell| in_cell(cell).unwrap()).collect();
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            prop_assert!(most - least <= 1 && *most <= CELL_BUCKETS_MAX, "{:?}", counts);
            let full = counts.iter().all(|count| *count == CELL_BUCKETS_MAX);
            prop_assert!(sizes().all(|units| units <= bucket_units_max) || full);
        }
    }
}
