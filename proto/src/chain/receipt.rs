//! A receipt: what a ledger says of one order, shown to somebody who has the ledger's public key and nothing else.
//!
//! Each entry of the order leads by hashes to its row, and the row by a path to the signed head. What a receipt shows has
//! happened, and nobody can deny it. That nothing happened to the order besides, before the head or after it, only the
//! whole ledger shows; the entries must at least be a story that can be told.
//!
//! It is one line of JSON, written in one way only: a receipt of which a single bit differs is refused.

use super::head::{Head, HeadFlaw};
use super::{Row, entries_of};
use crate::id::{OrderId, hex, unhex};
use crate::limits::RECEIPT_BYTES_MAX;
use crate::merkle::proof::{self, Step};
use crate::merkle::{self, GENESIS, Hash};
use crate::replay::Replay;
use crate::wire::events::LedgerEntry;
use crate::wire::storefront::order::State;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message;
use serde::{Deserialize, Serialize};

/// The format's version.
const VERSION: u32 = 1;

/// A receipt as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    floodgate_receipt: u32,
    order: String,
    head: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Since>,
    entries: Vec<Proven>,
}

/// That the head continues an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Since {
    head: String,
    path: Vec<String>,
}

/// An entry, its steps to its row's root, and the row's path to the head's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proven {
    seq: u64,
    epoch: u64,
    at_us: u64,
    before: String,
    entry: String,
    steps: Vec<String>,
    path: Vec<String>,
}

/// What a receipt shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    /// Which order.
    pub order: OrderId,
    /// Up to here.
    pub head: Head,
    /// The earlier head that it continues, when the receipt shows that.
    pub since: Option<Head>,
    /// Row, time in microseconds since 1970, and what happened.
    pub entries: Vec<(u64, u64, LedgerEntry)>,
    /// What became of the order.
    pub state: State,
}

/// Why a receipt shows nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptFlaw {
    /// It is none, or not written as receipts are.
    #[error("it is no receipt, or was changed")]
    Malformed,
    /// Its head cannot be believed.
    #[error("its head: {0}")]
    Head(#[from] HeadFlaw),
    /// An entry does not lead to the head.
    #[error("its entry of row {0} is not in the ledger that the head covers")]
    NotIncluded(u64),
    /// The head does not continue the earlier one.
    #[error("its head does not continue the earlier head")]
    NotContinued,
    /// The entries are not about the order, or cannot have happened like that.
    #[error("its entries tell no order's story: {0}")]
    NoStory(String),
}

/// Looks for an order's entries in the rows of a bucket, one after the other from the first.
#[derive(Clone, Debug)]
pub struct Search {
    order: OrderId,
    before: Hash,
    leaves: Vec<Hash>,
    found: Vec<Proven>,
}

impl Search {
    /// A search that has seen no row.
    pub fn new(order: OrderId) -> Search {
        Search { order, before: GENESIS, leaves: Vec::new(), found: Vec::new() }
    }

    /// Looks at the next row.
    pub fn see(&mut self, row: &Row) {
        let raw = entries_of(&row.entries).unwrap_or_default();
        let leaves: Vec<_> = raw.iter().map(|entry| merkle::leaf(entry)).collect();
        for (index, bytes) in raw.iter().enumerate() {
            let is_it = LedgerEntry::decode(*bytes).is_ok_and(|entry| entry.order == self.order.0);
            let Some(steps) = proof::steps(&leaves, index).filter(|_| is_it) else { continue };
            self.found.push(Proven {
                seq: row.seq,
                epoch: row.epoch,
                at_us: row.at_us,
                before: hex(&self.before),
                entry: URL_SAFE_NO_PAD.encode(bytes),
                steps: steps.iter().map(write_step).collect(),
                path: Vec::new(),
            });
        }
        self.before = row.hash;
        self.leaves.push(merkle::leaf(&row.hash));
    }

    /// The receipt under `head`, a signed head that covers exactly the rows seen, and if wanted the proof that it
    /// continues `since`: that head as it was signed, and its sequence. None when the order was not found, or `since` is
    /// not among the rows seen.
    pub fn receipt(self, head: &str, since: Option<(&str, u64)>) -> Option<Receipt> {
        let Search { order, leaves, mut found, .. } = self;
        for proven in &mut found {
            let index = usize::try_from(proven.seq - 1).ok()?;
            proven.path = proof::inclusion(&leaves, index)?.iter().map(|hash| hex(hash)).collect();
        }
        let since = match since {
            Some((head, seq)) => {
                let path = proof::consistency(&leaves, usize::try_from(seq).ok()?)?;
                Some(Since { head: head.into(), path: path.iter().map(|hash| hex(hash)).collect() })
            }
            None => None,
        };
        let (order, head) = (order.to_string(), head.into());
        let receipt = Receipt { floodgate_receipt: VERSION, order, head, since, entries: found };
        (!receipt.entries.is_empty()).then_some(receipt)
    }
}

