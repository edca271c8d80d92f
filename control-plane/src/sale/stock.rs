//! Changing the stock of a promised sale.
//!
//! Before its buckets are planned that is a change of a number. Afterwards units have numbers and places: new ones get
//! the numbers behind the last and are on their way to buckets from the moment they count, so that nobody is told that
//! the sale is sold out in between; those that the merchant wants back are asked of the buckets, and count as taken back
//! once a bucket has given them up. Transfers are named after the request: the same request never makes two.

use proto::fault::Fault;
use proto::limits::{SALE_UNITS_MAX, TRANSFER_UNITS_MAX, TRANSFERS_AT_ONCE_MAX};
use proto::wire::cell::transfer_record::State;
use proto::wire::cell::{BucketPlan, BucketReport, SaleRecord, TransferRecord, UnitRange};
use ring::digest;
use std::cmp::Reverse;

/// The field of the requests that says how many.
const UNITS: &str = "units";

/// A sale whose stock has changed, and what that sets on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct StockChanged {
    /// The sale. The time of the change is not set.
    pub sale: SaleRecord,
    /// New transfers.
    pub transfers: Vec<TransferRecord>,
}

/// A number of units that can be asked for at all.
///
/// # Errors
/// A complaint about none or about more than any sale has.
pub fn units(units: u32) -> Result<u32, Fault> {
    if (1..=SALE_UNITS_MAX).contains(&units) {
        Ok(units)
    } else {
        Err(Fault::field(UNITS, format!("must be 1 to {SALE_UNITS_MAX}")))
    }
}

/// Adds `units`, in equal parts to its buckets.
///
/// # Errors
/// A complaint when the sale would be too large.
pub fn add(
    sale: &SaleRecord,
    units: u32,
    request: [u8; 16],
    now_ms: u64,
) -> Result<StockChanged, Fault> {
    let stock = sale.stock.checked_add(units).filter(|stock| *stock <= SALE_UNITS_MAX);
    let Some(stock) = stock else {
        let complaint = format!("would make it more than {SALE_UNITS_MAX} units");
        return Err(Fault::field(UNITS, complaint));
    };
    let buckets = bucket_count(sale);
    let most = u32::try_from(TRANSFERS_AT_ONCE_MAX).unwrap_or(u32::MAX);
    let receivers = buckets.min(most).min(units);
    let mut transfers = Vec::new();
    let mut first = sale.stock;
    for place in 0..receivers {
        // The buckets take turns at being first.
        let bucket = (sale.stock % buckets + place) % buckets;
        let part = units / receivers + u32::from(place < units % receivers);
        let mut transfer = begin(sale, request, (bucket, 0), part, now_ms);
        transfer.to = Some(bucket);
        transfer.units = vec![UnitRange { first, units: part }];
        transfer.set_state(State::Given);
        transfers.push(transfer);
        first += part;
    }
    Ok(StockChanged { sale: SaleRecord { stock, ..sale.clone() }, transfers })
}

