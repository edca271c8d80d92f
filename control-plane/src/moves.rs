//! Moves: which units a sale's buckets are asked to hand to one another while it sells.
//!
//! A pure function of what keepers report and of the transfers that are open. It promises:
//! - near the end units go to where buyers are: a bucket that is running dry gets what others have beyond their lines;
//! - buckets of which each has fewer units than anybody in its line wants are gathered into one that can serve then;
//! - nothing is taken from a bucket that its own line could use, and nothing is sent to a cell in which no process lives;
//! - a bucket gives to one at a time and does not take meanwhile, and the other way round;
//! - the same input gives the same wishes, and when nothing changes they come to an end: each one brings units to
//!   somebody who wants them.
//!
//! A wish is no order: the giver gives what is free when it is asked, perhaps nothing, so a report that is out of date
//! can make a wish useless and never wrong. Whether units are in two places is not decided here but in the Postgres of
//! giver and receiver.

mod fresh;

use std::cmp::Reverse;
use std::collections::BTreeSet;

use proto::limits::TRANSFERS_AT_ONCE_MAX;
use proto::wire::cell::sale_record::State as Decided;
use proto::wire::cell::transfer_record::State;
use proto::wire::cell::{BucketReport, SaleRecord, TransferRecord};

pub use fresh::Fresh;

/// A bucket is running dry when it has no more than what the sale could admit to it within this time: longer than a
/// transfer takes, so that its line need not wait, and short, so that units stay where they are while the sale is young.
const DRY_MS: u64 = 1_000;
/// After this time without an answer nobody counts on what a giver was asked for.
const ANSWER_MS: u64 = 2_000;

/// Units that one bucket should hand to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The giver.
    pub from: u32,
    /// The receiver.
    pub to: u32,
    /// How many at most.
    pub wanted: u32,
}

/// What there is to see of a sale.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Its record.
    pub sale: &'a SaleRecord,
    /// What its keepers say.
    pub reports: &'a [BucketReport],
    /// Its transfers that are not removed yet.
    pub transfers: &'a [TransferRecord],
    /// Buckets that take no part: nobody lives in their cells, or their reports are older than their last transfer.
    pub aside: &'a BTreeSet<u32>,
    /// Unix milliseconds.
    pub now_ms: u64,
}

/// Whether units of the sale can be bought now, so that it is of use to move them.
pub fn sells(sale: &SaleRecord, now_ms: u64) -> bool {
    let open = sale.state() == Decided::Warm && !sale.paused;
    open && sale.start_ms <= now_ms && now_ms < sale.end_ms
}

/// The transfers to ask for.
pub fn wishes(seen: Seen<'_>) -> Vec<Wish> {
    if seen.sale.buckets.len() < 2 || !sells(seen.sale, seen.now_ms) {
        return Vec::new();
    }
    let sides: Vec<Side> = seen.reports.iter().filter_map(|report| side(seen, report)).collect();
    let mut wishes = spread(&sides, dry_units(seen.sale));
    if wishes.is_empty() {
        wishes = gather(&sides);
    }
    wishes.truncate(TRANSFERS_AT_ONCE_MAX);
    wishes
}

/// A bucket as it looks from here.
#[derive(Clone, Copy, Debug)]
struct Side {
    bucket: u32,
    free: u32,
    /// Free units and those that are on their way to it.
    have: u32,
    wanted: u32,
    /// The fewest that serve somebody; 0 without a line.
    least: u32,
    gives: bool,
    takes: bool,
}

impl Side {
    /// Units that its own line does not ask for.
    fn spare(&self) -> u32 {
        if self.gives { self.free.saturating_sub(self.wanted) } else { 0 }
    }

    /// How many more it needs to serve anybody.
    fn deficit(&self) -> u32 {
        self.least.max(1).saturating_sub(self.have)
    }

    /// Whether nobody in its line can be served with what it has.
    fn is_stuck(&self) -> bool {
        self.have < self.least
    }
}

