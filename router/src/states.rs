//! What keepers say of their buckets: the highest (epoch, version) that was seen of each, and who said it.
//!
//! Tickets, pages and the way to a keeper are answered from here, in memory. What was not heard of for a second is
//! shown all the same, marked as old.

use crate::directory::SaleEntry;
use crate::link::Process;
use crate::overflow::Overflow;
use proto::limits::STATE_STALE_MS;
use proto::wire::cell::{BucketState, SaleRecord};
use proto::wire::storefront::{SaleState, sale_state::Phase};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;

/// What is known of a bucket.
#[derive(Clone, Debug)]
pub(crate) struct BucketNow {
    pub(crate) state: BucketState,
    pub(crate) keeper: Arc<Process>,
    /// Under which epoch it is the keeper: not before the state's.
    epoch: u64,
}

/// What is known of a sale's buckets.
#[derive(Debug)]
pub(crate) struct SaleNow {
    buckets: Mutex<HashMap<u32, BucketNow>>,
    changed: watch::Sender<u64>,
}

/// What is known of all buckets.
#[derive(Debug, Default)]
pub(crate) struct States {
    sales: RwLock<HashMap<Box<str>, Arc<SaleNow>>>,
    /// What overflow cells say.
    pub(crate) lines: Overflow,
}

impl States {
    /// A keeper spoke.
    pub(crate) fn hear(&self, state: BucketState, keeper: &Arc<Process>) {
        let sale = self.sale(&state.sale);
        let mut buckets = lock(&sale.buckets);
        let rank = |state: &BucketState| (state.epoch, state.version);
        let newer =
            buckets.get(&state.bucket).is_none_or(|known| rank(&known.state) < rank(&state));
        if newer {
            let (bucket, epoch) = (state.bucket, state.epoch);
            // What a keeper says that was deposed is true of the bucket, and not of who keeps it.
            let heir = buckets.get(&bucket).filter(|known| known.epoch > epoch);
            let (keeper, epoch) =
                heir.map_or((keeper.clone(), epoch), |known| (known.keeper.clone(), known.epoch));
            buckets.insert(bucket, BucketNow { state, keeper, epoch });
            drop(buckets);
            sale.changed.send_modify(|version| *version += 1);
        }
    }

    /// A process says that another one keeps a bucket under `epoch`, which counts until something newer is heard. What the
    /// bucket's state is, its next keeper will say.
    pub(crate) fn moved(&self, sale: &str, bucket: u32, epoch: u64, keeper: &Arc<Process>) {
        let sale = self.sale(sale);
        let mut buckets = lock(&sale.buckets);
        if let Some(known) = buckets.get_mut(&bucket)
            && known.epoch < epoch
        {
            known.keeper = keeper.clone();
            known.epoch = epoch;
        }
    }

    /// What is known of a bucket.
    pub(crate) fn bucket(&self, sale: &str, bucket: u32) -> Option<BucketNow> {
        let sales = self.sales.read().unwrap_or_else(PoisonError::into_inner);
        let sale = sales.get(sale)?;
        lock(&sale.buckets).get(&bucket).cloned()
    }

    /// Sees a change whenever a keeper of the sale speaks.
    pub(crate) fn watch(&self, sale: &str) -> watch::Receiver<u64> {
        self.sale(sale).changed.subscribe()
    }

    /// Something was decided: whoever watches looks again.
    pub(crate) fn look_again(&self) {
        let sales = self.sales.read().unwrap_or_else(PoisonError::into_inner);
        for sale in sales.values() {
            sale.changed.send_modify(|version| *version += 1);
        }
    }

    /// Whether no unit of the sale is free, live, in transit, or unheard of: final while nobody adds stock.
    pub(crate) fn is_sold_out(&self, entry: &SaleEntry) -> bool {
        let sales = self.sales.read().unwrap_or_else(PoisonError::into_inner);
        let Some(sale) = sales.get(entry.id.as_str()) else { return false };
        let buckets = lock(&sale.buckets);
        is_gone(&entry.record, buckets.values().map(|now| &now.state))
    }

