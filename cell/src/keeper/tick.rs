//! A keeper's tick: the gate moves, routers are told what is new, and a bucket whose sale is over comes to rest.

use super::reign::End;
use super::{Keeper, Reign};
use crate::admission::Step;
use crate::failpoint::{self, Failpoint};
use crate::ledger::{self, GateRow, LedgerError};
use proto::limits::STATES_PER_S;
use proto::wire::storefront::sale_state::Phase;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// Over how long the speed of the line is measured.
const SPEED_OVER: Duration = Duration::from_secs(4);
/// How often a keeper looks whether its bucket may rest.
const REST_EVERY: Duration = Duration::from_secs(1);

/// Ticks until it must end.
pub(super) async fn serve(keeper: &Arc<Keeper>, reign: &Reign) -> End {
    let mut tick = tokio::time::interval(Duration::from_millis(1_000 / u64::from(STATES_PER_S)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = VecDeque::new();
    let mut rested = Instant::now();
    keeper.ports.reports.warm(keeper);
    loop {
        tokio::select! {
            biased;
            () = reign.stop.cancelled() => return End::Stopped,
            () = keeper.doubted.notified() => return End::Doubt,
            _ = tick.tick() => {}
        }
        let Some(now_us) = keeper.now_us() else { continue };
        if let Err(error) = move_gate(keeper, reign, now_us).await {
            tracing::warn!(%error, "the gate cannot move");
            match error {
                LedgerError::Stale(_) | LedgerError::Unknown(_) => return End::Doubt,
                _ => continue,
            }
        }
        tell(keeper, &mut seen, now_us);
        if rested.elapsed() >= REST_EVERY {
            rested = Instant::now();
            match come_to_rest(keeper, reign, now_us).await {
                Ok(true) => return End::Rest,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "cannot see whether the bucket may rest"),
            }
        }
    }
}

async fn move_gate(keeper: &Keeper, reign: &Reign, now_us: i64) -> Result<(), LedgerError> {
    let step = {
        let mut book = keeper.book();
        if book.terms.phase(now_us) != Phase::Open {
            return Ok(());
        }
        let (free, joined, pace) = (book.free(), book.joined, book.terms.pace());
        book.gate.plan(now_us, free, joined, &pace)
    };
    let Some(step) = step else { return Ok(()) };
    let Step { tail, cursor, used_us } = step;
    let row = GateRow { ranks: cursor, tail, cursor, gate_us: used_us };
    failpoint::reach(Failpoint::GateAsked).await;
    let set = ledger::set_gate(keeper.ports.pool(keeper), keeper.place.bucket, reign.epoch, row);
    let set = failpoint::reply(Failpoint::GateSet, set).await;
    keeper.ports.metrics.refused_late("gate", set)?;
    let mut book = keeper.book();
    keeper.ports.metrics.admitted(cursor - book.gate.cursor());
    book.gate.take(step);
    Ok(())
}

fn tell(keeper: &Keeper, seen: &mut VecDeque<(Instant, u64)>, now_us: i64) {
    let mut book = keeper.book();
    let (now, cursor) = (Instant::now(), book.gate.cursor());
    seen.push_back((now, cursor));
    while seen.len() > 1 && seen.front().is_some_and(|(at, _)| now - *at > SPEED_OVER) {
        seen.pop_front();
    }
    let speed = seen.front().map_or(0, |(at, before)| {
        let took_ms = u64::try_from((now - *at).as_millis()).unwrap_or(u64::MAX);
        (cursor - before) * 1_000_000 / took_ms.max(1)
    });
    let state = book.tell(keeper.place.number, now_us, u32::try_from(speed).unwrap_or(u32::MAX));
    drop(book);
    keeper.ports.states.set(state);
}

async fn come_to_rest(keeper: &Keeper, reign: &Reign, now_us: i64) -> Result<bool, LedgerError> {
    {
        let book = keeper.book();
        let over = matches!(book.terms.phase(now_us), Phase::Ended | Phase::Cancelled);
        if !over || !book.is_quiet() {
            return Ok(false);
        }
    }
    failpoint::reach(Failpoint::RestAsked).await;
    let rests = ledger::rest(keeper.ports.pool(keeper), keeper.place.bucket, reign.epoch);
    let rests = failpoint::reply(Failpoint::RestSet, rests).await?;
    if rests {
        keeper.ports.reports.settled(keeper);
    }
    Ok(rests)
}