fn side(seen: Seen<'_>, report: &BucketReport) -> Option<Side> {
    let bucket = report.bucket;
    if seen.aside.contains(&bucket) {
        return None;
    }
    let leaving = seen.transfers.iter().any(|transfer| transfer.from == Some(bucket));
    let coming = || seen.transfers.iter().filter(|transfer| transfer.to == Some(bucket));
    let on_its_way = coming().map(|transfer| counted_on(transfer, seen.now_ms));
    Some(Side {
        bucket,
        free: report.free,
        have: on_its_way.fold(report.free, u32::saturating_add),
        wanted: report.wanted,
        least: report.wanted_min,
        gives: !leaving && coming().next().is_none(),
        takes: !leaving,
    })
}

/// How many units of a transfer its receiver will have soon.
fn counted_on(transfer: &TransferRecord, now_ms: u64) -> u32 {
    match transfer.state() {
        State::Asked if now_ms < transfer.create_ms.saturating_add(ANSWER_MS) => transfer.wanted,
        State::Asked | State::Unspecified => 0,
        State::Given | State::Accepted => units_of(transfer),
    }
}

/// How many units were given up under a transfer.
pub fn units_of(transfer: &TransferRecord) -> u32 {
    transfer.units.iter().fold(0, |sum, range| sum.saturating_add(range.units))
}

/// What one bucket can sell within [`DRY_MS`] at the sale's rate, at least one buyer's part.
fn dry_units(sale: &SaleRecord) -> u32 {
    let buckets = u64::try_from(sale.buckets.len()).unwrap_or(u64::MAX).max(1);
    let tickets = u64::from(sale.admission_rate) * DRY_MS / 1_000 / buckets;
    let units = (tickets + 1) * u64::from(sale.cap.max(1));
    u32::try_from(units).unwrap_or(u32::MAX)
}

/// Gives what is spare to those that run dry: whoever is nearest to serving somebody comes first, nobody gets more than
/// an equal part of what there is unless that would serve nobody.
fn spread(sides: &[Side], dry_units: u32) -> Vec<Wish> {
    let dry = |side: &&Side| side.takes && side.have < side.wanted && side.have <= dry_units;
    let mut takers: Vec<&Side> = sides.iter().filter(dry).collect();
    takers.sort_by_key(|side| (side.deficit(), side.bucket));
    let mut givers: Vec<&Side> = sides.iter().filter(|side| side.spare() > 0).collect();
    givers.sort_by_key(|side| (side.spare(), Reverse(side.bucket)));
    let spare = givers.iter().fold(0, |sum: u32, side| sum.saturating_add(side.spare()));
    let part = spare.div_ceil(u32::try_from(takers.len()).unwrap_or(u32::MAX).max(1));
    let mut wishes = Vec::new();
    for taker in takers {
        let need = (taker.wanted - taker.have).min(dry_units);
        let mut left = need.min(part.max(taker.deficit()));
        while let Some(giver) = givers.pop_if(|_| left > 0) {
            let wanted = left.min(giver.spare());
            wishes.push(Wish { from: giver.bucket, to: taker.bucket, wanted });
            left -= wanted;
        }
    }
    wishes
}

/// Brings units of buckets that cannot serve anybody together in the one that needs the fewest of them, if they are
/// enough there.
fn gather(sides: &[Side]) -> Vec<Wish> {
    let mut givers: Vec<&Side> =
        sides.iter().filter(|side| side.gives && side.is_stuck() && side.free > 0).collect();
    givers.sort_by_key(|side| (side.free, Reverse(side.bucket)));
    let takers = sides.iter().filter(|side| side.takes && side.is_stuck());
    let enough = |taker: &&Side| {
        let others = givers.iter().filter(|giver| giver.bucket != taker.bucket);
        others.fold(0, |sum: u32, giver| sum.saturating_add(giver.free)) >= taker.deficit()
    };
    let Some(taker) = takers.filter(enough).min_by_key(|side| (side.deficit(), side.bucket)) else {
        return Vec::new();
    };
    givers.retain(|giver| giver.bucket != taker.bucket);
    let (mut wishes, mut left) = (Vec::new(), taker.deficit());
    while let Some(giver) = givers.pop_if(|_| left > 0) {
        let wanted = left.min(giver.free);
        wishes.push(Wish { from: giver.bucket, to: taker.bucket, wanted });
        left -= wanted;
    }
    wishes
}

#[cfg(test)]
mod tests;
