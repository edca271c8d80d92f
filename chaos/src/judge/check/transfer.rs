//! INV-2: units that move are in one place at a time. What one bucket gave up exactly one other may accept, exactly once,
//! and exactly that.

use std::collections::BTreeMap;

use proto::invariant::Invariant::Inv2;

use crate::judge::case::{BucketCase, Findings, SaleCase};
use crate::judge::ranges::Ranges;
use crate::judge::replay::Part;

/// Both ends of a transfer, as the ledgers of all cells have it.
#[derive(Default)]
struct Ends<'a> {
    given: Vec<(&'a BucketCase<'a>, &'a Part)>,
    accepted: Vec<(&'a BucketCase<'a>, &'a Part)>,
}

pub(super) fn check(sale: &SaleCase<'_>, findings: &mut Findings) {
    for (id, ends) in ends(sale) {
        let id = proto::id::hex(&id);
        for (parts, what) in [(&ends.given, "given up"), (&ends.accepted, "accepted")] {
            if let [_, (bucket, _), ..] = parts.as_slice() {
                let times = parts.len();
                findings.name(Inv2, *bucket, format!("transfer {id} was {what} {times} times"));
            }
        }
        for (bucket, accepted) in &ends.accepted {
            if let Some(sentence) = mismatch(bucket, accepted, &ends.given) {
                findings.name(Inv2, *bucket, format!("transfer {id}: {sentence}"));
            }
        }
    }
    let (agreed, found) = (u64::from(sale.agreed.surrendered), surrendered(sale).count());
    if agreed != found {
        let sentence =
            format!("the merchant was told of {agreed} units that came back, {found} did");
        findings.name(Inv2, sale, sentence);
    }
}

/// Units that were given up for another bucket and that nobody has accepted.
pub(super) fn on_their_way(sale: &SaleCase<'_>) -> Ranges {
    let mut units = Ranges::default();
    for ends in ends(sale).values().filter(|ends| ends.accepted.is_empty()) {
        for (_, given) in ends.given.iter().filter(|(_, given)| given.peer.is_some()) {
            units.add_all(&given.units);
        }
    }
    units
}

/// Units that the merchant has taken back.
pub(super) fn surrendered(sale: &SaleCase<'_>) -> Ranges {
    let mut units = Ranges::default();
    let parts = sale.buckets.iter().flat_map(|bucket| &bucket.replay.parts);
    for part in parts.filter(|part| !part.accepted && part.peer.is_none()) {
        units.add_all(&part.units);
    }
    units
}

fn ends<'a>(sale: &'a SaleCase<'a>) -> BTreeMap<[u8; 16], Ends<'a>> {
    let mut ends: BTreeMap<[u8; 16], Ends<'a>> = BTreeMap::new();
    for bucket in &sale.buckets {
        for part in &bucket.replay.parts {
            let ends = ends.entry(part.transfer).or_default();
            let side = if part.accepted { &mut ends.accepted } else { &mut ends.given };
            side.push((bucket, part));
        }
    }
    ends
}

/// What is wrong with an acceptance, given who gave units up under its id.
fn mismatch(
    bucket: &BucketCase<'_>,
    accepted: &Part,
    given: &[(&BucketCase<'_>, &Part)],
) -> Option<String> {
    let Some(peer) = accepted.peer else {
        return (!given.is_empty())
            .then(|| "it accepts of the merchant what a bucket gave up".to_owned());
    };
    let Some((giver, part)) = given.first() else {
        return Some(format!("it accepts units that bucket {peer} never gave up"));
    };
    if giver.row.number != peer || part.peer != Some(bucket.row.number) {
        return Some(format!(
            "it accepts from bucket {peer} what bucket {} gave up for {:?}",
            giver.row.number, part.peer
        ));
    }
    (part.units != accepted.units).then(|| {
        let (one, other) = (part.units.count(), accepted.units.count());
        format!("{one} units were given up, {other} or others are accepted")
    })
}