impl Receipt {
    /// As it is written: one line.
    pub fn text(&self) -> String {
        // A struct of text and numbers: serializing it cannot fail.
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads a receipt and checks all of it against the public keys (raw Ed25519) of ledgers.
    ///
    /// # Errors
    /// Why it shows nothing.
    pub fn verify(text: &str, keys: &[[u8; 32]]) -> Result<Story, ReceiptFlaw> {
        if text.len() > RECEIPT_BYTES_MAX {
            return Err(ReceiptFlaw::Malformed);
        }
        let receipt: Receipt = serde_json::from_str(text).map_err(|_| ReceiptFlaw::Malformed)?;
        if receipt.floodgate_receipt != VERSION || receipt.text() != text {
            return Err(ReceiptFlaw::Malformed);
        }
        let order: OrderId = receipt.order.parse().map_err(|_| ReceiptFlaw::Malformed)?;
        let head = Head::verify(&receipt.head, keys)?;
        let since = receipt.since.as_ref().map(|since| since.check(&head, keys)).transpose()?;
        let mut entries = Vec::with_capacity(receipt.entries.len());
        let mut last = None;
        for proven in &receipt.entries {
            let (place, entry) = proven.check(&head)?;
            if last.as_ref().is_some_and(|last| *last >= place) {
                let what = format!("an entry of row {} does not come next", proven.seq);
                return Err(ReceiptFlaw::NoStory(what));
            }
            last = Some(place);
            entries.push((proven.seq, proven.at_us, entry));
        }
        let state = state_after(order, &entries).map_err(ReceiptFlaw::NoStory)?;
        Ok(Story { order, head, since, entries, state })
    }
}

impl Since {
    fn check(&self, head: &Head, keys: &[[u8; 32]]) -> Result<Head, ReceiptFlaw> {
        let since = Head::verify(&self.head, keys)?;
        let path = hashes(&self.path).ok_or(ReceiptFlaw::Malformed)?;
        let one_ledger =
            (&since.org, &since.sale, since.bucket) == (&head.org, &head.sale, head.bucket);
        let grown = proof::continues((since.seq, &since.root), (head.seq, &head.root), &path);
        if one_ledger && grown { Ok(since) } else { Err(ReceiptFlaw::NotContinued) }
    }
}

/// Where an entry stands: its row, and the turns from the row's root down to it, where right comes after left.
type Place = (u64, Vec<bool>);

impl Proven {
    fn check(&self, head: &Head) -> Result<(Place, LedgerEntry), ReceiptFlaw> {
        let read = || {
            let entry = URL_SAFE_NO_PAD.decode(&self.entry).ok()?;
            let steps: Option<Vec<Step>> = self.steps.iter().map(|step| read_step(step)).collect();
            Some((entry, steps?, hashes(&self.path)?, unhex(&self.before)?))
        };
        let (entry, steps, path, before) = read().ok_or(ReceiptFlaw::Malformed)?;
        let root = proof::climb(merkle::leaf(&entry), &steps);
        let row = merkle::chain(&before, self.seq, self.epoch, self.at_us, &root);
        let place = (self.seq.wrapping_sub(1), head.seq);
        if !proof::includes(merkle::leaf(&row), place, &path, &head.root) {
            return Err(ReceiptFlaw::NotIncluded(self.seq));
        }
        let turns = steps.iter().rev().map(|step| matches!(step, Step::Left(_))).collect();
        let entry = LedgerEntry::decode(&entry[..]).map_err(|_| ReceiptFlaw::Malformed)?;
        Ok(((self.seq, turns), entry))
    }
}

/// What became of an order by its entries alone, or why these cannot be all.
fn state_after(order: OrderId, entries: &[(u64, u64, LedgerEntry)]) -> Result<State, String> {
    let mut replay = Replay::of_one_order();
    for (seq, _, entry) in entries {
        if entry.order != order.0 {
            return Err(format!("the entry of row {seq} is about another order"));
        }
        replay.apply(entry);
        if let Some(flaw) = replay.take_flaws().pop() {
            return Err(flaw.sentence);
        }
    }
    let known = replay.order(&order).map(|known| known.state);
    known.or(replay.last_end()).ok_or_else(|| "there is none".into())
}

fn write_step(step: &Step) -> String {
    match step {
        Step::Left(hash) => format!("L{}", hex(hash)),
        Step::Right(hash) => format!("R{}", hex(hash)),
    }
}

fn read_step(text: &str) -> Option<Step> {
    match text.split_at_checked(1)? {
        ("L", hash) => unhex(hash).map(Step::Left),
        ("R", hash) => unhex(hash).map(Step::Right),
        _ => None,
    }
}

fn hashes(texts: &[String]) -> Option<Vec<Hash>> {
    texts.iter().map(|text| unhex(text)).collect()
}

#[cfg(test)]
#[path = "receipt/tests.rs"]
mod tests;
