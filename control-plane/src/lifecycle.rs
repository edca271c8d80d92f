//! The lifecycle of a sale: the state that is shown, what may be asked of it then, and what is due by itself.
//!
//! The record says what has been decided; OPEN and ENDED follow from the clock, so nobody has to be alive for a sale
//! to open or end. All functions here are pure: the time is an argument. This clock serves display and readiness; cells
//! open and end a sale by the clock of their own Postgres.

use proto::fault::{Fault, Reason};
use proto::wire::admin::sale::{Class, State as Shown};
use proto::wire::cell::sale_record::State as Decided;
use proto::wire::cell::{BucketReport, SaleRecord};

/// How long after the newest report one may come that changes the sum.
const BOOKS_WAIT_MS: u64 = 10_000;

/// The state of a sale as merchants see it.
pub fn shown(sale: &SaleRecord, now_ms: u64) -> Shown {
    let over = now_ms >= sale.end_ms;
    match sale.state() {
        Decided::Unspecified => Shown::Unspecified,
        Decided::Draft => Shown::Draft,
        Decided::Settled => Shown::Settled,
        Decided::Cancelled => Shown::Cancelled,
        Decided::Scheduled | Decided::Warming | Decided::Warm if over => Shown::Ended,
        Decided::Scheduled => Shown::Scheduled,
        Decided::Warming => Shown::Warming,
        Decided::Warm if now_ms < sale.start_ms => Shown::Warming,
        Decided::Warm if sale.paused => Shown::Paused,
        Decided::Warm => Shown::Open,
    }
}

/// What a merchant asks of a sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Change its terms.
    Update,
    /// Commit to its times.
    Schedule,
    /// Stop new holds for a while.
    Pause,
    /// End a pause.
    Resume,
    /// Call it off.
    Cancel,
    /// Add units or take some back.
    ChangeStock,
}

/// What comes of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Do,
    /// It is so already: the sale is shown as it is.
    Already,
}

/// Whether `act` may be done to the sale now.
///
/// # Errors
/// [`Reason::SaleStateConflict`] when the sale's state does not allow it.
pub fn allow(act: Act, sale: &SaleRecord, now_ms: u64) -> Result<Verdict, Fault> {
    use Verdict::{Already, Do};
    let promised = |done: bool| if done { Ok(Already) } else { Ok(Do) };
    match (act, shown(sale, now_ms)) {
        (Act::Update | Act::Schedule | Act::Cancel, Shown::Draft) => Ok(Do),
        (act, Shown::Scheduled | Shown::Warming | Shown::Open | Shown::Paused) => match act {
            Act::Update | Act::Cancel | Act::ChangeStock => Ok(Do),
            Act::Schedule => Ok(Already),
            Act::Pause => promised(sale.paused),
            Act::Resume => promised(!sale.paused),
        },
        (Act::Cancel, Shown::Ended) => Ok(Do),
        (Act::Cancel, Shown::Cancelled) => Ok(Already),
        _ => Err(Fault::new(Reason::SaleStateConflict)),
    }
}

/// What the executor has to do for a sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Plan its buckets: cells begin to accept them.
    Plan,
    /// Every bucket has been accepted.
    Warm,
    /// No order is live any more.
    Settle {
        /// Units paid, over all buckets.
        sold: u32,
    },
}

/// The step that is due for a sale, given what its keepers report and whether units of it are on their way.
///
/// A sale that was called off settles as soon as its keepers say so; any other after its end. None does while units are
/// on their way, nor, for a while after the last report, when the reports do not add up: another one may be coming.
pub fn due(
    sale: &SaleRecord,
    reports: &[BucketReport],
    on_their_way: bool,
    now_ms: u64,
    warm_lead_ms: u64,
) -> Option<Step> {
    let over = now_ms >= sale.end_ms;
    let newest_ms = reports.iter().map(|report| report.at_ms).max().unwrap_or(0);
    let all_told = adds_up(sale, reports) || now_ms >= newest_ms.saturating_add(BOOKS_WAIT_MS);
    let settled = || {
        let sold = settled(sale, reports).filter(|_| !on_their_way && all_told)?;
        Some(Step::Settle { sold })
    };
    match sale.state() {
        Decided::Scheduled if over => settled(),
        Decided::Scheduled => {
            let near = now_ms.saturating_add(warm_lead_ms) >= sale.start_ms;
            (near || sale.class == i32::from(Class::Standard)).then_some(Step::Plan)
        }
        Decided::Warming | Decided::Warm if over => settled(),
        Decided::Warming => all(sale, reports, |report| report.warm).then_some(Step::Warm),
        Decided::Cancelled if !is_final(sale) => settled(),
        Decided::Unspecified
        | Decided::Draft
        | Decided::Warm
        | Decided::Settled
        | Decided::Cancelled => None,
    }
}

