//! The ledgers of a sale that nobody held, as random as the seed.

use std::collections::BTreeSet;

use prost::Message;
use proto::chain::head::Head;
use proto::chain::{Chain, Row};
use proto::merkle::{self, GENESIS, Hash};
use proto::wire::events::{LedgerBatch, LedgerEntry, ledger_entry::Kind};
use rand::RngExt;
use rand::rngs::StdRng;
use ring::signature::Ed25519KeyPair;

use crate::ledger::file::Item;

/// Units that each bucket is granted first.
const UNITS: u32 = 300;

pub(super) fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

/// A sale with two buckets in one cell and a third in another.
#[derive(Clone)]
pub(super) struct RandomSale {
    pub(super) sale: String,
    pub(super) buckets: Vec<Vec<Row>>,
    added: u64,
}

/// A bucket while it sells.
struct Selling {
    rows: Vec<Row>,
    free: BTreeSet<u32>,
    /// Order, units, and how many attempts to pay; then whether it is being paid.
    live: Vec<([u8; 16], Vec<u32>, u32, bool)>,
    paid: Vec<([u8; 16], Vec<u32>, u32)>,
    ticket: u64,
}

fn intent(order: &[u8; 16], attempt: u32) -> String {
    format!("pi_{}_{attempt}", order[0])
}

fn entry(kind: Kind, order: &[u8; 16], units: &[u32], attempt: u32) -> LedgerEntry {
    LedgerEntry {
        kind: kind.into(),
        order: order.to_vec(),
        units: units.to_vec(),
        attempt,
        intent: if attempt > 0 { intent(order, attempt) } else { String::new() },
        ..LedgerEntry::default()
    }
}

/// The row behind `before` at a moment that is `seq` and the given microseconds.
pub(super) fn row(before: Hash, seq: u64, at_us: u64, entries: Vec<LedgerEntry>) -> Row {
    let leaves: Vec<_> = entries.iter().map(|entry| merkle::leaf(&entry.encode_to_vec())).collect();
    let (root, epoch) = (merkle::root(&leaves), 1 + seq / 7);
    let hash = merkle::chain(&before, seq, epoch, at_us, &root);
    Row { seq, epoch, at_us, entries: LedgerBatch { entries }.encode_to_vec(), root, hash }
}

impl Selling {
    fn new(first: u32) -> Selling {
        let granted = LedgerEntry {
            kind: Kind::Granted.into(),
            units: vec![first, first + UNITS - 1],
            ..LedgerEntry::default()
        };
        let mut selling = Selling {
            rows: Vec::new(),
            free: (first..first + UNITS).collect(),
            live: Vec::new(),
            paid: Vec::new(),
            ticket: 0,
        };
        selling.append(1, vec![granted]);
        selling
    }

    fn append(&mut self, at_us: u64, entries: Vec<LedgerEntry>) {
        let before = self.rows.last().map_or(GENESIS, |row| row.hash);
        self.rows.push(row(before, self.rows.len() as u64 + 1, at_us, entries));
    }

    fn batch(&mut self, at_us: u64, luck: &mut StdRng) {
        let entries = (0..luck.random_range(1..6)).map(|_| self.event(luck)).collect();
        self.append(at_us, entries);
    }

    fn event(&mut self, luck: &mut StdRng) -> LedgerEntry {
        if self.live.is_empty() || luck.random_bool(0.4) && self.free.len() > 4 {
            return self.hold(luck);
        }
        if !self.paid.is_empty() && luck.random_bool(0.1) {
            let (order, units, attempt) = self.paid.swap_remove(0);
            self.free.extend(&units);
            return entry(Kind::Refunded, &order, &units, attempt);
        }
        let at = luck.random_range(0..self.live.len());
        let (order, units, attempt, pays) = self.live[at].clone();
        match (pays, luck.random_range(0..4)) {
            (false, 0 | 1) => {
                (self.live[at].2, self.live[at].3) = (attempt + 1, true);
                entry(Kind::Paying, &order, &[], attempt + 1)
            }
            (true, 0) => {
                self.live[at].3 = false;
                entry(Kind::Declined, &order, &[], attempt)
            }
            (true, 1 | 2) => {
                self.live.swap_remove(at);
                self.paid.push((order, units, attempt));
                entry(Kind::Paid, &order, &[], attempt)
            }
            (false, kind) => {
                self.end(at, if kind == 2 { Kind::Cancelled } else { Kind::Expired }, 0)
            }
            (true, _) => self.end(at, Kind::Expired, attempt),
        }
    }

