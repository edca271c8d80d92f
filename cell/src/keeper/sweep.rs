//! The sweep: holds whose time is over end, and their units return.
//!
//! Many holds that end together are swept in small batches, with rests between them in which others have the bucket's row
//! and the processors to themselves.
//!
//! It decides by an estimate of Postgres' clock and waits a moment longer than that; Postgres checks again. Paying
//! stops the sweep, not the clock. A sale that was called off gives its held orders back. While the cell's clocks part
//! nothing expires: a hold that lasts too long can be mended, one that was taken away cannot.

use super::{Book, Keeper};
use crate::ledger::Move;
use proto::limits::{SWEEP_LATE_MS, SWEEP_MOVES_MAX};
use proto::wire::events::ledger_entry::Kind;
use proto::wire::storefront::sale_state::Phase;
use std::time::Duration;

/// How much longer than its deadline an order lives here, so that Postgres agrees that its time is over.
const MARGIN_US: i64 = 50_000;
/// See [`SWEEP_LATE_MS`].
const LATE: Duration = Duration::from_millis(SWEEP_LATE_MS);
/// How long it rests for each second that it works. Evenly: who buys meanwhile waits longest where it rests least.
const REST: f64 = 1.0;
/// It rests less in the last of so many parts of [`LATE`].
const HURRY: f64 = 4.0;
/// When an order is tried again that Postgres would not end although it should.
const AGAIN_US: i64 = 1_000_000;

/// What there is to sweep now, at most `most`, the longest overdue first.
pub(super) fn due(keeper: &Keeper, most: usize) -> Vec<Move> {
    let time = &keeper.ports.time;
    let Some(now_us) = time.now_us() else { return Vec::new() };
    plan(&keeper.book(), now_us, time.is_sure(), most)
}

/// How late the sweep is, up to where it is as late as it may be before it rests no more.
fn late(keeper: &Keeper) -> Duration {
    let first_us = keeper.book().first_due();
    let late_us = keeper.now_us().zip(first_us).map_or(0, |(now_us, first_us)| now_us - first_us);
    let late = Duration::from_micros(u64::try_from(late_us).unwrap_or(0));
    late.min(LATE)
}

/// How many orders the sweep takes into its next batch, of `most` at most.
pub(super) fn slice(keeper: &Keeper, most: usize) -> usize {
    slice_when(late(keeper), most)
}

/// How long the sweep rests after a batch that took `took`.
pub(super) fn rest_after(keeper: &Keeper, took: Duration) -> Duration {
    rest_when(late(keeper), took)
}

fn slice_when(late: Duration, most: usize) -> usize {
    if late < LATE { SWEEP_MOVES_MAX.min(most) } else { most }
}

fn rest_when(late: Duration, took: Duration) -> Duration {
    let in_time = (LATE - late).div_duration_f64(LATE) * HURRY;
    took.min(LATE).mul_f64(REST * in_time.min(1.0))
}

/// The ledger would not end an order that should be over: it is left alone for a while.
pub(super) fn leave_for_now(keeper: &Keeper, step: &Move) {
    tracing::error!(order = %step.order, kind = ?step.kind, "the ledger does not end an order whose time is over");
    let again_us = keeper.now_us().map(|now_us| now_us + AGAIN_US);
    // An order that cannot be given back has no time to wait for: the next take-over reads what is true of it.
    let from_us = again_us.filter(|_| step.kind == Kind::Expired);
    keeper.book().postpone(step.order, from_us.unwrap_or(i64::MAX));
}

