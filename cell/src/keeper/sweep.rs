//! The sweep: holds whose time is over end, and their units return.
//!
//! It decides by an estimate of Postgres' clock and waits a moment longer than that; Postgres checks again. Paying
//! stops the sweep, not the clock. A sale that was called off gives its held orders back.

use super::reign::End;
use super::{Keeper, MoveAsked, Reign};
use crate::ledger::Move;
use proto::limits::BATCH_CALLS_MAX;
use proto::wire::events::ledger_entry::Kind;
use proto::wire::storefront::order::State;
use proto::wire::storefront::sale_state::Phase;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

const EVERY: Duration = Duration::from_millis(100);
/// How much longer than its deadline an order lives here, so that Postgres agrees that its time is over.
const MARGIN_US: i64 = 50_000;

/// Sweeps until it must end.
pub(super) async fn serve(keeper: &Arc<Keeper>, reign: &Reign) -> End {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = reign.stop.cancelled() => return End::Stopped,
            _ = tick.tick() => {}
        }
        loop {
            let moves = due(keeper);
            let full = moves.len() == BATCH_CALLS_MAX;
            let mut waiting = Vec::with_capacity(moves.len());
            for step in moves {
                let (asked, moved) = MoveAsked::new(step, reign.epoch);
                if keeper.undo(asked) {
                    waiting.push(moved);
                }
            }
            for moved in waiting {
                tokio::select! {
                    biased;
                    () = reign.stop.cancelled() => return End::Stopped,
                    // Refused or lost: the next sweep sees what is still due.
                    _ = moved => {}
                }
            }
            if !full {
                break;
            }
        }
    }
}

fn due(keeper: &Keeper) -> Vec<Move> {
    let Some(now_us) = keeper.now_us() else { return Vec::new() };
    let book = keeper.book();
    let (orders, kind) = if book.terms.phase(now_us) == Phase::Cancelled {
        let mut orders = book.in_state(State::Held);
        orders.truncate(BATCH_CALLS_MAX);
        (orders, Kind::Cancelled)
    } else {
        (book.overdue(now_us - MARGIN_US, BATCH_CALLS_MAX), Kind::Expired)
    };
    let step = |order| book.order(order).map(|live| Move::plain(order, kind, live.units.clone()));
    orders.into_iter().filter_map(step).collect()
}