    fn hold(&mut self, luck: &mut StdRng) -> LedgerEntry {
        let units: Vec<u32> =
            (0..luck.random_range(1..4)).filter_map(|_| self.free.pop_first()).collect();
        let order: [u8; 16] = luck.random();
        self.ticket += 1;
        self.live.push((order, units.clone(), 0, false));
        LedgerEntry {
            buyer: luck.random::<[u8; 16]>().to_vec(),
            ticket: self.ticket,
            amount_minor: 1_999,
            currency: "EUR".into(),
            revision: 1,
            ..entry(Kind::Held, &order, &units, 0)
        }
    }

    fn end(&mut self, at: usize, kind: Kind, attempt: u32) -> LedgerEntry {
        let (order, units, ..) = self.live.swap_remove(at);
        self.free.extend(&units);
        entry(kind, &order, &units, attempt)
    }
}

fn moved(kind: Kind, units: u32, id: u8, peer: Option<u32>) -> LedgerEntry {
    LedgerEntry {
        kind: kind.into(),
        units: vec![units, units],
        transfer: vec![id; 16],
        peer,
        ..LedgerEntry::default()
    }
}

impl RandomSale {
    pub(super) fn draw(luck: &mut StdRng) -> RandomSale {
        let mut buckets: Vec<Selling> = (0..3).map(|bucket| Selling::new(bucket * UNITS)).collect();
        let mut added = 0;
        for at_us in 2..luck.random_range(15..40) {
            let at = luck.random_range(0..3_usize);
            match luck.random_range(0..8) {
                0 => {
                    let to = (at + 1) % 3;
                    let Some(unit) = buckets[at].free.pop_last() else { continue };
                    let (id, from_number, to_number) = (at_us as u8, at as u32, to as u32);
                    let given = moved(Kind::GivenUp, unit, id, Some(to_number));
                    buckets[at].append(2 * at_us, vec![given]);
                    // Some are still under way.
                    if luck.random_bool(0.8) {
                        let taken = moved(Kind::Accepted, unit, id, Some(from_number));
                        buckets[to].append(2 * at_us + 1, vec![taken]);
                        buckets[to].free.insert(unit);
                    }
                }
                1 => {
                    let unit = 1_000 + at_us as u32;
                    buckets[at]
                        .append(2 * at_us, vec![moved(Kind::Accepted, unit, at_us as u8, None)]);
                    buckets[at].free.insert(unit);
                    added += 1;
                }
                _ => buckets[at].batch(2 * at_us, luck),
            }
        }
        for bucket in &mut buckets {
            bucket.batch(1_000, luck);
        }
        let buckets = buckets.into_iter().map(|selling| selling.rows).collect();
        RandomSale { sale: "s0123456789abcdef".into(), buckets, added }
    }

    /// Bucket 0 gives unit 50 to bucket 1 in its second row, which accepts it in its second row; another row follows.
    pub(super) fn with_transfer() -> RandomSale {
        let (mut giver, mut receiver) = (Selling::new(0), Selling::new(UNITS));
        giver.append(10, vec![moved(Kind::GivenUp, 50, 1, Some(1))]);
        receiver.append(20, vec![moved(Kind::Accepted, 50, 1, Some(0))]);
        for selling in [&mut giver, &mut receiver] {
            selling.append(30, vec![]);
        }
        RandomSale { sale: "stransfer".into(), buckets: vec![giver.rows, receiver.rows], added: 0 }
    }

