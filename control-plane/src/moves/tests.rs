use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use proto::wire::cell::{BucketPlan, UnitRange};

use super::*;

const TICK_MS: u64 = 100;
/// Ticks in which nothing moves before a sale is said to be at rest: longer than anything here takes.
const REST_TICKS: u64 = 60;

fn sale(buckets: usize, cap: u32) -> SaleRecord {
    let mut sale = SaleRecord {
        sale: "s01".into(),
        stock: 100,
        cap,
        admission_rate: 1_000,
        end_ms: u64::MAX,
        buckets: vec![BucketPlan::default(); buckets],
        ..SaleRecord::default()
    };
    sale.set_state(Decided::Warm);
    sale
}

/// Free units, wanted ones, and the fewest that serve somebody.
fn reports(rows: &[(u32, u32, u32)]) -> Vec<BucketReport> {
    let report = |(bucket, &(free, wanted, wanted_min))| BucketReport {
        bucket,
        free,
        wanted,
        wanted_min,
        ..BucketReport::default()
    };
    (0..).zip(rows).map(report).collect()
}

fn transfer(state: State, from: Option<u32>, to: Option<u32>, units: u32) -> TransferRecord {
    let mut transfer =
        TransferRecord { from, to, wanted: units, create_ms: 1_000, ..TransferRecord::default() };
    if state != State::Asked {
        transfer.units = vec![UnitRange { first: 0, units }];
    }
    transfer.set_state(state);
    transfer
}

fn plan(sale: &SaleRecord, reports: &[BucketReport], transfers: &[TransferRecord]) -> Vec<Wish> {
    wishes(Seen { sale, reports, transfers, aside: &BTreeSet::new(), now_ms: 1_000 })
}

fn wish(from: u32, to: u32, wanted: u32) -> Wish {
    Wish { from, to, wanted }
}

#[test]
fn who_gives_what_to_whom() {
    let rows: [(&str, &[(u32, u32, u32)], &[Wish]); 14] = [
        ("nobody wants anything", &[(5, 0, 0), (0, 0, 0)], &[]),
        ("each can serve its own line", &[(5, 5, 1), (3, 3, 1)], &[]),
        ("both lines are longer", &[(5, 9, 1), (3, 9, 1)], &[]),
        ("one has more than its line", &[(5, 2, 1), (0, 2, 1)], &[wish(0, 1, 2)]),
        ("no more than it can spare", &[(5, 4, 1), (0, 9, 1)], &[wish(0, 1, 1)]),
        (
            "the largest giver first",
            &[(2, 0, 0), (0, 4, 1), (3, 0, 0)],
            &[wish(2, 1, 3), wish(0, 1, 1)],
        ),
        (
            "an equal part each",
            &[(4, 0, 0), (4, 0, 0), (0, 9, 1), (0, 9, 1)],
            &[wish(0, 2, 4), wish(1, 3, 4)],
        ),
        (
            "the one that is nearest to serving",
            &[(1, 0, 0), (0, 2, 2), (1, 2, 2)],
            &[wish(0, 2, 1)],
        ),
        ("two that serve nobody", &[(1, 2, 2), (1, 2, 2)], &[wish(1, 0, 1)]),
        ("three, of which two are enough", &[(1, 9, 3), (1, 2, 2), (1, 9, 3)], &[wish(0, 1, 1)]),
        ("all of three", &[(1, 3, 3), (1, 3, 3), (1, 3, 3)], &[wish(1, 0, 1), wish(2, 0, 1)]),
        ("one without a unit", &[(1, 3, 3), (1, 3, 3), (0, 2, 2)], &[wish(0, 2, 1), wish(1, 2, 1)]),
        ("together still too few", &[(1, 3, 3), (1, 3, 3)], &[]),
        ("one can serve, and keeps its units", &[(2, 9, 1), (1, 2, 2)], &[]),
    ];
    for (what, given, expected) in rows {
        assert_eq!(plan(&sale(given.len(), 3), &reports(given), &[]), expected, "{what}");
    }
}

