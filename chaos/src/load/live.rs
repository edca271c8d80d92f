//! What is going on in a load right now: counters that drills watch and one line a second shows.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::Latency;
use crate::told::PageTold;

/// Buckets of one sale that are told apart; more share the last counter.
const BUCKETS_MAX: usize = 64;

/// How a buyer's visit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// With an order that is paid.
    Paid,
    /// They held units and did not come back.
    Abandoned,
    /// They gave their units back.
    Cancelled,
    /// Their card was declined and they let go.
    Declined,
    /// Nothing was left for them.
    TooLate,
    /// They were refused for good, for another reason.
    Refused,
    /// They came too often in vain, or the run was over.
    GaveUp,
}

impl End {
    /// All of them.
    pub const ALL: [End; 7] = [
        End::Paid,
        End::Abandoned,
        End::Cancelled,
        End::Declined,
        End::TooLate,
        End::Refused,
        End::GaveUp,
    ];
}

/// Everything that is going on.
#[derive(Debug)]
pub struct Live {
    sales: Vec<SaleLive>,
    lateness: Mutex<Latency>,
}

/// What is going on in one sale. Buyers are counted once each.
#[derive(Debug)]
pub struct SaleLive {
    /// Units there are.
    pub stock: u32,
    arrived: AtomicU64,
    joined: AtomicU64,
    admitted: AtomicU64,
    held: AtomicU64,
    ends: [AtomicU64; End::ALL.len()],
    refusals: AtomicU64,
    unknown: AtomicU64,
    moved: AtomicU64,
    in_flight: AtomicU64,
    /// Units of holds that were told, by bucket; none is taken off again.
    units_told: [AtomicU64; BUCKETS_MAX],
    reserves_in_flight: [AtomicU64; BUCKETS_MAX],
    page: Mutex<Option<(Instant, PageTold)>>,
    /// Whether its buyers need not come any more.
    over: AtomicBool,
}

/// A number that is counted in one place and read in others; nothing else hangs on it.
fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A counter that goes down again when this is dropped, however a call ends.
#[derive(Debug)]
pub(super) struct InFlight<'a>(&'a AtomicU64, Option<&'a AtomicU64>);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        for counter in [Some(self.0), self.1].into_iter().flatten() {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl SaleLive {
    /// Of a sale with so many units.
    pub fn new(stock: u32) -> SaleLive {
        let counters = || std::array::from_fn(|_| AtomicU64::new(0));
        SaleLive {
            stock,
            arrived: AtomicU64::new(0),
            joined: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            held: AtomicU64::new(0),
            ends: std::array::from_fn(|_| AtomicU64::new(0)),
            refusals: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            units_told: counters(),
            reserves_in_flight: counters(),
            page: Mutex::new(None),
            over: AtomicBool::new(false),
        }
    }

    /// Buyers who came.
    pub fn arrived(&self) -> u64 {
        read(&self.arrived)
    }

    /// Buyers with a ticket.
    pub fn joined(&self) -> u64 {
        read(&self.joined)
    }

    /// Buyers who were admitted.
    pub fn admitted(&self) -> u64 {
        read(&self.admitted)
    }

    /// Buyers who held units.
    pub fn held(&self) -> u64 {
        read(&self.held)
    }

    /// Buyers whose visit ended so.
    pub fn ended(&self, end: End) -> u64 {
        read(&self.ends[end as usize])
    }

    /// Calls that were refused.
    pub fn refusals(&self) -> u64 {
        read(&self.refusals)
    }

    /// Calls whose outcome was unknown.
    pub fn unknown(&self) -> u64 {
        read(&self.unknown)
    }

    /// Calls that one router did not take, and that went to another.
    pub fn moved(&self) -> u64 {
        read(&self.moved)
    }

    /// Calls under way.
    pub fn in_flight(&self) -> u64 {
        read(&self.in_flight)
    }

    /// Reserves under way in a bucket.
    pub fn reserves_in_flight(&self, bucket: u32) -> u64 {
        read(&self.reserves_in_flight[place(bucket)])
    }

    /// Units of a bucket that were told to be held, ever.
    pub fn units_told_of(&self, bucket: u32) -> u64 {
        read(&self.units_told[place(bucket)])
    }

    /// Units that were told to be held, ever.
    pub fn units_told(&self) -> u64 {
        self.units_told.iter().map(read).sum()
    }

    /// What the sale's page showed last, and when.
    pub fn page(&self) -> Option<(Instant, PageTold)> {
        *lock(&self.page)
    }

    /// Whether nothing more is to be had.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(super) fn set_over(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(super) fn count_arrived(&self) {
        add(&self.arrived, 1);
    }

    pub(super) fn count_joined(&self) {
        add(&self.joined, 1);
    }

    pub(super) fn count_admitted(&self) {
        add(&self.admitted, 1);
    }

    pub(super) fn count_held(&self) {
        add(&self.held, 1);
    }

    pub(super) fn count_units(&self, bucket: u32, units: u64) {
        add(&self.units_told[place(bucket)], units);
    }

    pub(super) fn count_end(&self, end: End) {
        add(&self.ends[end as usize], 1);
    }

    pub(super) fn count_refusal(&self) {
        add(&self.refusals, 1);
    }

    pub(super) fn count_unknown(&self) {
        add(&self.unknown, 1);
    }

    pub(super) fn count_moved(&self) {
        add(&self.moved, 1);
    }

    pub(super) fn show_page(&self, page: PageTold) {
        *lock(&self.page) = Some((Instant::now(), page));
    }

    /// Counts a call for as long as it is under way; with the bucket when it reserves there.
    pub(super) fn fly(&self, reserves_in: Option<u32>) -> InFlight<'_> {
        let bucket = reserves_in.map(|bucket| &self.reserves_in_flight[place(bucket)]);
        add(&self.in_flight, 1);
        if let Some(counter) = bucket {
            add(counter, 1);
        }
        InFlight(&self.in_flight, bucket)
    }
}