fn plan(book: &Book, now_us: i64, is_sure: bool, most: usize) -> Vec<Move> {
    let (until_us, kind) = match book.terms.phase(now_us) {
        // Whatever their deadlines are, but for those that were put off for good.
        Phase::Cancelled => (i64::MAX - 1, Kind::Cancelled),
        _ if !is_sure => return Vec::new(),
        _ => (now_us - MARGIN_US, Kind::Expired),
    };
    let step = |order| book.order(order).map(|live| Move::plain(order, kind, live.units.clone()));
    book.due(until_us, most).into_iter().filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::{Live, SaleTerms};
    use proto::id::{BuyerKey, OrderId};
    use proto::wire::cell::{BucketPlan, SaleRecord, sale_record};
    use proto::wire::storefront::order::State;
    use tokio::sync::watch;

    fn book(state: sale_record::State) -> Book {
        let record = SaleRecord {
            stock: 9,
            end_ms: 1_000_000,
            state: state.into(),
            buckets: vec![BucketPlan { cell: "cell-1".into(), first_unit: 0, units: 9 }],
            ..SaleRecord::default()
        };
        let mut book = Book::closed(SaleTerms::new(record, 0).unwrap());
        for (number, deadline_us) in [(1, 1_000_000), (2, 2_000_000), (3, 2_500_000)] {
            let live = Live {
                buyer: BuyerKey([number; 16]),
                units: vec![number.into()],
                state: State::Held,
                ticket: number.into(),
                deadline_us,
                amount_minor: 1,
                attempts: 0,
                intent: None,
                attempt: None,
            };
            book.hold(OrderId([number; 16]), live);
        }
        book
    }

    #[test]
    fn it_rests_as_long_as_it_works_until_it_is_nearly_late() {
        let ms = Duration::from_millis;
        // How late, how long a batch took; how long it rests, and how many of 256 it takes.
        let rows = [
            (ms(0), ms(6), ms(6), SWEEP_MOVES_MAX),
            (LATE / 2, ms(6), ms(6), SWEEP_MOVES_MAX),
            (LATE * 7 / 8, ms(6), ms(3), SWEEP_MOVES_MAX),
            (LATE, ms(6), ms(0), 256),
            (ms(0), ms(60_000), LATE, SWEEP_MOVES_MAX),
        ];
        for (late, took, rests, takes) in rows {
            assert_eq!((rest_when(late, took), slice_when(late, 256)), (rests, takes), "{late:?}");
        }
        assert_eq!(slice_when(ms(0), 16), 16, "no more than a batch holds");
    }

    #[test]
    fn what_is_overdue_and_idle_expires_and_nothing_while_the_clocks_part() {
        let swept = |book: &Book, now_us, is_sure, most| -> Vec<(u8, Kind)> {
            let moves = plan(book, now_us, is_sure, most);
            moves.iter().map(|step| (step.order.0[0], step.kind)).collect()
        };
        let mut warm = book(sale_record::State::Warm);
        let over =
            |numbers: &[u8]| -> Vec<_> { numbers.iter().map(|&n| (n, Kind::Expired)).collect() };
        assert_eq!(swept(&warm, 1_000_000, true, 9), over(&[]), "Postgres may not think so yet");
        assert_eq!(swept(&warm, 1_050_000, true, 9), over(&[1]));
        assert_eq!(swept(&warm, 9_000_000, true, 2), over(&[1, 2]));
        assert_eq!(swept(&warm, 9_000_000, false, 9), over(&[]), "the clocks part");
        warm.begin_attempt(OrderId([2; 16]), watch::channel(None).1);
        assert_eq!(swept(&warm, 9_000_000, true, 9), over(&[1, 3]), "somebody is at it");
        warm.turn(OrderId([1; 16]), State::Paying);
        warm.end_attempt(OrderId([2; 16]));
        assert_eq!(swept(&warm, 9_000_000, true, 9), over(&[2, 3]), "paying stops the sweep");
        warm.postpone(OrderId([3; 16]), 9_500_000);
        assert_eq!(swept(&warm, 9_000_000, true, 9), over(&[2]));
        assert_eq!(swept(&warm, 9_550_000, true, 9), over(&[2, 3]));

        let mut off = book(sale_record::State::Cancelled);
        off.postpone(OrderId([2; 16]), i64::MAX);
        let given_back = vec![(1, Kind::Cancelled), (3, Kind::Cancelled)];
        assert_eq!(swept(&off, 0, false, 9), given_back, "whatever the clocks say");
    }
}