    pub(super) fn renamed(mut self, sale: &str) -> RandomSale {
        self.sale = sale.into();
        self
    }

    pub(super) fn stock(&self) -> u64 {
        self.buckets.len() as u64 * u64::from(UNITS) + self.added
    }

    pub(super) fn head(&self, bucket: usize, rows: usize) -> String {
        self.head_by(bucket, rows, 1)
    }

    pub(super) fn head_by(&self, bucket: usize, rows: usize, seed: u8) -> String {
        let mut chain = Chain::default();
        self.buckets[bucket][..rows].iter().for_each(|row| chain.stand_at(row));
        Head::of("acme", &self.sale, bucket as u32, &chain).sign(&key(seed))
    }

    /// The heads of all buckets at the row that `at` makes of the last one.
    pub(super) fn heads_at(&self, at: impl Fn(usize) -> usize) -> Vec<String> {
        let rows = self.buckets.iter().map(Vec::len).enumerate();
        rows.map(|(bucket, last)| self.head(bucket, at(last).min(last))).collect()
    }

    /// The items of each file: buckets 0 and 1, and the others.
    pub(super) fn items(&self) -> Vec<Vec<Item>> {
        self.items_up_to(|last| last)
    }

    /// The same, with heads for the row that `covered` makes of a bucket's last one.
    pub(super) fn items_up_to(&self, covered: impl Fn(usize) -> usize) -> Vec<Vec<Item>> {
        let mut files = vec![Vec::new(), Vec::new()];
        for (bucket, rows) in self.buckets.iter().enumerate() {
            let file = &mut files[usize::from(bucket > 1)];
            file.push(Item::Bucket {
                bucket: bucket as u32,
                head: self.head(bucket, covered(rows.len())),
            });
            file.extend(rows.iter().cloned().map(Item::Row));
        }
        files.retain(|file| !file.is_empty());
        for file in &mut files {
            file.insert(0, Item::Begin { org: "acme".into(), sale: self.sale.clone() });
        }
        files
    }

    pub(super) fn files(&self) -> Vec<String> {
        self.items().iter().map(|items| written(items)).collect()
    }

    /// Puts other units into the only entry of a row, and signs for what comes of it: the cell itself is wrong.
    pub(super) fn replace_units(&mut self, bucket: usize, at: usize, units: Vec<u32>) {
        let mut batch = LedgerBatch::decode(&self.buckets[bucket][at].entries[..]).unwrap();
        batch.entries[0].units = units;
        self.buckets[bucket][at].entries = batch.encode_to_vec();
        self.chain_anew(bucket);
    }

    pub(super) fn drop_row(&mut self, bucket: usize, at: usize) {
        self.buckets[bucket].remove(at);
        self.chain_anew(bucket);
    }

    pub(super) fn repeat_row(&mut self, bucket: usize, at: usize) {
        let row = self.buckets[bucket][at].clone();
        self.buckets[bucket].insert(at, row);
        self.chain_anew(bucket);
    }

    pub(super) fn cut(&mut self, bucket: usize, rows: usize) {
        self.buckets[bucket].truncate(rows);
    }

    fn chain_anew(&mut self, bucket: usize) {
        chain_anew(&mut self.buckets[bucket]);
    }
}

/// Hashes rows again, so that they follow one another.
pub(super) fn chain_anew(rows: &mut [Row]) {
    let mut before = GENESIS;
    for (seq, row) in (1..).zip(rows) {
        let entries = LedgerBatch::decode(&row.entries[..]).unwrap().entries;
        *row = self::row(before, seq, row.at_us, entries);
        before = row.hash;
    }
}

/// A file of these items, with the end that fits.
pub(super) fn written(items: &[Item]) -> String {
    let count = |is: fn(&&Item) -> bool| items.iter().filter(is).count() as u64;
    let buckets = count(|item| matches!(item, Item::Bucket { .. }));
    let rows = count(|item| matches!(item, Item::Row(_)));
    let lines = items.iter().map(Item::line);
    lines.chain([Item::End { buckets, rows }.line()]).collect()
}
