//! Everything at one moment, and what each event makes of it.

use super::super::{
    After, Outcome, Part, Share, State, Step, TransferRecord, after, next, part, ranges, told,
    units,
};
use super::{BUCKETS, Bounds, Broken, PROCESSES};

/// A bucket in its cell's Postgres.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Postgres {
    pub(super) epoch: u8,
    pub(super) shares: u8,
    pub(super) held: u8,
    pub(super) gave: Option<u8>,
    pub(super) accepted: Option<u8>,
}

/// A bucket in its cell's Redis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Redis {
    pub(super) epoch: u8,
    pub(super) free: u8,
    pub(super) out: u8,
}

/// What a keeper is about to do for the transfer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Doing {
    #[default]
    Nothing,
    TakeOut(u32),
    Commit(Part, u8),
    Append(u8),
}

/// A transfer's record, as far as it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct News {
    pub(super) state: State,
    pub(super) units: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Keeper {
    pub(super) epoch: u8,
    /// The record as it has heard of it.
    pub(super) seen: News,
    pub(super) doing: Doing,
    /// A unit that Redis has granted, and that is to be held.
    pub(super) granted: Option<u8>,
    /// Postgres contradicts; somebody must look.
    pub(super) left: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) left: Bounds,
    pub(super) record: News,
    pub(super) postgres: [Postgres; BUCKETS],
    pub(super) redis: [Option<Redis>; BUCKETS],
    pub(super) keepers: [[Option<Keeper>; PROCESSES]; BUCKETS],
    /// Commits that nobody waits for any more: bucket, epoch, part, units.
    pub(super) late: Vec<(usize, u8, bool, u8)>,
    /// An order was to have a unit that its bucket may not sell, or that another has: only a key stood in the way.
    pub(super) clashed: bool,
}

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fate {
    Heard,
    Refused,
    /// It is carried out, and nobody hears of it.
    Lost,
    /// It may be carried out later.
    Late,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A process takes a bucket over, and hears of the transfer as it is, or as it once was.
    Claim(usize, usize, bool),
    Learn(usize, usize),
    /// A keeper looks how far the transfer has come in Postgres.
    Look(usize, usize),
    TakeOut(usize, usize),
    Commit(usize, usize, Fate),
    Append(usize, usize),
    Grant(usize, usize),
    Hold(usize, usize),
    Arrive(usize),
    Crash(usize),
    Wipe(usize),
}

pub(super) fn shares(set: u8) -> Vec<Share> {
    ranges((0..8).filter(|unit| set & (1 << unit) != 0).collect())
}

pub(super) fn set(shares: &[Share]) -> u8 {
    let units = shares.iter().flat_map(|share| share.first_unit..share.first_unit + share.units);
    units.fold(0, |set, unit| set | 1 << unit)
}

pub(super) const ASKED: News = News { state: State::Asked, units: 0 };

impl News {
    fn of(record: &TransferRecord) -> News {
        News { state: record.state(), units: set(&units(record).unwrap_or_default()) }
    }

    pub(super) fn record(self, wanted: u32) -> TransferRecord {
        let asked = TransferRecord {
            from: Some(0),
            to: Some(1),
            wanted,
            state: self.state.into(),
            ..TransferRecord::default()
        };
        let given = told(&asked, Part::Give, &shares(self.units));
        TransferRecord { units: given.units, ..asked }
    }
}

impl Postgres {
    /// `give_up` and `accept_units`.
    fn commit(&mut self, epoch: u8, part: Part, set: u8, broken: Broken) -> Outcome {
        if epoch != self.epoch {
            return Outcome::Unknown;
        }
        let written = if part == Part::Give { self.gave } else { self.accepted };
        if let Some(written) = written {
            return Outcome::Written(shares(written));
        }
        match part {
            Part::Give => {
                if set & !self.shares != 0 || set & self.held != 0 {
                    return Outcome::Contradicted;
                }
                self.gave = Some(set);
                if broken != Broken::Copies {
                    self.shares &= !set;
                }
            }
            Part::Accept => {
                if set & self.shares != 0 {
                    return Outcome::Contradicted;
                }
                self.accepted = Some(set);
                self.shares |= set;
            }
        }
        Outcome::Written(shares(set))
    }
}

