//! A keeper's tick: the gate moves, routers are told what is new, and a bucket whose sale is over comes to rest. Each goes
//! by itself, so that states are told while Postgres is slow. The gate does not wait for its tick when something is free
//! again after nothing was.

use super::reign::End;
use super::{Keeper, Reign, Stage};
use crate::admission::Step;
use crate::failpoint::{self, Failpoint};
use crate::ledger::{self, GateRow, LedgerError};
use proto::limits::STATES_PER_S;
use proto::wire::storefront::sale_state::Phase;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{Interval, MissedTickBehavior};

/// Over how long the speed of the line is measured.
const SPEED_OVER: Duration = Duration::from_secs(4);
/// How often a keeper looks whether its bucket may rest.
const REST_EVERY: Duration = Duration::from_secs(1);

/// Ticks until it must end.
pub(super) async fn serve(keeper: &Arc<Keeper>, reign: &Reign) -> End {
    keeper.ports.reports.warm(keeper);
    let first = |end: End| {
        reign.stop.cancel();
        end
    };
    let ends: [End; 3] = tokio::join!(
        async { first(gate(keeper, reign).await) },
        async { first(show(keeper, reign).await) },
        async { first(rest(keeper, reign).await) },
    )
    .into();
    let told = |wanted: End| ends.contains(&wanted).then_some(wanted);
    told(End::Doubt).or_else(|| told(End::Rest)).unwrap_or(End::Stopped)
}

async fn gate(keeper: &Keeper, reign: &Reign) -> End {
    let mut tick = every(state_every());
    let freed = keeper.book().freed();
    loop {
        tokio::select! {
            biased;
            () = reign.stop.cancelled() => return End::Stopped,
            () = keeper.doubted.notified() => return End::Doubt,
            () = freed.notified() => {
                // If nobody is in line here, somebody may be elsewhere.
                if let Some(now_us) = keeper.now_us() {
                    keeper.ports.reports.selling(keeper, now_us);
                }
            }
            _ = tick.tick() => {}
        }
        if let Err(error) = move_gate(keeper, reign).await {
            tracing::warn!(%error, "the gate cannot move");
            if matches!(error, LedgerError::Stale(_) | LedgerError::Unknown(_)) {
                return End::Doubt;
            }
        }
    }
}

async fn show(keeper: &Keeper, reign: &Reign) -> End {
    let mut tick = every(state_every());
    let mut seen = VecDeque::new();
    loop {
        tokio::select! {
            biased;
            () = reign.stop.cancelled() => return End::Stopped,
            _ = tick.tick() => {}
        }
        if let Some(now_us) = keeper.now_us() {
            tell(keeper, &mut seen, now_us);
            keeper.ports.reports.selling(keeper, now_us);
        }
    }
}

async fn rest(keeper: &Keeper, reign: &Reign) -> End {
    let mut tick = every(REST_EVERY);
    loop {
        tokio::select! {
            biased;
            () = reign.stop.cancelled() => return End::Stopped,
            _ = tick.tick() => {}
        }
        match come_to_rest(keeper, reign).await {
            Ok(true) => return End::Rest,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "cannot see whether the bucket may rest"),
        }
    }
}

fn state_every() -> Duration {
    Duration::from_millis(1_000 / u64::from(STATES_PER_S))
}

fn every(period: Duration) -> Interval {
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

async fn move_gate(keeper: &Keeper, reign: &Reign) -> Result<(), LedgerError> {
    let time = &keeper.ports.time;
    // A gate moves by elapsed time, so that a clock that is set neither opens nor stops it (INV-12).
    let (Some(now_us), Some(steady_us)) = (time.now_us(), time.steady_us()) else { return Ok(()) };
    let step = {
        let mut book = keeper.book();
        if book.terms.phase(now_us) != Phase::Open {
            return Ok(());
        }
        let (free, joined, pace) = (book.obtainable(), book.joined, book.terms.pace());
        book.gate.plan(steady_us, free, joined, &pace)
    };
    let Some(step) = step else { return Ok(()) };
    let Step { tail, cursor, used_us } = step;
    let row = GateRow { ranks: cursor, tail, cursor, gate_us: used_us };
    {
        let _waiting = keeper.waits.begin(Stage::Gate);
        let pool = keeper.ports.pool(keeper);
        failpoint::reach(Failpoint::GateAsked).await;
        let set = ledger::set_gate(pool, keeper.place.bucket, reign.epoch, row);
        let set = failpoint::reply(Failpoint::GateSet, set).await;
        keeper.ports.metrics.refused_late("gate", set)?;
    }
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

async fn come_to_rest(keeper: &Keeper, reign: &Reign) -> Result<bool, LedgerError> {
    let time = &keeper.ports.time;
    let Some(now_us) = time.now_us() else { return Ok(false) };
    {
        let book = keeper.book();
        let over = match book.terms.phase(now_us) {
            Phase::Cancelled => true,
            // Rest is for good, so a clock in doubt does not bring it about.
            Phase::Ended => time.is_sure(),
            _ => false,
        };
        if !over || !book.is_quiet() {
            return Ok(false);
        }
    }
    let place = &keeper.place;
    if !keeper.ports.transfers.of(&place.sale, place.number).is_empty() {
        return Ok(false);
    }
    failpoint::reach(Failpoint::RestAsked).await;
    let rests = ledger::rest(keeper.ports.pool(keeper), place.bucket, reign.epoch);
    let rests = failpoint::reply(Failpoint::RestSet, rests).await?;
    if rests {
        keeper.ports.reports.settled(keeper);
    }
    Ok(rests)
}
