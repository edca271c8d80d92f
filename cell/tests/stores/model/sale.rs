//! The sale: two buckets on the same stores, each with its epoch, and the units between them.

use std::collections::BTreeSet;

use floodgate_cell::ledger::{LedgerError, Share};
use floodgate_cell::transfer::{TransferId, ranges};

use super::keeper::Keeper;
use super::{Act, CAP, End, Step, UNITS};
use crate::moves::bucket_beside;
use crate::stores::{FIRST_UNIT, Stores};

/// The buckets.
const BUCKETS: usize = 2;
/// Units that the merchant adds have numbers from here on.
const ADDED: u32 = FIRST_UNIT + 1_000;

/// Units that were given up. What the merchant adds was given up by nobody, and what he takes back arrives nowhere.
#[derive(Clone, Debug)]
struct Transit {
    transfer: TransferId,
    from: Option<usize>,
    to: Option<usize>,
    units: Vec<Share>,
    has_arrived: bool,
}

pub(super) struct Sale<'a> {
    stores: &'a Stores,
    keepers: Vec<Keeper<'a>>,
    transits: Vec<Transit>,
    transfers: u8,
    /// Every unit that there ever was.
    stock: BTreeSet<u32>,
}

fn number(bucket: usize) -> u32 {
    u32::try_from(bucket).unwrap()
}

impl Sale<'_> {
    pub(super) async fn begin<'a>(stores: &'a Stores, sale: &str) -> Sale<'a> {
        let first = stores.bucket(sale, UNITS, CAP).await;
        let share = Share { first_unit: FIRST_UNIT + UNITS, units: UNITS };
        let second = bucket_beside(stores, &first, 1, share).await;
        let mut keepers = Vec::new();
        for (bucket, first_unit) in [(first, FIRST_UNIT), (second, FIRST_UNIT + UNITS)] {
            let units = (first_unit..first_unit + UNITS).collect();
            keepers.push(Keeper::begin(stores, bucket, units).await);
        }
        let stock = (FIRST_UNIT..FIRST_UNIT + 2 * UNITS).collect();
        Sale { stores, keepers, transits: Vec::new(), transfers: 0, stock }
    }

    pub(super) async fn step(&mut self, step: &Step) {
        match step {
            Step::In(bucket, Act::Give { to_merchant, most, end }) => {
                let to = Some((bucket + 1) % BUCKETS).filter(|_| !to_merchant);
                self.give((*bucket, to), *most, *end).await;
            }
            Step::In(bucket, Act::Add { units, end }) => self.add(*bucket, *units, *end).await,
            Step::In(bucket, act) => self.keepers[*bucket].act(act).await,
            Step::Accept { which, end } => self.accept(*which, *end).await,
            Step::Wipe => {
                let mut redis = self.stores.redis.clone();
                let _: () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
                for keeper in &mut self.keepers {
                    keeper.is_lost().await;
                }
            }
        }
    }

    async fn give(&mut self, (from, to): (usize, Option<usize>), most: u32, end: End) {
        let transfer = self.new_transfer();
        let giver = &mut self.keepers[from];
        if let Some(units) = giver.give(transfer, to.map(number), (most, end)).await {
            let units = ranges(units);
            self.transits.push(Transit {
                transfer,
                from: Some(from),
                to,
                units,
                has_arrived: false,
            });
        }
    }

    async fn add(&mut self, to: usize, units: u32, end: End) {
        let first_unit = ADDED + number(self.transits.len()) * 10;
        self.stock.extend(first_unit..first_unit + units);
        let (transfer, units) = (self.new_transfer(), vec![Share { first_unit, units }]);
        let to = Some(to);
        self.transits.push(Transit { transfer, from: None, to, units, has_arrived: false });
        self.arrive(self.transits.len() - 1, end).await;
    }

    async fn accept(&mut self, which: usize, end: End) {
        let waits = |one: &Transit| one.to.is_some() && !one.has_arrived && !one.units.is_empty();
        let waiting: Vec<usize> =
            (0..self.transits.len()).filter(|place| waits(&self.transits[*place])).collect();
        if let Some(place) = waiting.get(which % waiting.len().max(1)) {
            self.arrive(*place, end).await;
        }
        self.nothing_is_accepted_twice().await;
    }

    async fn arrive(&mut self, place: usize, end: End) {
        let one = &mut self.transits[place];
        let Some(to) = one.to else { return };
        let from = one.from.map(number);
        one.has_arrived = self.keepers[to].accept(one.transfer, from, (&one.units, end)).await;
    }

    /// What is in a bucket of this cell no bucket of it accepts, under whatever name.
    async fn nothing_is_accepted_twice(&self) {
        for keeper in &self.keepers {
            let held: BTreeSet<u32> =
                self.keepers.iter().flat_map(|keeper| keeper.model.units()).collect();
            let Some(unit) = held.first() else { return };
            let side = keeper.side(TransferId([0xcc; 16]), None);
            let one = [Share { first_unit: *unit, units: 1 }];
            let copied = side.accept(&self.stores.pool, &one).await;
            let is_refused = matches!(&copied, Err(LedgerError::Taken(key)) if key == "share_once");
            assert!(is_refused, "{copied:?}");
        }
    }

    fn new_transfer(&mut self) -> TransferId {
        self.transfers += 1;
        let mut id = [0x7f; 16];
        id[0] = self.transfers;
        TransferId(id)
    }

    /// Both buckets, unit by unit, are what the model is, and every unit is in one of them or in transit (INV-2).
    pub(super) async fn compare(&self) {
        let mut all: Vec<u32> = Vec::new();
        for keeper in &self.keepers {
            all.extend(keeper.compare().await);
        }
        let waiting = self.transits.iter().filter(|one| !one.has_arrived);
        let shares = waiting.flat_map(|one| &one.units);
        all.extend(shares.flat_map(|one| one.first_unit..one.first_unit + one.units));
        all.sort_unstable();
        assert_eq!(all, self.stock.iter().copied().collect::<Vec<_>>());
    }

    /// Both ledgers are whole.
    pub(super) async fn end(&self) {
        for keeper in &self.keepers {
            self.stores.ledger(keeper.bucket.bucket).await;
        }
    }
}
