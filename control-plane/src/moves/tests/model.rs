//! A plain simulation of a sale's buckets and their lines, with reports that come late: in the end every unit is sold or
//! nobody can use it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use proto::wire::cell::UnitRange;

use super::{sale, transfer};
use crate::moves::*;

const TICK_MS: u64 = 100;
/// Ticks in which nothing moves before a sale is said to be at rest: longer than anything here takes.
const REST_TICKS: u64 = 60;

/// Numbers by the xorshift method: the same seed gives the same ones.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

#[derive(Clone, Debug)]
struct Ticket {
    want: u32,
    /// Has come and was told that nothing is free.
    asked: bool,
    /// Never comes; gone at this tick.
    ghost_until: Option<u64>,
}

#[derive(Debug, Default)]
struct Bucket {
    free: BTreeSet<u32>,
    /// Held units, until when, and whether they are paid for then.
    live: Vec<(Vec<u32>, u64, bool)>,
    line: Vec<Ticket>,
    told: Option<BucketReport>,
    /// Reports on their way, by the tick at which they arrive.
    posted: VecDeque<(u64, BucketReport)>,
}

/// A plain model of a sale: buckets with lines, and a control plane that sees them late.
struct Model {
    sale: SaleRecord,
    dice: Dice,
    tick: u64,
    buckets: Vec<Bucket>,
    seen: BTreeMap<u32, BucketReport>,
    transfers: Vec<(u64, TransferRecord)>,
    fresh: Fresh,
    sold: BTreeSet<u32>,
    moved_at: u64,
}

impl Model {
    fn new(buckets: usize, stock: u32, cap: u32, buyers: u64, seed: u64) -> Model {
        let mut dice = Dice(seed | 1);
        let mut model: Vec<Bucket> = (0..buckets).map(|_| Bucket::default()).collect();
        for unit in 0..stock {
            let place = unit as usize * buckets / stock as usize;
            model[place].free.insert(unit);
        }
        // Most buyers crowd into some buckets.
        for _ in 0..buyers {
            let most = if dice.one_in(3) { buckets as u64 } else { (buckets as u64).div_ceil(2) };
            let place = usize::try_from(dice.below(most)).unwrap();
            let ghost = dice.one_in(4).then(|| 5 + dice.below(40));
            let want = 1 + u32::try_from(dice.below(cap.into())).unwrap();
            model[place].line.push(Ticket { want, asked: false, ghost_until: ghost });
        }
        Model {
            sale: SaleRecord { stock, ..sale(buckets, cap) },
            dice,
            tick: 0,
            buckets: model,
            seen: BTreeMap::new(),
            transfers: Vec::new(),
            fresh: Fresh::default(),
            sold: BTreeSet::new(),
            moved_at: 0,
        }
    }

    fn step(&mut self) {
        self.tick += 1;
        for place in 0..self.buckets.len() {
            self.sell(place);
            self.report(place);
        }
        self.carry();
        self.plan();
        self.check();
    }

    /// Holds end, ghosts go, some of those who are there ask.
    fn sell(&mut self, place: usize) {
        let (tick, dice, bucket) = (self.tick, &mut self.dice, &mut self.buckets[place]);
        let (over, live): (Vec<_>, Vec<_>) =
            bucket.live.drain(..).partition(|(_, until, _)| *until <= tick);
        bucket.live = live;
        for (units, _, paid) in over {
            self.moved_at = tick;
            if paid { self.sold.extend(units) } else { bucket.free.extend(units) }
        }
        bucket.line.retain(|ticket| ticket.ghost_until.is_none_or(|until| until > tick));
        let mut line = std::mem::take(&mut bucket.line);
        line.retain_mut(|ticket| {
            if ticket.ghost_until.is_some() || dice.one_in(3) {
                return true;
            }
            let want = ticket.want as usize;
            if bucket.free.len() < want {
                ticket.asked = true;
                return true;
            }
            let units: Vec<u32> = bucket.free.iter().copied().take(want).collect();
            units.iter().for_each(|unit| assert!(bucket.free.remove(unit)));
            bucket.live.push((units, tick + 1 + dice.below(6), !dice.one_in(4)));
            self.moved_at = tick;
            false
        });
        bucket.line = line;
    }

    fn report(&mut self, place: usize) {
        let bucket = &mut self.buckets[place];
        let number = u32::try_from(place).unwrap();
        let free = u32::try_from(bucket.free.len()).unwrap();
        let wants = || bucket.line.iter().map(|ticket| if ticket.asked { ticket.want } else { 1 });
        let report = BucketReport {
            bucket: number,
            free,
            live: u32::try_from(bucket.live.iter().map(|hold| hold.0.len()).sum::<usize>())
                .unwrap(),
            wanted: wants().sum(),
            wanted_min: wants().min().unwrap_or(0),
            // Each cell's clock is another one.
            at_ms: self.tick * TICK_MS + u64::from(number) * 5_000,
            ..BucketReport::default()
        };
        let same =
            |told: &BucketReport| BucketReport { at_ms: report.at_ms, ..told.clone() } == report;
        if !bucket.told.as_ref().is_some_and(same) {
            bucket.told = Some(report.clone());
            // In order, however long each takes.
            let after = bucket.posted.back().map_or(0, |(at, _)| *at);
            let at = (self.tick + self.dice.below(5)).max(after);
            bucket.posted.push_back((at, report));
        }
        while bucket.posted.front().is_some_and(|(at, _)| *at <= self.tick) {
            let (_, report) = bucket.posted.pop_front().unwrap();
            self.seen.insert(number, report);
        }
    }