    /// Units that the sale offers and nobody has paid for, as far as was heard.
    pub(crate) fn left(&self, entry: &SaleEntry) -> u64 {
        let sales = self.sales.read().unwrap_or_else(PoisonError::into_inner);
        let paid = sales.get(entry.id.as_str()).map_or(0, |sale| {
            lock(&sale.buckets).values().map(|now| u64::from(now.state.paid)).sum()
        });
        offered(&entry.record).saturating_sub(paid)
    }

    /// A sale as its page shows it; `now_ms` serves while no keeper has spoken.
    pub(crate) fn page(&self, entry: &SaleEntry, now_ms: u64) -> SaleState {
        let record = &entry.record;
        let mut page = SaleState {
            sale: entry.name.to_string(),
            phase: decided_phase(entry, now_ms).into(),
            stock: offered(record),
            sold_out: self.is_sold_out(entry),
            ..SaleState::default()
        };
        let sale = self.sale(entry.id.as_str());
        let buckets = lock(&sale.buckets);
        let mut heard = 0;
        for now in buckets.values() {
            let state = &now.state;
            page.free += u64::from(state.free);
            page.held += u64::from(state.live);
            page.sold += u64::from(state.paid);
            page.waiting += state.joined.saturating_sub(state.cursor);
            let fresh = now.keeper.silence() < Duration::from_millis(STATE_STALE_MS);
            heard += u32::from(fresh);
        }
        page.stale = heard < entry.buckets();
        if record.start_ms > now_ms && page.phase == i32::from(Phase::Upcoming) {
            let left_ms = record.start_ms - now_ms;
            page.opens_in = Some(crate::api::duration_ms(left_ms));
        }
        page
    }

    fn sale(&self, sale: &str) -> Arc<SaleNow> {
        let known = self.sales.read().unwrap_or_else(PoisonError::into_inner).get(sale).cloned();
        known.unwrap_or_else(|| {
            let mut sales = self.sales.write().unwrap_or_else(PoisonError::into_inner);
            let new =
                || Arc::new(SaleNow { buckets: Mutex::default(), changed: watch::Sender::new(0) });
            sales.entry(sale.into()).or_insert_with(new).clone()
        })
    }
}

/// Whether everything that a sale offers is paid for. A bucket that was not heard of has what the others lack, and units
/// in transit are paid for by nobody, so both keep it from this.
fn is_gone<'a>(record: &SaleRecord, buckets: impl Iterator<Item = &'a BucketState>) -> bool {
    let mut paid = 0;
    for bucket in buckets {
        if bucket.free > 0 || bucket.live > 0 {
            return false;
        }
        paid += u64::from(bucket.paid);
    }
    paid >= offered(record)
}

/// The units that a sale offers: those that the merchant took back are offered no more.
fn offered(record: &SaleRecord) -> u64 {
    record.stock.saturating_sub(record.surrendered).into()
}

