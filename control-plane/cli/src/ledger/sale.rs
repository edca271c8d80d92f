//! All buckets of a sale together: no unit is in two of them, and what one gave up another has accepted, once (INV-1,
//! INV-2).
//!
//! Ledgers are exported at different moments. What is accepted here and not yet given up there is in doubt, when the giver's
//! ledger ends before that; it is false, when it goes on behind it.

use std::collections::BTreeMap;

use proto::chain::Row;
use proto::replay::{Ranges, pairs};
use proto::wire::events::{LedgerEntry, ledger_entry::Kind};

use super::verify::{Finding, Verdict};

/// Units that left a bucket or came to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    bucket: u32,
    seq: u64,
    at_us: u64,
    kind: Kind,
    id: Vec<u8>,
    /// The other bucket; none is the merchant.
    peer: Option<u32>,
    ranges: Vec<(u32, u32)>,
}

impl Transfer {
    /// The transfer that an entry is about.
    pub(crate) fn of(bucket: u32, row: &Row, entry: &LedgerEntry) -> Option<Transfer> {
        let kind = entry.kind();
        let ranges = pairs(&entry.units)?;
        matches!(kind, Kind::Granted | Kind::GivenUp | Kind::Accepted).then(|| Transfer {
            bucket,
            seq: row.seq,
            at_us: row.at_us,
            kind,
            id: entry.transfer.clone(),
            peer: entry.peer,
            ranges,
        })
    }

    fn units(&self) -> u64 {
        self.ranges.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }
}

/// Checks a sale whose buckets were checked one by one, and adds what it finds.
pub(super) fn check(verdict: &mut Verdict, stock: Option<u64>) {
    let (mut findings, mut doubts) = (Vec::new(), Vec::new());
    let doubtful = transfers(verdict, &mut findings, &mut doubts);
    let mut taken = Ranges::default();
    for bucket in &verdict.buckets {
        let mut granted = bucket.granted.clone();
        // What somebody else has accepted since is not this bucket's any more.
        for transfer in doubtful.iter().filter(|transfer| transfer.peer == Some(bucket.bucket)) {
            for (first, last) in &transfer.ranges {
                granted.take(*first, *last);
            }
        }
        for (first, last) in granted.iter() {
            if !taken.add(first, last) {
                let what = format!("another bucket has some of the units {first} to {last} too");
                findings.push(Finding { bucket: Some(bucket.bucket), seq: None, what });
            }
        }
    }
    let put_in = verdict.stock();
    if let Some(stock) = stock.filter(|stock| *stock != put_in) {
        let what = format!("the sale's stock is {stock}, its ledgers account for {put_in} units");
        findings.push(Finding { bucket: None, seq: None, what });
    }
    verdict.findings.extend(findings);
    verdict.doubts.extend(doubts);
}

impl Verdict {
    fn moved(&self, kind: Kind, by_merchant: bool) -> u64 {
        let all = self.buckets.iter().flat_map(|bucket| &bucket.transfers);
        let such =
            all.filter(|transfer| transfer.kind == kind && transfer.peer.is_none() == by_merchant);
        such.map(Transfer::units).sum()
    }

    /// The units that were put into the sale and not taken back.
    pub(crate) fn stock(&self) -> u64 {
        let granted = self.moved(Kind::Granted, true) + self.moved(Kind::Accepted, true);
        granted.saturating_sub(self.moved(Kind::GivenUp, true))
    }

    /// The units that one bucket gave up and no other has accepted yet.
    pub(crate) fn in_transit(&self) -> u64 {
        self.moved(Kind::GivenUp, false).saturating_sub(self.moved(Kind::Accepted, false))
    }
}

/// Holds every transfer against its other end. Returns those that were accepted and not given up yet, as far as is known.
fn transfers(
    verdict: &Verdict,
    findings: &mut Vec<Finding>,
    doubts: &mut Vec<String>,
) -> Vec<Transfer> {
    let ends: BTreeMap<u32, u64> =
        verdict.buckets.iter().map(|bucket| (bucket.bucket, bucket.at_us)).collect();
    let all: Vec<&Transfer> = verdict.buckets.iter().flat_map(|bucket| &bucket.transfers).collect();
    let mut find = |transfer: &Transfer, what: String| {
        findings.push(Finding { bucket: Some(transfer.bucket), seq: Some(transfer.seq), what });
    };
    let mut once: BTreeMap<(&[u8], i32), &Transfer> = BTreeMap::new();
    for transfer in all.iter().filter(|transfer| transfer.kind != Kind::Granted) {
        let key = (&transfer.id[..], i32::from(transfer.kind));
        if transfer.id.len() != 16 {
            find(transfer, format!("{:?} names no transfer", transfer.kind));
        } else if once.insert(key, transfer).is_some() {
            let id = proto::id::hex(&transfer.id);
            find(transfer, format!("{:?} of transfer {id} stands a second time", transfer.kind));
        }
    }
    let mut doubtful = Vec::new();
    for transfer in once.values().filter(|transfer| transfer.kind == Kind::Accepted) {
        let Some(giver) = transfer.peer else { continue };
        let id = proto::id::hex(&transfer.id);
        match (once.get(&(&transfer.id[..], i32::from(Kind::GivenUp))), ends.get(&giver)) {
            (Some(given), _) => {
                let fits = given.bucket == giver
                    && given.peer == Some(transfer.bucket)
                    && given.ranges == transfer.ranges;
                if !fits {
                    find(
                        transfer,
                        format!(
                            "what transfer {id} brought is not what bucket {} gave up",
                            given.bucket
                        ),
                    );
                }
            }
            (None, None) => {
                doubts.push(format!("bucket {giver}, which gave up transfer {id}, is in no file"))
            }
            (None, Some(end_us)) if *end_us < transfer.at_us => {
                doubts.push(format!(
                    "bucket {giver} had not given up transfer {id} yet: export it again"
                ));
                doubtful.push((*transfer).clone());
            }
            (None, Some(_)) => {
                find(transfer, format!("bucket {giver} never gave up transfer {id}"))
            }
        }
    }
    doubtful
}
