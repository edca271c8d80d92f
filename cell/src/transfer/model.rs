//! A transfer in every order of events: two buckets of two cells, processes that keep either under rising epochs, news that
//! is old or told again, commits that are lost or arrive late, and a Redis that forgets. What follows from a record and
//! from an outcome is decided by the very functions that the cell calls.
//!
//! A take-over is one step here: the model of the take-over has taken it apart. Whoever slept is a process that goes on
//! under an old epoch.

mod world;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::{State, part};
use world::{ASKED, Doing, Event, Fate, Postgres, World};

const PROCESSES: usize = 2;
const BUYERS: u8 = 3;
const BUCKETS: usize = 2;
/// All units, as a set: the lowest bit is unit 0. The giver has them all.
const ALL: u8 = 0b11;

/// A transition that is left out or wrong, to see that the model notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Broken {
    Not,
    /// Who gives up keeps.
    Copies,
    /// Who does not know whether units were given up says that they were.
    Hopes,
    /// Units are given up that are still free in Redis.
    GivesFirst,
}

/// How often each thing may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Bounds {
    /// Take-overs of each bucket.
    epochs: u8,
    holds: u8,
    /// Units that the giver is asked for.
    wanted: u32,
    lost: u8,
    refused: u8,
    crashes: u8,
    forgets: u8,
}

struct Transfer {
    bounds: Bounds,
    broken: Broken,
}

impl Model for Transfer {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        let giver = Postgres { shares: ALL, ..Postgres::default() };
        vec![World {
            left: self.bounds,
            record: ASKED,
            postgres: [giver, Postgres::default()],
            redis: Default::default(),
            keepers: Default::default(),
            late: Vec::new(),
            clashed: false,
        }]
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        let left = &world.left;
        for bucket in 0..BUCKETS {
            for process in 0..PROCESSES {
                let at = |event: fn(usize, usize) -> Event| event(bucket, process);
                let Some(keeper) = &world.keepers[bucket][process] else {
                    if world.postgres[bucket].epoch < left.epochs {
                        events.push(Event::Claim(bucket, process, false));
                        if world.record.state != State::Asked {
                            events.push(Event::Claim(bucket, process, true));
                        }
                    }
                    continue;
                };
                if keeper.seen != world.record && keeper.doing == Doing::Nothing {
                    events.push(at(Event::Learn));
                }
                match keeper.doing {
                    Doing::Nothing if !keeper.left => {
                        let bucket = u32::try_from(bucket).unwrap_or(0);
                        if part(&keeper.seen.record(left.wanted), bucket).is_some() {
                            events.push(at(Event::Look));
                        }
                    }
                    Doing::Nothing => {}
                    Doing::TakeOut(_) => events.push(at(Event::TakeOut)),
                    Doing::Append(_) => events.push(at(Event::Append)),
                    Doing::Commit(..) => {
                        events.push(Event::Commit(bucket, process, Fate::Heard));
                        if left.lost > 0 {
                            events.push(Event::Commit(bucket, process, Fate::Lost));
                            events.push(Event::Commit(bucket, process, Fate::Late));
                        }
                        if left.refused > 0 {
                            events.push(Event::Commit(bucket, process, Fate::Refused));
                        }
                    }
                }
                match keeper.granted {
                    Some(_) => events.push(at(Event::Hold)),
                    None if left.holds > 0 => events.push(at(Event::Grant)),
                    None => {}
                }
            }
            if left.forgets > 0 && world.redis[bucket].is_some() {
                events.push(Event::Wipe(bucket));
            }
        }
        events.extend((0..world.late.len()).map(Event::Arrive));
        if left.crashes > 0 {
            events.extend((0..PROCESSES).map(Event::Crash));
        }
    }

    fn next_state(&self, world: &World, event: Event) -> Option<World> {
        let mut next = world.clone();
        next.happen(event, self.broken)?;
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Transfer>> {
        vec![
            Property::always(
                "INV-1: no order has a unit that is not its bucket's",
                |_, world: &World| {
                    !world.clashed && world.postgres.iter().all(|of| of.held & !of.shares == 0)
                },
            ),
            Property::always(
                "INV-2: every unit is in one bucket, or in transit",
                |_, world: &World| {
                    let [giver, receiver] = &world.postgres;
                    let gave = giver.gave.unwrap_or(0);
                    let transit = gave & !receiver.accepted.unwrap_or(0);
                    let places = [giver.shares, receiver.shares, transit];
                    let once =
                        |unit: u32| places.iter().filter(|of| *of & (1 << unit) != 0).count();
                    (0..ALL.count_ones()).all(|unit| once(unit) == 1)
                },
            ),
            Property::always(
                "INV-3: what is free in Redis is free in Postgres",
                |_, world: &World| {
                    world.postgres.iter().zip(&world.redis).all(|(postgres, redis)| {
                        let served = redis.as_ref().filter(|redis| redis.epoch == postgres.epoch);
                        served.is_none_or(|redis| {
                            redis.free & !(postgres.shares & !postgres.held) == 0
                        })
                    })
                },
            ),
            Property::always("the record says no more than is so", |_, world: &World| {
                let [giver, receiver] = &world.postgres;
                let said = Some(world.record.units);
                match world.record.state {
                    State::Given => giver.gave == said,
                    State::Accepted => giver.gave == said && receiver.accepted == said,
                    _ => true,
                }
            }),
            Property::sometimes("a buyer of the receiver has a unit", |_, world: &World| {
                world.postgres[1].held != 0
            }),
            Property::sometimes("the giver had nothing left to give", |_, world: &World| {
                world.record.state == State::Given && world.record.units == 0
            }),
        ]
    }
}