    /// Givers and receivers do their part when they come to it.
    fn carry(&mut self) {
        for (due, transfer) in &mut self.transfers {
            if *due > self.tick {
                continue;
            }
            *due = self.tick + self.dice.below(5);
            match (transfer.state(), transfer.from, transfer.to) {
                (State::Asked, Some(from), _) => {
                    let free = &mut self.buckets[from as usize].free;
                    let given: Vec<u32> =
                        free.iter().copied().take(transfer.wanted as usize).collect();
                    given.iter().for_each(|unit| assert!(free.remove(unit)));
                    transfer.units =
                        given.iter().map(|unit| UnitRange { first: *unit, units: 1 }).collect();
                    transfer.set_state(State::Given);
                }
                (State::Given, _, Some(to)) if !transfer.units.is_empty() => {
                    let free = &mut self.buckets[to as usize].free;
                    transfer.units.iter().for_each(|range| assert!(free.insert(range.first)));
                    transfer.set_state(State::Accepted);
                }
                _ => {}
            }
            self.moved_at = self.tick;
        }
    }

    fn plan(&mut self) {
        let now_ms = self.tick * TICK_MS;
        let over = |transfer: &TransferRecord| {
            let given = transfer.state() == State::Given && transfer.units.is_empty();
            given || transfer.state() == State::Accepted
        };
        for (_, transfer) in self.transfers.iter().filter(|(_, transfer)| over(transfer)) {
            [transfer.from, transfer.to]
                .into_iter()
                .flatten()
                .for_each(|b| self.fresh.over(b, now_ms));
        }
        self.transfers.retain(|(_, transfer)| !over(transfer));
        let reports: Vec<_> = self.seen.values().cloned().collect();
        let transfers: Vec<_> = self.transfers.iter().map(|(_, one)| one.clone()).collect();
        let aside = self.fresh.aside(&reports, now_ms);
        let seen = Seen {
            sale: &self.sale,
            reports: &reports,
            transfers: &transfers,
            aside: &aside,
            now_ms,
        };
        for wish in wishes(seen) {
            self.moved_at = self.tick;
            [wish.from, wish.to].into_iter().for_each(|b| self.fresh.asked(b, &reports));
            let mut asked = transfer(State::Asked, Some(wish.from), Some(wish.to), wish.wanted);
            asked.create_ms = now_ms;
            self.transfers.push((self.tick + self.dice.below(5), asked));
        }
    }

    /// Every unit is in one place, and nobody gives to two at a time.
    fn check(&self) {
        let free = self.buckets.iter().flat_map(|bucket| bucket.free.iter().copied());
        let live = self
            .buckets
            .iter()
            .flat_map(|bucket| bucket.live.iter().flat_map(|hold| hold.0.clone()));
        let given = self.transfers.iter().filter(|(_, one)| one.state() == State::Given);
        let given = given.flat_map(|(_, one)| one.units.iter().map(|range| range.first));
        let mut all: Vec<u32> =
            free.chain(live).chain(given).chain(self.sold.iter().copied()).collect();
        all.sort_unstable();
        assert_eq!(
            all,
            (0..self.sale.stock).collect::<Vec<_>>(),
            "a unit is lost or in two places"
        );
        let mut givers: Vec<_> = self.transfers.iter().filter_map(|(_, one)| one.from).collect();
        let all = givers.len();
        givers.sort_unstable();
        givers.dedup();
        assert_eq!(givers.len(), all, "a bucket gives to two at a time");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn in_the_end_every_unit_is_sold_or_nobody_can_use_it(
        buckets in 2_usize..6,
        stock in 1_u32..60,
        cap in 1_u32..5,
        buyers in 0_u64..120,
        seed in any::<u64>(),
    ) {
        let mut model = Model::new(buckets, stock, cap, buyers, seed);
        while model.tick < model.moved_at + REST_TICKS {
            model.step();
            prop_assert!(model.tick < 5_000, "it does not come to rest");
        }
        prop_assert!(model.transfers.is_empty(), "{:?}", model.transfers);
        let left: usize = model.buckets.iter().map(|bucket| bucket.free.len()).sum();
        let wants = model.buckets.iter().flat_map(|bucket| &bucket.line).map(|ticket| ticket.want);
        let least = wants.min().unwrap_or(u32::MAX);
        prop_assert!(left < least as usize, "{left} units are left and somebody wants {least}: {:?}", model.buckets);
    }
}