/// What the sale's record says of now.
pub(crate) fn decided_phase(entry: &SaleEntry, now_ms: u64) -> Phase {
    use proto::wire::cell::sale_record::State;
    let record = &entry.record;
    match record.state() {
        State::Cancelled => Phase::Cancelled,
        State::Settled => Phase::Ended,
        _ if now_ms >= record.end_ms => Phase::Ended,
        State::Warm if record.paused => Phase::Paused,
        State::Warm if now_ms >= record.start_ms => Phase::Open,
        _ => Phase::Upcoming,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::ProcessEntry;

    fn process(name: &str) -> Arc<Process> {
        let entry = ProcessEntry {
            cell: "cell-1".into(),
            process: name.into(),
            address: "http://127.0.0.1:1".into(),
        };
        Arc::new(Process::alone(entry))
    }

    /// Somebody speaks: who keeps the bucket says its state, another one says who keeps it.
    enum Word {
        State { by: usize, epoch: u64, version: u64 },
        Elsewhere { at: usize, epoch: u64 },
    }

    #[test]
    fn the_newest_word_says_who_keeps_a_bucket() {
        use Word::{Elsewhere, State};
        let processes = ["p1", "p2", "p3"].map(process);
        let states = States::default();
        let rows = [
            // What is said, and then: keeper, epoch and version of the state.
            (Elsewhere { at: 1, epoch: 9 }, None),
            (State { by: 0, epoch: 3, version: 7 }, Some(("p1", 3, 7))),
            (Elsewhere { at: 1, epoch: 3 }, Some(("p1", 3, 7))),
            (Elsewhere { at: 1, epoch: 4 }, Some(("p2", 3, 7))),
            // The old keeper's last word changes what is shown and not where calls go.
            (State { by: 0, epoch: 3, version: 8 }, Some(("p2", 3, 8))),
            (State { by: 1, epoch: 5, version: 0 }, Some(("p2", 5, 0))),
            (Elsewhere { at: 0, epoch: 4 }, Some(("p2", 5, 0))),
            (State { by: 0, epoch: 3, version: 9 }, Some(("p2", 5, 0))),
            (Elsewhere { at: 2, epoch: 6 }, Some(("p3", 5, 0))),
            (State { by: 2, epoch: 7, version: 1 }, Some(("p3", 7, 1))),
        ];
        for (number, (word, wanted)) in rows.into_iter().enumerate() {
            match word {
                State { by, epoch, version } => {
                    let sale = "s01".into();
                    let state = BucketState { sale, epoch, version, ..BucketState::default() };
                    states.hear(state, &processes[by]);
                }
                Elsewhere { at, epoch } => states.moved("s01", 0, epoch, &processes[at]),
            }
            let now = states.bucket("s01", 0);
            let known = now
                .as_ref()
                .map(|now| (&*now.keeper.entry.process, now.state.epoch, now.state.version));
            assert_eq!(known, wanted, "after word {number}");
        }
    }

    #[test]
    fn a_sale_is_sold_out_when_all_that_it_offers_is_paid_for() {
        let bucket =
            |(free, live, paid)| BucketState { free, live, paid, ..BucketState::default() };
        for (buckets, (stock, surrendered), gone) in [
            (&[(0, 0, 6), (0, 0, 4)][..], (10, 0), true),
            (&[(0, 0, 6)], (10, 0), false),
            (&[(0, 0, 6), (0, 1, 3)], (10, 0), false),
            (&[(0, 0, 6), (1, 0, 3)], (10, 0), false),
            // One is in transit, or the merchant has it.
            (&[(0, 0, 6), (0, 0, 3)], (10, 0), false),
            (&[(0, 0, 6), (0, 0, 3)], (10, 1), true),
            // What was taken back is counted, and an older word of a bucket still has it free.
            (&[(0, 0, 6), (1, 0, 3)], (10, 1), false),
            // One was added.
            (&[(0, 0, 6), (0, 0, 4)], (11, 0), false),
            (&[], (10, 0), false),
        ] {
            let states: Vec<_> = buckets.iter().copied().map(bucket).collect();
            let record = SaleRecord { stock, surrendered, ..SaleRecord::default() };
            assert_eq!(is_gone(&record, states.iter()), gone, "{buckets:?} {stock} {surrendered}");
        }
    }

    #[test]
    fn a_page_shows_what_the_sale_offers() {
        for (stock, surrendered, shown) in [(10, 0, 10), (10, 4, 6), (14, 4, 10), (10, 10, 0)] {
            let (org, sale) = ("acme".into(), "s01".into());
            let record = SaleRecord { org, sale, stock, surrendered, ..SaleRecord::default() };
            let entry = SaleEntry::new(record).unwrap();
            let page = States::default().page(&entry, 1);
            assert_eq!(page.stock, shown, "{stock} without {surrendered}");
        }
    }
}