impl World {
    pub(super) fn happen(&mut self, event: Event, broken: Broken) -> Option<()> {
        match event {
            Event::Claim(bucket, process, old) => {
                let postgres = &mut self.postgres[bucket];
                postgres.epoch += 1;
                let epoch = postgres.epoch;
                let free = postgres.shares & !postgres.held;
                self.redis[bucket] = Some(Redis { epoch, free, out: 0 });
                let seen = if old { ASKED } else { self.record };
                let doing = Doing::Nothing;
                let keeper = Keeper { epoch, seen, doing, granted: None, left: false };
                self.keepers[bucket][process] = Some(keeper);
            }
            Event::Learn(bucket, process) => {
                self.keepers[bucket][process].as_mut()?.seen = self.record;
            }
            Event::Look(bucket, process) => self.look(bucket, process)?,
            Event::TakeOut(bucket, process) => self.take_out(bucket, process, broken)?,
            Event::Commit(bucket, process, fate) => self.commit(bucket, process, fate, broken)?,
            Event::Append(bucket, process) => {
                let keeper = self.keepers[bucket][process].as_mut()?;
                let Doing::Append(set) = keeper.doing else { return None };
                keeper.doing = Doing::Nothing;
                match self.redis[bucket].as_mut().filter(|redis| redis.epoch == keeper.epoch) {
                    Some(redis) => {
                        redis.free |= set;
                        self.tell(bucket, process, Part::Accept, set);
                    }
                    None => self.keepers[bucket][process] = None,
                }
            }
            Event::Grant(bucket, process) => {
                let keeper = self.keepers[bucket][process].as_mut()?;
                let redis = self.redis[bucket].as_mut().filter(|of| of.epoch == keeper.epoch)?;
                let unit = redis.free & redis.free.wrapping_neg();
                if unit == 0 {
                    return None;
                }
                self.left.holds -= 1;
                redis.free &= !unit;
                keeper.granted = Some(unit);
            }
            Event::Hold(bucket, process) => {
                let keeper = self.keepers[bucket][process].as_mut()?;
                let unit = keeper.granted.take()?;
                let postgres = &mut self.postgres[bucket];
                if keeper.epoch != postgres.epoch {
                    self.keepers[bucket][process] = None;
                    return Some(());
                }
                self.clashed |= unit & postgres.held != 0 || unit & !postgres.shares != 0;
                postgres.held |= unit;
            }
            Event::Arrive(number) => {
                let (bucket, epoch, gives, set) = self.late.remove(number);
                let part = if gives { Part::Give } else { Part::Accept };
                self.postgres[bucket].commit(epoch, part, set, broken);
            }
            Event::Crash(process) => {
                self.left.crashes -= 1;
                self.keepers.iter_mut().for_each(|of| of[process] = None);
            }
            Event::Wipe(bucket) => {
                self.left.forgets -= 1;
                self.redis[bucket] = None;
            }
        }
        let epochs = [self.postgres[0].epoch, self.postgres[1].epoch];
        self.late.retain(|(bucket, epoch, ..)| *epoch == epochs[*bucket]);
        Some(())
    }

    fn look(&mut self, bucket: usize, process: usize) -> Option<()> {
        let keeper = self.keepers[bucket][process].as_mut()?;
        let postgres = &self.postgres[bucket];
        if keeper.epoch != postgres.epoch {
            self.keepers[bucket][process] = None;
            return Some(());
        }
        let seen = keeper.seen.record(self.left.wanted);
        let part = part(&seen, u32::try_from(bucket).ok()?)?;
        let written = if part == Part::Give { postgres.gave } else { postgres.accepted };
        let written = written.map(shares);
        match next(&seen, part, written.as_deref()) {
            Step::GiveUp { most } => keeper.doing = Doing::TakeOut(most),
            Step::Accept { units } => keeper.doing = Doing::Commit(Part::Accept, set(&units)),
            Step::Tell(record) => {
                // Whoever tells replaces exactly what they saw.
                if self.record == keeper.seen {
                    self.record = News::of(&record);
                }
            }
        }
        Some(())
    }

    fn take_out(&mut self, bucket: usize, process: usize, broken: Broken) -> Option<()> {
        let keeper = self.keepers[bucket][process].as_mut()?;
        let Doing::TakeOut(most) = keeper.doing else { return None };
        let epoch = keeper.epoch;
        let Some(redis) = self.redis[bucket].as_mut().filter(|redis| redis.epoch == epoch) else {
            self.keepers[bucket][process] = None;
            return Some(());
        };
        let mut set = 0_u8;
        for unit in (0..8).rev().map(|bit| 1 << bit) {
            if set.count_ones() < most && redis.free & unit != 0 {
                set |= unit;
            }
        }
        if broken != Broken::GivesFirst {
            redis.free &= !set;
            redis.out |= set;
        }
        keeper.doing = Doing::Commit(Part::Give, set);
        Some(())
    }

    fn commit(&mut self, bucket: usize, process: usize, fate: Fate, broken: Broken) -> Option<()> {
        let keeper = self.keepers[bucket][process].as_mut()?;
        let Doing::Commit(part, set) = keeper.doing else { return None };
        let postgres = &mut self.postgres[bucket];
        let outcome = match fate {
            Fate::Heard => postgres.commit(keeper.epoch, part, set, broken),
            Fate::Refused => {
                self.left.refused -= 1;
                Outcome::Refused
            }
            Fate::Lost => {
                self.left.lost -= 1;
                postgres.commit(keeper.epoch, part, set, broken);
                Outcome::Unknown
            }
            Fate::Late => {
                self.left.lost -= 1;
                self.late.push((bucket, keeper.epoch, part == Part::Give, set));
                Outcome::Unknown
            }
        };
        keeper.doing = Doing::Nothing;
        let then = match after(part, &shares(set), &outcome) {
            After::TakeOver if broken == Broken::Hopes && outcome == Outcome::Unknown => {
                After::Follow
            }
            then => then,
        };
        match (then, part) {
            (After::Follow, Part::Give) => self.tell(bucket, process, Part::Give, set),
            (After::Follow, Part::Accept) => keeper.doing = Doing::Append(set),
            (After::Leave, _) => keeper.left = true,
            (After::TakeOver, _) => self.keepers[bucket][process] = None,
            (After::Again, _) => {
                // A return does nothing to a unit that does not name the transfer.
                let epoch = keeper.epoch;
                if let Some(redis) = self.redis[bucket].as_mut().filter(|of| of.epoch == epoch)
                    && part == Part::Give
                {
                    redis.free |= set & redis.out;
                    redis.out &= !set;
                }
            }
        }
        Some(())
    }

    fn tell(&mut self, bucket: usize, process: usize, part: Part, set: u8) {
        if let Some(keeper) = &self.keepers[bucket][process]
            && self.record == keeper.seen
        {
            let seen = keeper.seen.record(self.left.wanted);
            self.record = News::of(&told(&seen, part, &shares(set)));
        }
    }
}
