//! A sale's teller: looks at the sale, and tells its board what has changed.

use super::board::{Board, Pace};
use super::view::View;
use proto::limits::{STATES_PER_S, WATCH_ALIVE_MS};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// Nobody says that a keeper has fallen silent: that is seen by looking.
const REFRESH: Duration = Duration::from_secs(1);
const BETWEEN: Duration = Duration::from_millis(1_000 / STATES_PER_S as u64);
const ALIVE: Duration = Duration::from_millis(WATCH_ALIVE_MS);

/// See the module.
#[derive(Debug)]
pub(super) struct Teller<Look> {
    pub(super) board: Arc<Board>,
    pub(super) pace: Arc<Pace>,
    /// Sees a change when there may be something new.
    pub(super) changed: watch::Receiver<u64>,
    pub(super) look: Look,
}

impl<Look: Fn() -> View> Teller<Look> {
    /// Tells until nobody watches or the process ends; `first` is what the first watcher knows.
    pub(super) async fn tell(mut self, first: View, end: CancellationToken) {
        tokio::select! {
            () = self.follow(first) => {}
            () = end.cancelled() => self.board.close(&self.pace).await,
        }
    }

    async fn follow(&mut self, first: View) {
        let (mut last, mut told_at) = (first, Instant::now());
        loop {
            // However fast keepers speak. What comes meanwhile is seen together.
            sleep_until(told_at + BETWEEN).await;
            if self.board.is_left() {
                return;
            }
            self.changed.borrow_and_update();
            let now = (self.look)();
            let silent = told_at.elapsed();
            if silent >= ALIVE || now.is_news_to(&last) {
                told_at = Instant::now();
                self.board.tell(&now, &self.pace).await;
                last = now;
                continue;
            }
            let soon = REFRESH.min(ALIVE.saturating_sub(silent)).min(now.turns_in);
            if let Ok(Err(_)) = timeout(soon, self.changed.changed()).await {
                // Nobody will say anything any more; time goes on.
                sleep(soon).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
