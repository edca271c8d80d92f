//! A view: what the page of a sale shows at a moment, and for how long at most.

use crate::api::Edge;
use crate::directory::SaleEntry;
use bytes::Bytes;
use proto::wire::storefront::SaleState;
use runtime::server::Frames;
use std::time::Duration;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Without the time until it opens, which alone is no news: watchers can count.
    page: SaleState,
    opens_in: Option<prost_types::Duration>,
    /// When it opens, while it shows how long that is.
    opens_ms: Option<u64>,
    /// Until time alone changes it.
    pub(super) turns_in: Duration,
}

impl View {
    /// The sale as the newest decision has it.
    pub(super) fn of(edge: &Edge, sale: &SaleEntry) -> View {
        let directory = edge.directory.load();
        let newest = directory.sale(&sale.org, &sale.id).map_or(sale, |newest| newest);
        let (now_ms, record) = (edge.clock.now_ms(), &newest.record);
        let page = edge.states.page(newest, now_ms);
        View::new(page, (record.start_ms, record.end_ms), now_ms)
    }

    /// A page at a moment of a sale that opens and ends at these times.
    pub(super) fn new(mut page: SaleState, (start_ms, end_ms): (u64, u64), now_ms: u64) -> View {
        let coming = [start_ms, end_ms].into_iter().filter_map(|at_ms| at_ms.checked_sub(now_ms));
        let turns_in_ms = coming.filter(|in_ms| *in_ms > 0).min().unwrap_or(u64::MAX);
        let opens_in = page.opens_in.take();
        let opens_ms = opens_in.is_some().then_some(start_ms);
        View { page, opens_in, opens_ms, turns_in: Duration::from_millis(turns_in_ms) }
    }

    /// Whether who knows `before` learns something from it.
    pub(super) fn is_news_to(&self, before: &View) -> bool {
        self.opens_ms != before.opens_ms || self.page != before.page
    }

    /// Whether it shows how long it is until the sale opens.
    pub(super) fn counts_down(&self) -> bool {
        self.opens_ms.is_some()
    }

    /// Its bytes, for all who watch.
    pub(super) fn frame(&self) -> Bytes {
        // No page is longer than 4 GiB.
        Frames::of(&SaleState { opens_in: self.opens_in, ..self.page.clone() }).unwrap_or_default()
    }
}
