//! The line in every order of events: whatever Redis forgets, or remembers of an earlier time, no rank is given twice.
//!
//! Here a take-over has two steps, raising the epoch and loading, and only joins are asked for.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::super::{Heard, Memory, Step, TakeOver, line};

const PROCESSES: usize = 2;
const BUYERS: usize = 3;
/// Ranks that are committed at a time.
const BLOCK: u64 = 2;

/// How often each thing may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Bounds {
    epochs: i64,
    joins: u8,
    lost: u8,
    crashes: u8,
    forgets: u8,
}

const BOUNDS: Bounds = Bounds { epochs: 3, joins: 3, lost: 1, crashes: 1, forgets: 1 };

struct Line {
    /// Redis' record is believed whatever it is.
    credulous: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Record {
    epoch: i64,
    run: u8,
    rank: u64,
    joiners: [Option<u64>; BUYERS],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Process {
    at: TakeOver,
    run: u8,
    memory: Option<Memory>,
    /// End of the committed ranks, as it knows.
    ranks: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    left: Bounds,
    epoch: i64,
    ranks: u64,
    run: u8,
    record: Option<Record>,
    copy: Option<Record>,
    processes: [Option<Process>; PROCESSES],
    /// Who was told each rank, in that order.
    told: Vec<(u64, usize)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Claim(usize),
    Raise(usize),
    /// Loads; true: and nobody hears of it.
    Load(usize, bool),
    /// A buyer joins; true: and nobody hears of it.
    Join(usize, usize, bool),
    Block(usize),
    Doubt(usize),
    Crash(usize),
    Copy,
    Wipe,
    Restart,
    Replace,
}

impl Model for Line {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            left: BOUNDS,
            epoch: 0,
            ranks: 0,
            run: 1,
            record: None,
            copy: None,
            processes: Default::default(),
            told: Vec::new(),
        }]
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        let left = &world.left;
        let losses = || [false, true].into_iter().filter(|lost| !lost || left.lost > 0);
        for (me, process) in world.processes.iter().enumerate() {
            match process.as_ref().map(|process| process.at.step) {
                None => events.push(Event::Claim(me)),
                Some(Step::Reach) if world.epoch < left.epochs => events.push(Event::Raise(me)),
                Some(Step::Read) => events.extend(losses().map(|lost| Event::Load(me, lost))),
                Some(Step::Kept) => {
                    events.extend([Event::Block(me), Event::Doubt(me)]);
                    if left.joins > 0 {
                        let buyers =
                            (0..BUYERS).flat_map(|of| losses().map(move |lost| (of, lost)));
                        events.extend(buyers.map(|(of, lost)| Event::Join(me, of, lost)));
                    }
                }
                Some(_) => {}
            }
            if process.is_some() && left.crashes > 0 {
                events.push(Event::Crash(me));
            }
        }
        if left.forgets > 0 {
            if world.record.is_some() {
                events.extend([Event::Wipe, Event::Restart]);
            }
            if world.copy.is_none() && world.record.is_some() {
                events.push(Event::Copy);
            }
            if world.copy.is_some() {
                events.push(Event::Replace);
            }
        }
    }

    fn next_state(&self, world: &World, event: Event) -> Option<World> {
        let mut next = world.clone();
        next.happen(event, self)?;
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Line>> {
        vec![
            Property::always("INV-7: no rank is given to two buyers", |_, world: &World| {
                let told = &world.told;
                told.iter().all(|(rank, buyer)| {
                    told.iter().all(|(other, of)| other != rank || of == buyer)
                })
            }),
            Property::always(
                "INV-12: no rank is given that is not committed",
                |_, world: &World| world.told.iter().all(|(rank, _)| *rank < world.ranks),
            ),
            Property::sometimes(
                "a buyer has two places, and both are theirs",
                |_, world: &World| {
                    let places = |buyer| world.told.iter().filter(|(_, of)| *of == buyer).count();
                    (0..BUYERS).any(|buyer| places(buyer) > 1)
                },
            ),
        ]
    }
}

