//! Watching sales: one copy of a sale's state, however many watch.
//!
//! ```text
//! keepers, decisions, time ─▶ teller ─▶ view ─ differs? encoded once ─▶ board ═ a slice at a time ═▶ watchers
//! ```
//!
//! - A sale that somebody watches has a teller (`tell`): one task, which looks at the sale when a keeper has spoken or
//!   something was decided, at the moment when it opens or ends, and once a second.
//! - What it sees is a [`View`] (`view`). Only one that differs is told, at most four a second; and the same again now
//!   and then, so that watchers know that they still watch.
//! - It stands on the sale's board (`board`), from where the newest goes to watchers: never all at a time, so that calls
//!   come in between. All of them get the same bytes.
//! - A watcher (`watching`) holds nothing but its place and whether it has seen the newest: who reads slowly misses
//!   states, and nobody keeps them.
//! - Seats (`seats`) bound how many watch: at all, from one address, on one connection. Beyond it the answer is to poll.

mod board;
mod seats;
mod tell;
mod view;
mod watching;

use crate::api::Edge;
use crate::directory::SaleEntry;
use board::{Board, Pace};
use proto::fault::Fault;
use proto::id::SaleId;
use runtime::drain::Drain;
use runtime::metric::Metrics;
use runtime::server::{Frames, Leaving};
use seats::Seats;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tell::Teller;
use view::View;
use watching::Watching;

pub(crate) use seats::Who;

/// All who watch at this router.
#[derive(Debug)]
pub(crate) struct Watches {
    seats: Seats,
    /// Of the sales that somebody has watched.
    boards: Mutex<HashMap<SaleId, Arc<Board>>>,
    pace: Arc<Pace>,
    drain: Drain,
}

impl Watches {
    /// Nobody watches yet; at most `watchers_max` will at a time. All streams end with the drain.
    pub(crate) fn new(watchers_max: usize, metrics: &Metrics, drain: Drain) -> Arc<Watches> {
        let (boards, pace) = (Mutex::default(), Arc::default());
        Arc::new(Watches { seats: Seats::new(watchers_max, metrics), boards, pace, drain })
    }

    /// Watches a sale until the client, its connection or this process goes away: its state now, then its changes.
    pub(crate) fn watch(
        &self,
        edge: &Arc<Edge>,
        sale: Arc<SaleEntry>,
        who: Who,
        leaving: Option<Leaving>,
    ) -> Result<Frames, Fault> {
        let seat = self.seats.take(who)?;
        let board = self.board(&sale.id);
        let joined = board.join(|| View::of(edge, &sale));
        let mut told = joined.told;
        if told.counts_down {
            // Until it opens the time left is another one for everybody who comes.
            told.frame = View::of(edge, &sale).frame();
        }
        if let Some(first) = joined.begins {
            let changed = edge.states.watch(sale.id.as_str());
            let (edge, pace, end) = (edge.clone(), self.pace.clone(), self.drain.token());
            let teller = Teller { board, pace, changed, look: move || View::of(&edge, &sale) };
            self.drain.spawn_call("teller", teller.tell(first, end));
        }
        Ok(Frames::new(Watching::new(told, joined.changes, leaving, seat)))
    }

    fn board(&self, sale: &SaleId) -> Arc<Board> {
        let mut boards = self.boards.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(board) = boards.get(sale) {
            return board.clone();
        }
        let board = Arc::<Board>::default();
        boards.insert(sale.clone(), board.clone());
        board
    }
}