const SMALL: Bounds =
    Bounds { epochs: 2, holds: BUYERS, wanted: 2, lost: 1, refused: 1, crashes: 1, forgets: 1 };
const LARGE: Bounds =
    Bounds { epochs: 3, holds: BUYERS, wanted: 2, lost: 2, refused: 1, crashes: 2, forgets: 2 };

#[test]
fn every_order_of_events_keeps_the_invariants() {
    let is_large = std::env::var("FLOODGATE_MODEL").is_ok_and(|size| size == "large");
    let bounds = if is_large { LARGE } else { SMALL };
    let began = Instant::now();
    let checker = Transfer { bounds, broken: Broken::Not }.checker().threads(2).spawn_dfs().join();
    let (states, unlike) = (checker.state_count(), checker.unique_state_count());
    println!(
        "{BUCKETS} buckets, {PROCESSES} processes, {} units, {bounds:?}: {states} states, {unlike} of them unlike, in {:?}",
        ALL.count_ones(),
        began.elapsed(),
    );
    checker.assert_properties();
    assert!(unlike > 100_000);
}

#[test]
fn what_is_broken_is_found() {
    let bounds = Bounds { epochs: 2, lost: 1, refused: 0, crashes: 0, forgets: 0, ..SMALL };
    let rows =
        [(Broken::Copies, "INV-2"), (Broken::Hopes, "the record"), (Broken::GivesFirst, "INV-3")];
    for (broken, wanted) in rows {
        let model = Transfer { bounds, broken };
        let names = model.properties().into_iter().map(|property| property.name);
        let wanted: Vec<_> = names.filter(|name| name.starts_with(wanted)).collect();
        let when = HasDiscoveries::AnyOf(wanted.iter().copied().collect());
        let checker = model.checker().finish_when(when).spawn_bfs().join();
        let found = wanted.iter().find_map(|name| Some((name, checker.discovery(name)?)));
        let Some((name, path)) = found else { panic!("{broken:?} is not found") };
        let states = checker.unique_state_count();
        println!("{broken:?} breaks {name:?} in {states} states: {:?}", path.into_actions());
    }
}