impl World {
    fn happen(&mut self, event: Event, model: &Line) -> Option<()> {
        match event {
            Event::Claim(me) => {
                let at = TakeOver::new(self.epoch);
                self.processes[me] = Some(Process { at, run: self.run, memory: None, ranks: 0 });
            }
            Event::Raise(me) => {
                let epoch = &mut self.epoch;
                let process = self.processes[me].as_mut()?;
                if process.at.epoch != *epoch {
                    self.processes[me] = None;
                    return Some(());
                }
                *epoch += 1;
                process.run = self.run;
                process.at = process.at.heard(Heard::Done).heard(Heard::Epoch(*epoch));
            }
            Event::Load(me, lost) => {
                let loaded = self.load(me, model);
                self.left.lost -= u8::from(lost);
                let process = self.processes[me].as_mut()?;
                process.at = match loaded.filter(|_| !lost) {
                    Some(memory) => {
                        process.memory = Some(memory);
                        process.ranks = self.ranks;
                        let done = process.at.heard(Heard::Done).heard(Heard::Done);
                        done.heard(Heard::Done).heard(Heard::Done)
                    }
                    None => process.at.heard(Heard::Failed),
                };
                // How often it failed decides about pauses only.
                process.at.failures = 0;
            }
            Event::Join(me, buyer, lost) => self.join(me, buyer, lost)?,
            Event::Block(me) => {
                let process = self.processes[me].as_mut()?;
                let spent = self.record.as_ref().is_some_and(|of| of.rank >= process.ranks);
                if !spent || process.at.epoch != self.epoch {
                    return None;
                }
                self.ranks = self.ranks.max(process.ranks + BLOCK);
                process.ranks = self.ranks;
            }
            Event::Doubt(me) => {
                let process = self.processes[me].as_mut()?;
                process.at = process.at.again();
            }
            Event::Crash(me) => {
                self.left.crashes -= 1;
                self.processes[me] = None;
            }
            Event::Copy => self.copy.clone_from(&self.record),
            Event::Wipe | Event::Restart | Event::Replace => {
                self.left.forgets -= 1;
                self.run += u8::from(event != Event::Wipe);
                self.record = if event == Event::Replace { self.copy.clone() } else { None };
            }
        }
        Some(())
    }

    /// What `load_begin` does, and what the keeper remembers from then on. None: it is refused.
    fn load(&mut self, me: usize, model: &Line) -> Option<Memory> {
        let process = self.processes[me].as_ref()?;
        let (epoch, served) = (process.at.epoch, process.at.served);
        let before = self.record.as_ref();
        if epoch != self.epoch
            || process.run != self.run
            || before.is_some_and(|of| of.epoch > epoch)
        {
            return None;
        }
        let believed = |of: &&Record| model.credulous || of.run == self.run && of.epoch >= served;
        let given = before.filter(believed).map(|of| of.rank);
        let memory = process.memory.filter(|_| !model.credulous || given.is_none());
        let first = line(given, memory, served, (0, self.ranks)).first;
        let joiners = before.map_or([None; BUYERS], |of| of.joiners);
        self.record = Some(Record { epoch, run: self.run, rank: first, joiners });
        Some(Memory { epoch, answered: first, asked: first })
    }

    /// `join.lua`, and what the keeper makes of its answer.
    fn join(&mut self, me: usize, buyer: usize, lost: bool) -> Option<()> {
        let process = self.processes[me].as_mut()?;
        self.left.joins -= 1;
        self.left.lost -= u8::from(lost);
        let memory = process.memory.as_mut()?;
        memory.asked = memory.answered + 1;
        let known = |of: &&mut Record| process.run == self.run && of.epoch == process.at.epoch;
        let Some(record) = self.record.as_mut().filter(known) else {
            process.at = process.at.again();
            return Some(());
        };
        let rank = record.joiners[buyer].or_else(|| {
            (record.rank < process.ranks).then(|| {
                record.rank += 1;
                record.joiners[buyer] = Some(record.rank - 1);
                record.rank - 1
            })
        });
        if lost {
            process.at = process.at.again();
            return Some(());
        }
        if let Some(rank) = rank {
            memory.answered = memory.answered.max(rank + 1);
            if !self.told.contains(&(rank, buyer)) {
                self.told.push((rank, buyer));
                self.told.sort_unstable();
            }
        }
        memory.asked = memory.answered;
        Some(())
    }
}

#[test]
fn no_rank_is_given_twice_whatever_redis_remembers() {
    let began = Instant::now();
    let checker = Line { credulous: false }.checker().threads(2).spawn_dfs().join();
    println!(
        "{PROCESSES} processes, {BUYERS} buyers, {BOUNDS:?}: {} states, {} of them unlike, in {:?}",
        checker.state_count(),
        checker.unique_state_count(),
        began.elapsed(),
    );
    checker.assert_properties();
}

#[test]
fn an_older_record_that_is_believed_gives_ranks_twice() {
    let model = Line { credulous: true };
    let name = model.properties()[0].name;
    let when = HasDiscoveries::AnyOf([name].into());
    let checker = model.checker().finish_when(when).spawn_bfs().join();
    println!("{:?}", checker.assert_any_discovery(name).into_actions());
}
