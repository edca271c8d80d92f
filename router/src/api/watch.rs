//! Watching a sale: its state now, then its changes, at most four a second, however many watch.

use super::asked::Edge;
use crate::directory::SaleEntry;
use futures_util::{Stream, stream};
use proto::fault::{Fault, Reason};
use proto::limits::{STATES_PER_S, WATCHERS_MAX};
use proto::wire::storefront::SaleState;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// A page changes with time too: it opens, it ends, it grows old.
const REFRESH: Duration = Duration::from_secs(1);

/// States of one sale.
pub(crate) type Watched = Pin<Box<dyn Stream<Item = Result<SaleState, Status>> + Send>>;

/// How many watch at this router. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watchers(Arc<AtomicUsize>);

struct Watcher(Watchers);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Watchers {
    fn enter(&self) -> Result<Watcher, Fault> {
        let watcher = Watcher(self.clone());
        if self.0.fetch_add(1, Ordering::Relaxed) >= WATCHERS_MAX {
            return Err(Reason::Overloaded.into());
        }
        Ok(watcher)
    }
}

/// Watches a sale until the client or the process goes away.
pub(crate) fn watch(
    edge: Arc<Edge>,
    sale: Arc<SaleEntry>,
    watchers: &Watchers,
    end: CancellationToken,
) -> Result<Watched, Fault> {
    let watcher = watchers.enter()?;
    let changed = edge.states.watch(sale.id.as_str());
    let begin = (changed, None::<(Instant, SaleState)>);
    let states = stream::unfold((begin, watcher), move |((mut changed, last), watcher)| {
        let (edge, sale, end) = (edge.clone(), sale.clone(), end.clone());
        async move {
            let next = async {
                let Some((at, last)) = last else { return page(&edge, &sale) };
                sleep_until(at + Duration::from_millis(1_000 / u64::from(STATES_PER_S))).await;
                loop {
                    let new = page(&edge, &sale);
                    if new != last {
                        return new;
                    }
                    // Nobody speaks any more or nothing has changed: either way it is looked at again soon.
                    drop(timeout_at(Instant::now() + REFRESH, changed.changed()).await);
                }
            };
            let state = tokio::select! {
                state = next => state,
                () = end.cancelled() => return None,
            };
            Some((Ok(state.clone()), ((changed, Some((Instant::now(), state))), watcher)))
        }
    });
    Ok(Box::pin(states))
}

/// The sale as the newest decision has it.
fn page(edge: &Edge, sale: &SaleEntry) -> SaleState {
    let directory = edge.directory.load();
    let now_ms = edge.clock.now_ms();
    match directory.sale(&sale.org, &sale.id) {
        Ok(newest) => edge.states.page(newest, now_ms),
        Err(_) => edge.states.page(sale, now_ms),
    }
}