#[test]
fn units_stay_where_they_are_while_the_sale_is_young() {
    let young = SaleRecord { admission_rate: 10, ..sale(2, 1) };
    let dry = dry_units(&young);
    assert_eq!(dry, 6);
    assert_eq!(plan(&young, &reports(&[(900, 10, 1), (dry + 1, 500, 1)]), &[]), []);
    // Then as much at a time as it needs until the next one comes.
    assert_eq!(plan(&young, &reports(&[(900, 10, 1), (dry, 500, 1)]), &[]), [wish(0, 1, dry)]);
}

#[test]
fn only_while_it_sells() {
    let given = reports(&[(5, 0, 0), (0, 5, 1)]);
    let moves = |sale: &SaleRecord| plan(sale, &given, &[]).len();
    let in_state = |state| {
        let mut sale = sale(2, 1);
        sale.set_state(state);
        sale
    };
    assert_eq!(moves(&sale(2, 1)), 1);
    assert_eq!(moves(&SaleRecord { paused: true, ..sale(2, 1) }), 0);
    assert_eq!(moves(&SaleRecord { start_ms: 1_001, ..sale(2, 1) }), 0);
    assert_eq!(moves(&SaleRecord { end_ms: 1_000, ..sale(2, 1) }), 0);
    for state in [Decided::Draft, Decided::Warming, Decided::Cancelled, Decided::Settled] {
        assert_eq!(moves(&in_state(state)), 0, "{state:?}");
    }
}

#[test]
fn what_is_under_way_is_not_asked_for_again() {
    use State::{Accepted, Asked, Given};
    let given = reports(&[(9, 0, 0), (0, 4, 1), (2, 0, 0)]);
    let moves = |transfers: &[TransferRecord]| plan(&sale(3, 1), &given, transfers);
    assert_eq!(moves(&[]), [wish(0, 1, 4)]);
    // Who gives to one gives to nobody else, and what it was asked for is counted on for a while.
    assert_eq!(moves(&[transfer(Asked, Some(0), Some(1), 4)]), []);
    assert_eq!(moves(&[transfer(Asked, Some(0), Some(1), 1)]), [wish(2, 1, 2)]);
    let old = TransferRecord { create_ms: 0, ..transfer(Asked, Some(0), Some(1), 4) };
    let late = Seen {
        sale: &sale(3, 1),
        reports: &given,
        transfers: &[old],
        aside: &BTreeSet::new(),
        now_ms: ANSWER_MS,
    };
    assert_eq!(wishes(late), [wish(2, 1, 2)]);
    for state in [Given, Accepted] {
        assert_eq!(moves(&[transfer(state, Some(0), Some(1), 3)]), [wish(2, 1, 1)], "{state:?}");
    }
    // What the merchant takes back and adds counts as well.
    assert_eq!(moves(&[transfer(Asked, Some(0), None, 9)]), [wish(2, 1, 2)]);
    assert_eq!(moves(&[transfer(Given, None, Some(1), 4)]), []);
    assert_eq!(moves(&[transfer(Given, None, Some(0), 4)]), [wish(2, 1, 2)]);
    // A bucket that gives takes nothing.
    assert_eq!(moves(&[transfer(Asked, Some(1), None, 1)]), []);
    let aside = BTreeSet::from([0]);
    let seen =
        Seen { sale: &sale(3, 1), reports: &given, transfers: &[], aside: &aside, now_ms: 0 };
    assert_eq!(wishes(seen), [wish(2, 1, 2)]);
}

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
        let (over, live) = bucket.live.drain(..).partition(|(_, until, _)| *until <= tick);
        bucket.live = live;
        for (units, _, paid) in Vec::<(Vec<u32>, u64, bool)>::from(over) {
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
