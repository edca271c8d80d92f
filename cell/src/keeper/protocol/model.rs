//! The protocol in every order of events: processes, buyers and units a few of each, stores that lose a question or its
//! answer, or carry it out late, processes that crash or are slow without end, and a Redis that forgets or grows older.
//!
//! A process may claim the bucket at any time, whoever keeps it: so a keeper that was paused is one that is not heard for
//! a while. The model is bounded: it says how often each thing may happen. `FLOODGATE_MODEL=large` raises the bounds.

mod line;
mod process;
mod stores;
mod world;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::{Heard, Step, TakeOver};
use process::Stage;
use stores::{ORDERS, Postgres, Redis, State, UNITS, Unit};
use world::{Event, World};

const PROCESSES: usize = 2;
const STAGES: [Stage; 3] = [Stage::Take, Stage::Hold, Stage::Settle];

/// A transition that is left out or wrong, to see that the model notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Broken {
    /// Nothing.
    Not,
    /// Postgres takes batches of any epoch.
    NoFence,
    /// The bucket is read before its epoch is raised.
    ReadFirst,
    /// The bucket is opened before it is filled.
    OpenFirst,
    /// Buyers are told what Redis has granted.
    AnswerFirst,
    /// Nobody sees that Redis was started anew, nor that its batches are not in their turn.
    AnyRun,
}

/// What follows from what came of a take-over's step.
fn heard(at: TakeOver, heard: Heard, broken: Broken) -> TakeOver {
    let step = |step| TakeOver { step, ..at };
    match (broken, at.step, heard) {
        (Broken::ReadFirst, Step::Reach, Heard::Done) => step(Step::Read),
        (Broken::ReadFirst, Step::Read, Heard::Done) => step(Step::Raise),
        (Broken::ReadFirst, Step::Raise, Heard::Epoch(epoch)) => {
            TakeOver { step: Step::Close, epoch, ..at }
        }
        (Broken::OpenFirst, Step::Close, Heard::Done) => step(Step::Open),
        _ => at.heard(heard),
    }
}

/// How often each thing may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Bounds {
    claims: u8,
    /// Epochs that may be raised.
    epochs: i64,
    /// Batches of holds, and of moves.
    holds: u8,
    moves: u8,
    /// Questions or answers that are lost.
    lost: u8,
    crashes: u8,
    /// Times that Redis forgets, is started anew, or is replaced by an older copy of itself.
    forgets: u8,
}

struct Protocol {
    bounds: Bounds,
    broken: Broken,
}

impl Model for Protocol {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            left: self.bounds,
            postgres: Postgres::default(),
            redis: Redis { run: 1, record: None },
            copy: None,
            processes: Default::default(),
            late: Vec::new(),
            asked: [false; ORDERS],
            told: [None; ORDERS],
        }]
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        let left = &world.left;
        for (me, process) in world.processes.iter().enumerate() {
            // Before anything has happened they are alike.
            let first = me == 0 || left.claims < self.bounds.claims;
            if first && process.at.is_none() && left.claims > 0 {
                events.push(Event::Claim(me));
            }
            if process.is_idle(Stage::Hold) && left.holds > 0 {
                events.extend(world.wanted(process).map(|tries| Event::Hold(me, tries)));
            }
            if process.is_idle(Stage::Settle) {
                if !process.undone.is_empty() {
                    events.push(Event::GiveBack(me));
                }
                let live = (0..ORDERS).filter(|order| process.book[*order].is_some());
                for order in live.filter(|_| left.moves > 0) {
                    events.push(Event::Move(me, order, State::Ended));
                    events.push(Event::Move(me, order, State::Paid));
                }
            }
            for stage in STAGES.into_iter().filter(|stage| process.question(*stage).is_some()) {
                events.push(Event::Answer(me, stage));
                if left.lost > 0 {
                    events.extend([Event::LoseQuestion(me, stage), Event::LoseAnswer(me, stage)]);
                }
            }
            if process.at.is_some() && left.crashes > 0 {
                events.push(Event::Crash(me));
            }
        }
        events.extend((0..world.late.len()).map(Event::Arrive));
        if left.forgets > 0 {
            if world.redis.record.is_some() {
                events.extend([Event::Wipe, Event::Restart]);
            }
            if world.copy.is_none() && world.redis.record.as_ref().is_some_and(|one| one.open) {
                events.push(Event::Copy);
            }
            if world.copy.is_some() && world.copy != world.redis.record {
                events.push(Event::Replace);
            }
        }
    }

    fn next_state(&self, world: &World, event: Event) -> Option<World> {
        let mut world = world.clone();
        world.happen(event, self)?;
        world.forget_late(self.broken);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Protocol>> {
        vec![
            Property::always(
                "INV-1: Redis grants no unit that an order has",
                |_, world: &World| !world.postgres.clashed,
            ),
            Property::always(
                "INV-2: in Redis a unit is free or names its order",
                |_, world: &World| {
                    world
                        .redis
                        .record
                        .as_ref()
                        .is_none_or(|record| !record.open || record.adds_up())
                },
            ),
            Property::always(
                "INV-3: what is free in Redis is free in Postgres",
                |_, world: &World| {
                    world.served().is_none_or(|record| {
                        let owner = |unit| world.postgres.owner(unit);
                        (0..UNITS).all(|unit| !record.is_free(unit) || owner(unit).is_none())
                    })
                },
            ),
            Property::always(
                "INV-3: no unit is stranded but by what is under way",
                |_, world: &World| {
                    world.served().is_none_or(|record| world.none_is_stranded(record))
                },
            ),
            Property::always("INV-6: what was told is written down", |_, world: &World| {
                let written = |(order, told): (stores::Order, &Option<Unit>)| {
                    told.is_none_or(|unit| {
                        world.postgres.orders[order].is_some_and(|(theirs, _)| theirs == unit)
                    })
                };
                world.told.iter().enumerate().all(written)
            }),
            Property::always("INV-8: no older epoch follows a newer one", |_, world: &World| {
                !world.postgres.went_back
            }),
            Property::sometimes("every unit is told to be somebody's", |_, world: &World| {
                (0..UNITS).all(|unit| world.told.contains(&Some(unit)))
            }),
            Property::sometimes("a returned unit is held again", |_, world: &World| {
                let is = |wanted: State| {
                    let orders = world.postgres.orders.iter().flatten();
                    orders.filter(|of| of.1 == wanted).map(|of| of.0).collect::<Vec<_>>()
                };
                is(State::Ended).iter().any(|unit| is(State::Held).contains(unit))
            }),
            Property::sometimes(
                "a bucket is served after all that was to go wrong",
                |_, world: &World| {
                    let Bounds { lost, crashes, forgets, .. } = world.left;
                    lost + crashes + forgets == 0 && world.served().is_some()
                },
            ),
        ]
    }
}