/// Takes up to `units` back that are free, from each bucket in proportion to what it has by its keeper's report, or was
/// planned to have before the first.
///
/// # Errors
/// A complaint when nothing would be left of a sale whose buckets are not planned.
pub fn surrender(
    sale: &SaleRecord,
    units: u32,
    reports: &[BucketReport],
    request: [u8; 16],
    now_ms: u64,
) -> Result<StockChanged, Fault> {
    if sale.buckets.is_empty() {
        let stock = sale.stock.checked_sub(units).filter(|stock| *stock > 0);
        let nothing = || Fault::field(UNITS, "would leave nothing to sell; cancel the sale");
        let sale = SaleRecord { stock: stock.ok_or_else(nothing)?, ..sale.clone() };
        return Ok(StockChanged { sale, transfers: Vec::new() });
    }
    let free = |(bucket, plan): (u32, &BucketPlan)| {
        let report = reports.iter().find(|report| report.bucket == bucket);
        (report.map_or(plan.units, |report| report.free), bucket)
    };
    let mut givers: Vec<(u32, u32)> = (0_u32..).zip(&sale.buckets).map(free).collect();
    givers.sort_by_key(|(free, bucket)| (Reverse(*free), *bucket));
    givers.truncate(TRANSFERS_AT_ONCE_MAX);
    let mut have: u64 = givers.iter().map(|(free, _)| u64::from(*free)).sum();
    let mut left = u64::from(units).min(have);
    // Reports are of a while ago, and more may be free by now: what goes beyond them is asked of all alike.
    let mut beyond = u64::from(units) - left;
    let mut others = u64::try_from(givers.len()).unwrap_or(u64::MAX);
    let mut transfers = Vec::new();
    for (free, bucket) in givers {
        // Rounded up and from what is left, so that the parts add up.
        let part = (left * u64::from(free)).div_ceil(have.max(1));
        let more = beyond.div_ceil(others);
        (left, have) = (left - part, have - u64::from(free));
        (beyond, others) = (beyond - more, others - 1);
        let mut wanted = u32::try_from(part + more).unwrap_or(u32::MAX);
        let mut place = 0;
        while wanted > 0 {
            // A giver gives no more at a time, and would leave out the rest.
            let asked = wanted.min(TRANSFER_UNITS_MAX);
            let mut transfer = begin(sale, request, (bucket, place), asked, now_ms);
            transfer.from = Some(bucket);
            transfer.set_state(State::Asked);
            transfers.push(transfer);
            (wanted, place) = (wanted - asked, place + 1);
        }
    }
    transfers.truncate(TRANSFERS_AT_ONCE_MAX);
    Ok(StockChanged { sale: sale.clone(), transfers })
}

fn bucket_count(sale: &SaleRecord) -> u32 {
    u32::try_from(sale.buckets.len()).unwrap_or(u32::MAX)
}

fn begin(
    sale: &SaleRecord,
    request: [u8; 16],
    place: (u32, u32),
    wanted: u32,
    now_ms: u64,
) -> TransferRecord {
    TransferRecord {
        sale: sale.sale.clone(),
        transfer: transfer_id(&sale.sale, request, place),
        wanted,
        create_ms: now_ms,
        ..TransferRecord::default()
    }
}