/// Whether nothing will ever be due for this sale again.
pub fn is_final(sale: &SaleRecord) -> bool {
    match sale.state() {
        Decided::Settled => true,
        Decided::Cancelled => sale.buckets.is_empty(),
        _ => false,
    }
}

/// Units that a sale's buckets say were granted to them.
pub fn granted(sale: &SaleRecord, reports: &[BucketReport]) -> u64 {
    let reports = reports.iter().filter(|report| in_list(sale, report));
    reports.map(|report| u64::from(report.granted)).sum()
}

/// INV-2 over a sale of which no unit is on its way: what its buckets have is its stock without what was taken back.
/// A sale that was never planned has no buckets, and nothing to add up.
pub fn adds_up(sale: &SaleRecord, reports: &[BucketReport]) -> bool {
    let stock = u64::from(sale.stock.saturating_sub(sale.surrendered));
    sale.buckets.is_empty() || granted(sale, reports) == stock
}

/// Units paid, once every bucket has come to rest.
fn settled(sale: &SaleRecord, reports: &[BucketReport]) -> Option<u32> {
    let paid = || reports.iter().filter(|report| in_list(sale, report)).map(|report| report.paid);
    all(sale, reports, |report| report.settled).then(|| paid().fold(0, u32::saturating_add))
}

fn all(sale: &SaleRecord, reports: &[BucketReport], ready: impl Fn(&BucketReport) -> bool) -> bool {
    (0_u32..)
        .zip(&sale.buckets)
        .all(|(bucket, _)| reports.iter().any(|report| report.bucket == bucket && ready(report)))
}