impl Live {
    pub(super) fn new(sales: Vec<SaleLive>) -> Live {
        Live { sales, lateness: Mutex::default() }
    }

    /// A sale, in the order of the plan's crowds.
    pub fn sale(&self, number: u8) -> Option<&SaleLive> {
        self.sales.get(usize::from(number))
    }

    /// How late buyers were sent off so far, in microseconds.
    pub fn lateness(&self) -> Latency {
        lock(&self.lateness).clone()
    }

    pub(super) fn add_lateness(&self, us: u64) {
        lock(&self.lateness).add(us);
    }

    /// One line for people: how long it goes on, and what becomes of the first sale's crowd.
    pub fn line(&self, elapsed_s: f64) -> String {
        let mut line = format!("{elapsed_s:5.1} s");
        let Some(sale) = self.sales.first() else { return line };
        let waiting = sale.joined().saturating_sub(sale.admitted() + sale.ended(End::TooLate));
        let in_flight: u64 = self.sales.iter().map(SaleLive::in_flight).sum();
        // Writing to a string fails never.
        write!(
            line,
            "  came {:>5} waiting {waiting:>5} admitted {:>4}",
            sale.arrived(),
            sale.admitted()
        )
        .ok();
        if let Some((_, page)) = sale.page() {
            write!(line, "  free {:>4} held {:>3} paid {:>4}", page.free, page.held, page.sold)
                .ok();
        }
        write!(
            line,
            "  refused {:>4} unknown {:>3}  late {:.0} ms  in flight {in_flight}",
            sale.refusals(),
            sale.unknown(),
            std::time::Duration::from_micros(self.lateness().at(0.99)).as_secs_f64() * 1e3,
        )
        .ok();
        line
    }
}

fn place(bucket: u32) -> usize {
    usize::try_from(bucket).unwrap_or(BUCKETS_MAX).min(BUCKETS_MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_under_way_is_counted_until_it_ends() {
        let sale = SaleLive::new(10);
        let first = sale.fly(Some(2));
        let second = sale.fly(None);
        assert_eq!((sale.in_flight(), sale.reserves_in_flight(2)), (2, 1));
        drop(first);
        drop(second);
        assert_eq!((sale.in_flight(), sale.reserves_in_flight(2)), (0, 0));
    }

    #[test]
    fn a_line_tells_what_goes_on() {
        let live = Live::new(vec![SaleLive::new(10)]);
        let sale = live.sale(0).unwrap();
        sale.count_arrived();
        sale.count_units(1, 2);
        sale.count_end(End::Paid);
        sale.show_page(PageTold { free: 7, held: 2, sold: 1, sold_out: false, stale: false });
        live.add_lateness(1_500);
        let line = live.line(1.25);
        for words in ["1.2 s", "came     1", "free    7", "held   2", "late 2 ms"] {
            assert!(line.contains(words), "{words}: {line}");
        }
        assert_eq!((sale.units_told(), sale.units_told_of(1), sale.ended(End::Paid)), (2, 2, 1));
    }
}