/// The first half of SHA-256(`stock`, 0, sale, 0, request, bucket, place): one of several of the same bucket.
fn transfer_id(sale: &str, request: [u8; 16], (bucket, place): (u32, u32)) -> Vec<u8> {
    let place = [bucket.to_be_bytes(), place.to_be_bytes()].concat();
    let text = [b"stock\0", sale.as_bytes(), &[0], &request, &place].concat();
    digest::digest(&digest::SHA256, &text).as_ref()[..16].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REQUEST: [u8; 16] = [7; 16];

    fn sale(stock: u32, buckets: usize) -> SaleRecord {
        let buckets = vec![BucketPlan::default(); buckets];
        SaleRecord { sale: "s01".into(), stock, buckets, ..SaleRecord::default() }
    }

    fn reports(free: &[u32]) -> Vec<BucketReport> {
        let report = |(bucket, &free)| BucketReport { bucket, free, ..BucketReport::default() };
        (0..).zip(free).map(report).collect()
    }

    #[test]
    fn before_it_is_planned_only_a_number_changes() {
        let added = add(&sale(10, 0), 5, REQUEST, 1).unwrap();
        assert_eq!((added.sale.stock, added.transfers.len()), (15, 0));
        let taken = surrender(&sale(10, 0), 9, &[], REQUEST, 1).unwrap();
        assert_eq!((taken.sale.stock, taken.sale.surrendered, taken.transfers.len()), (1, 0, 0));
        assert!(surrender(&sale(10, 0), 10, &[], REQUEST, 1).is_err());
        assert!(add(&sale(SALE_UNITS_MAX, 0), 1, REQUEST, 1).is_err());
        assert!(add(&sale(10, 0), u32::MAX, REQUEST, 1).is_err());
        assert!(units(0).is_err() && units(SALE_UNITS_MAX + 1).is_err() && units(1).is_ok());
    }

    #[test]
    fn what_is_free_is_asked_for_in_proportion() {
        let rows: [(u32, &[u32], &[u32]); 6] = [
            (10, &[10, 10], &[5, 5]),
            (10, &[30, 10], &[8, 2]),
            (3, &[1, 1, 1], &[1, 1, 1]),
            (1, &[1, 5, 1], &[0, 1, 0]),
            (100, &[3, 0, 4], &[34, 31, 35]),
            (5, &[0, 0], &[3, 2]),
        ];
        for (units, free, expected) in rows {
            let buckets = free.len();
            let taken = surrender(&sale(100, buckets), units, &reports(free), REQUEST, 1).unwrap();
            assert_eq!(taken.sale, sale(100, buckets));
            let mut asked = vec![0; buckets];
            for transfer in &taken.transfers {
                assert_eq!(
                    (transfer.state(), transfer.to, &transfer.units[..]),
                    (State::Asked, None, &[][..])
                );
                asked[transfer.from.unwrap() as usize] += transfer.wanted;
            }
            assert_eq!(asked, expected, "{units} of {free:?}");
        }
    }

    #[test]
    fn many_are_asked_for_in_parts() {
        let million =
            surrender(&sale(3_000_000, 2), 1_000_000, &reports(&[900_000; 2]), REQUEST, 1);
        let transfers = million.unwrap().transfers;
        let total: u32 = transfers.iter().map(|transfer| transfer.wanted).sum();
        let parts = 2 * 500_000_u32.div_ceil(TRANSFER_UNITS_MAX) as usize;
        assert_eq!((total, transfers.len()), (1_000_000, parts));
        // Of what is asked beyond that the giver would give nothing.
        assert!(transfers.iter().all(|transfer| transfer.wanted <= TRANSFER_UNITS_MAX));
        let mut ids: Vec<_> = transfers.iter().map(|transfer| &transfer.transfer).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), parts);
    }

    proptest! {
        #[test]
        fn new_units_get_the_next_numbers(
            stock in 1..SALE_UNITS_MAX / 2, units in prop_oneof![1..300_u32, 1..=SALE_UNITS_MAX / 2], buckets in 1_usize..130,
        ) {
            let added = add(&sale(stock, buckets), units, REQUEST, 9).unwrap();
            prop_assert_eq!(added.sale.stock, stock + units);
            let mut next = stock;
            for transfer in &added.transfers {
                prop_assert_eq!((transfer.state(), transfer.from), (State::Given, None));
                prop_assert!((transfer.to.unwrap() as usize) < buckets);
                let [range] = &transfer.units[..] else { panic!("not one range") };
                prop_assert_eq!((range.first, range.units), (next, transfer.wanted));
                prop_assert!(range.units > 0);
                next += range.units;
            }
            prop_assert_eq!(next, stock + units);
            let mut ids: Vec<_> = added.transfers.iter().map(|transfer| &transfer.transfer).collect();
            ids.sort();
            ids.dedup();
            prop_assert_eq!(ids.len(), added.transfers.len());
            prop_assert!(ids.len() <= TRANSFERS_AT_ONCE_MAX);
            prop_assert_eq!(&added, &add(&sale(stock, buckets), units, REQUEST, 9).unwrap());
        }

        #[test]
        fn so_many_are_asked_for_and_from_where_they_are(
            units in 1..300_u32, free in prop::collection::vec(0..100_u32, 1..9),
        ) {
            let taken = surrender(&sale(900, free.len()), units, &reports(&free), REQUEST, 9).unwrap();
            let total: u32 = taken.transfers.iter().map(|transfer| transfer.wanted).sum();
            prop_assert_eq!(total, units);
            let enough = units <= free.iter().sum();
            for transfer in &taken.transfers {
                prop_assert!(!enough || transfer.wanted <= free[transfer.from.unwrap() as usize]);
            }
        }
    }
}