fn in_list(sale: &SaleRecord, report: &BucketReport) -> bool {
    usize::try_from(report.bucket).is_ok_and(|bucket| bucket < sale.buckets.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::wire::cell::BucketPlan;

    const START_MS: u64 = 100_000;
    const END_MS: u64 = 200_000;
    const LEAD_MS: u64 = 10_000;
    const BEFORE: u64 = START_MS - 1;
    const DURING: u64 = START_MS;
    const AFTER: u64 = END_MS;

    fn sale(state: Decided) -> SaleRecord {
        let buckets = match state {
            Decided::Draft | Decided::Scheduled => 0,
            _ => 2,
        };
        SaleRecord {
            state: state.into(),
            class: Class::Flash.into(),
            start_ms: START_MS,
            end_ms: END_MS,
            buckets: vec![BucketPlan::default(); buckets],
            ..SaleRecord::default()
        }
    }

    fn paused(state: Decided) -> SaleRecord {
        SaleRecord { paused: true, ..sale(state) }
    }

    #[test]
    fn shown_states() {
        let rows = [
            (sale(Decided::Draft), BEFORE, Shown::Draft),
            (sale(Decided::Draft), AFTER, Shown::Draft),
            (sale(Decided::Scheduled), BEFORE, Shown::Scheduled),
            (sale(Decided::Scheduled), DURING, Shown::Scheduled),
            (sale(Decided::Scheduled), AFTER, Shown::Ended),
            (sale(Decided::Warming), BEFORE, Shown::Warming),
            (sale(Decided::Warming), DURING, Shown::Warming),
            (sale(Decided::Warming), AFTER, Shown::Ended),
            (sale(Decided::Warm), BEFORE, Shown::Warming),
            (sale(Decided::Warm), DURING, Shown::Open),
            (sale(Decided::Warm), AFTER - 1, Shown::Open),
            (sale(Decided::Warm), AFTER, Shown::Ended),
            (paused(Decided::Warm), BEFORE, Shown::Warming),
            (paused(Decided::Warm), DURING, Shown::Paused),
            (paused(Decided::Warm), AFTER, Shown::Ended),
            (sale(Decided::Settled), AFTER, Shown::Settled),
            (sale(Decided::Cancelled), BEFORE, Shown::Cancelled),
            (sale(Decided::Cancelled), AFTER, Shown::Cancelled),
        ];
        for (sale, now_ms, expected) in rows {
            assert_eq!(shown(&sale, now_ms), expected, "{:?} at {now_ms}", sale.state());
        }
    }

    #[test]
    fn what_may_be_asked_when() {
        let acts =
            [Act::Update, Act::Schedule, Act::Pause, Act::Resume, Act::Cancel, Act::ChangeStock];
        // One letter an act, in that order: d is done, a is so already, - is refused.
        let rows = [
            (sale(Decided::Draft), BEFORE, "dd--d-"),
            (sale(Decided::Scheduled), BEFORE, "dadadd"),
            (paused(Decided::Scheduled), BEFORE, "daaddd"),
            (sale(Decided::Warming), BEFORE, "dadadd"),
            (sale(Decided::Warm), BEFORE, "dadadd"),
            (sale(Decided::Warm), DURING, "dadadd"),
            (paused(Decided::Warm), DURING, "daaddd"),
            (sale(Decided::Warm), AFTER, "----d-"),
            (sale(Decided::Settled), AFTER, "------"),
            (sale(Decided::Cancelled), DURING, "----a-"),
        ];
        for (sale, now_ms, expected) in rows {
            let verdicts: String = acts
                .iter()
                .map(|&act| match allow(act, &sale, now_ms) {
                    Ok(Verdict::Do) => 'd',
                    Ok(Verdict::Already) => 'a',
                    Err(fault) => {
                        assert_eq!(fault.reason, Reason::SaleStateConflict);
                        '-'
                    }
                })
                .collect();
            assert_eq!(verdicts, expected, "{:?} at {now_ms}", sale.state());
        }
    }

    fn report(bucket: u32, warm: bool, settled: bool, paid: u32) -> BucketReport {
        BucketReport { bucket, warm, settled, paid, ..BucketReport::default() }
    }

    #[test]
    fn what_is_due() {
        let standard = SaleRecord { class: Class::Standard.into(), ..sale(Decided::Scheduled) };
        let warm = [report(0, true, false, 0), report(1, true, false, 0)];
        let half = [report(0, true, true, 5)];
        let done = [report(0, true, true, 5), report(1, true, true, 6), report(2, true, true, 100)];
        let other = [report(0, true, true, 5), report(2, true, true, 6)];
        let unplanned = SaleRecord { buckets: Vec::new(), ..sale(Decided::Cancelled) };
        let settle = |sold| Some(Step::Settle { sold });
        let rows: [(&SaleRecord, &[BucketReport], u64, Option<Step>); 19] = [
            (&sale(Decided::Draft), &[], DURING, None),
            (&sale(Decided::Draft), &[], AFTER, None),
            (&sale(Decided::Scheduled), &[], START_MS - LEAD_MS - 1, None),
            (&sale(Decided::Scheduled), &[], START_MS - LEAD_MS, Some(Step::Plan)),
            (&sale(Decided::Scheduled), &[], DURING, Some(Step::Plan)),
            (&sale(Decided::Scheduled), &[], AFTER, settle(0)),
            (&standard, &[], 0, Some(Step::Plan)),
            (&sale(Decided::Warming), &[], BEFORE, None),
            (&sale(Decided::Warming), &half, BEFORE, None),
            (&sale(Decided::Warming), &other, BEFORE, None),
            (&sale(Decided::Warming), &warm, BEFORE, Some(Step::Warm)),
            (&sale(Decided::Warming), &warm, AFTER, None),
            (&sale(Decided::Warm), &done, DURING, None),
            (&sale(Decided::Warm), &half, AFTER, None),
            (&sale(Decided::Warm), &done, AFTER, settle(11)),
            (&sale(Decided::Cancelled), &warm, DURING, None),
            (&sale(Decided::Cancelled), &done, DURING, settle(11)),
            (&unplanned, &done, AFTER, None),
            (&sale(Decided::Settled), &done, AFTER, None),
        ];
        for (sale, reports, now_ms, expected) in rows {
            let step = due(sale, reports, false, now_ms, LEAD_MS);
            assert_eq!(step, expected, "{:?} at {now_ms} with {reports:?}", sale.state());
        }
    }

    #[test]
    fn nothing_settles_before_its_books_are_complete() {
        let reported = |granted, at_ms| BucketReport { granted, at_ms, ..report(0, true, true, 3) };
        let one = |surrendered| SaleRecord {
            stock: 10,
            surrendered,
            buckets: vec![BucketPlan::default()],
            ..sale(Decided::Warm)
        };
        let settle = Some(Step::Settle { sold: 3 });
        let rows = [
            (one(0), reported(10, AFTER), false, AFTER, settle),
            (one(4), reported(6, AFTER), false, AFTER, settle),
            (one(0), reported(10, AFTER), true, AFTER, None),
            (one(0), reported(9, AFTER), false, AFTER, None),
            (one(4), reported(10, AFTER), false, AFTER, None),
            (one(0), reported(9, AFTER), false, AFTER + BOOKS_WAIT_MS - 1, None),
            // What does not add up then never will; it is told, see the metrics.
            (one(0), reported(9, AFTER), false, AFTER + BOOKS_WAIT_MS, settle),
            (one(0), reported(9, AFTER), true, AFTER + BOOKS_WAIT_MS, None),
        ];
        for (sale, report, on_their_way, now_ms, expected) in rows {
            let step = due(&sale, std::slice::from_ref(&report), on_their_way, now_ms, LEAD_MS);
            assert_eq!(step, expected, "{report:?} at {now_ms}, {on_their_way}");
        }
    }

    #[test]
    fn what_is_final() {
        assert!(is_final(&sale(Decided::Settled)));
        assert!(is_final(&SaleRecord { buckets: Vec::new(), ..sale(Decided::Cancelled) }));
        for state in [Decided::Draft, Decided::Scheduled, Decided::Warm, Decided::Cancelled] {
            assert!(!is_final(&sale(state)), "{state:?}");
        }
    }
}