/// Bounds by their kinds: claims, epochs, holds, moves, then what is lost, crashes and forgets.
const fn bounds(claims: u8, epochs: i64, work: [u8; 2], faults: [u8; 3]) -> Bounds {
    let ([holds, moves], [lost, crashes, forgets]) = (work, faults);
    Bounds { claims, epochs, holds, moves, lost, crashes, forgets }
}

/// Everything that can go wrong, once; and more work with less of it.
const SMALL: [Bounds; 2] = [bounds(2, 2, [2, 1], [1, 1, 1]), bounds(2, 3, [3, 2], [1, 0, 0])];
const LARGE: [Bounds; 2] = [bounds(2, 3, [2, 1], [1, 1, 1]), bounds(2, 3, [3, 2], [2, 1, 0])];

#[test]
fn every_order_of_events_keeps_the_invariants() {
    let is_large = std::env::var("FLOODGATE_MODEL").is_ok_and(|size| size == "large");
    for bounds in if is_large { LARGE } else { SMALL } {
        let began = Instant::now();
        let model = Protocol { bounds, broken: Broken::Not };
        let checker = model.checker().threads(2).spawn_dfs().join();
        let (states, unlike) = (checker.state_count(), checker.unique_state_count());
        println!(
            "{PROCESSES} processes, {ORDERS} buyers, {UNITS} units, {bounds:?}: {states} states, {unlike} of them unlike, in {:?}",
            began.elapsed(),
        );
        checker.assert_properties();
        assert!(unlike > 100_000);
    }
}

#[test]
fn what_is_broken_is_found() {
    let rows = [
        (Broken::NoFence, "INV-8", bounds(2, 2, [2, 1], [0, 0, 0])),
        (Broken::ReadFirst, "INV-3", bounds(2, 2, [1, 0], [1, 0, 0])),
        (Broken::OpenFirst, "INV-3", bounds(2, 2, [1, 0], [1, 0, 0])),
        (Broken::AnswerFirst, "INV-6", bounds(1, 1, [1, 0], [0, 0, 0])),
        (Broken::AnyRun, "INV-1", bounds(1, 1, [2, 0], [0, 0, 1])),
    ];
    for (broken, wanted, bounds) in rows {
        let model = Protocol { bounds, broken };
        let names = model.properties().into_iter().map(|property| property.name);
        let wanted: Vec<_> = names.filter(|name| name.starts_with(wanted)).collect();
        let when = HasDiscoveries::AnyOf(wanted.iter().copied().collect());
        let checker = model.checker().threads(1).finish_when(when).spawn_bfs().join();
        let found = wanted.iter().find_map(|name| Some((name, checker.discovery(name)?)));
        let Some((name, path)) = found else { panic!("{broken:?} is not found") };
        let states = checker.unique_state_count();
        println!("{broken:?} breaks {name:?} in {states} states: {:?}", path.into_actions());
    }
}
