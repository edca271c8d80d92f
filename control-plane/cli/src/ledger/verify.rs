//! Checks exports without a cell: what is in a file follows row by row from the first, is what its head was signed for, and
//! continues every head that was kept.
//!
//! Whatever was edited, deleted, put elsewhere, put in or cut off is named by bucket and row. A row behind the signed head
//! proves nothing, since whoever can write the file can have written it. A whole bucket that is missing is missed when a
//! head of it was kept, or when another bucket gave it units or had them from it.

use std::collections::HashSet;
use std::io::BufRead;

use proto::chain::head::Head;
use proto::chain::{Chain, Row};
use proto::id::OrderId;
use proto::replay::{Ranges, Replay};
use proto::wire::events::{LedgerEntry, ledger_entry::Kind};

use super::evidence::PublicKey;
use super::file::{FileFlaw, Item, Reader};
use super::sale::{self, Transfer};

/// Something that is not so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Where: the bucket, when it is about one.
    pub(crate) bucket: Option<u32>,
    /// Where: the row, when it is about one.
    pub(crate) seq: Option<u64>,
    /// What.
    pub(crate) what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.bucket, self.seq) {
            (Some(bucket), Some(seq)) => write!(f, "bucket {bucket}, row {seq}: {}", self.what),
            (Some(bucket), None) => write!(f, "bucket {bucket}: {}", self.what),
            _ => f.write_str(&self.what),
        }
    }
}

/// A bucket that was checked.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) bucket: u32,
    pub(crate) rows: u64,
    pub(crate) orders: usize,
    pub(crate) granted: Ranges,
    pub(crate) live: u64,
    pub(crate) paid: u64,
    pub(crate) at_us: u64,
    pub(crate) transfers: Vec<Transfer>,
}

/// What came of a check.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) org: String,
    pub(crate) sale: String,
    pub(crate) buckets: Vec<Checked>,
    pub(crate) findings: Vec<Finding>,
    /// What cannot be said yet, because a ledger was exported earlier than another.
    pub(crate) doubts: Vec<String>,
}

/// What files are held against.
#[derive(Clone, Debug)]
pub(crate) struct Against<'a> {
    /// Public keys of ledgers.
    pub(crate) keys: &'a [PublicKey],
    /// Heads that were kept, as they were signed.
    pub(crate) kept: &'a [String],
    /// The sale's stock, if it is known.
    pub(crate) stock: Option<u64>,
}

/// Checks files, each with its name.
pub(crate) fn verify<R: BufRead>(files: Vec<(String, R)>, against: &Against<'_>) -> Verdict {
    let mut check =
        Check { against, verdict: Verdict::default(), kept: Vec::new(), open: None, begun: false };
    check.read_kept();
    for (name, lines) in files {
        check.file(&name, Reader::new(lines));
    }
    check.end()
}

struct Check<'a> {
    against: &'a Against<'a>,
    verdict: Verdict,
    kept: Vec<Head>,
    open: Option<OpenBucket>,
    begun: bool,
}

/// The bucket whose rows are being read.
struct OpenBucket {
    number: u32,
    /// Its head, if it can be believed.
    head: Option<Head>,
    chain: Chain,
    replay: Replay,
    orders: HashSet<OrderId>,
    tickets: HashSet<u64>,
    transfers: Vec<Transfer>,
}

impl Check<'_> {
    fn read_kept(&mut self) {
        for text in self.against.kept {
            match Head::verify(text, self.against.keys) {
                Ok(head) => self.kept.push(head),
                Err(flaw) => {
                    self.find(None, None, format!("a kept head cannot be believed: {flaw}"))
                }
            }
        }
    }

    fn file<R: BufRead>(&mut self, name: &str, mut reader: Reader<R>) {
        let (mut buckets, mut rows, mut ended, mut first) = (0, 0, false, true);
        loop {
            let item = match reader.next() {
                Ok(Some(item)) => item,
                Ok(None) => break,
                Err(flaw @ (FileFlaw::Io(_) | FileFlaw::Malformed(_))) => {
                    self.find(self.open_number(), None, format!("{name}: {flaw}"));
                    break;
                }
            };
            if first != matches!(item, Item::Begin { .. }) || ended {
                let what = format!("{name}: line {} does not belong there", reader.number());
                self.find(self.open_number(), None, what);
            }
            first = false;
            match item {
                Item::Begin { org, sale } => self.begin(name, org, sale),
                Item::Bucket { bucket, head } => {
                    buckets += 1;
                    self.bucket(bucket, head);
                }
                Item::Row(row) => {
                    rows += 1;
                    self.row(&row);
                }
                Item::End { buckets: said, rows: said_rows } => {
                    ended = true;
                    if (said, said_rows) != (buckets, rows) {
                        let what = format!(
                            "{name}: {buckets} buckets and {rows} rows are there, {said} and {said_rows} were written"
                        );
                        self.find(None, None, what);
                    }
                }
            }
        }
        self.close();
        if !ended {
            self.find(None, None, format!("{name}: its end is missing"));
        }
    }

    fn begin(&mut self, name: &str, org: String, sale: String) {
        if self.begun && (&self.verdict.org, &self.verdict.sale) != (&org, &sale) {
            self.find(
                None,
                None,
                format!("{name} is of sale orgs/{org}/sales/{sale}, not of the same as the others"),
            );
        }
        if !self.begun {
            (self.begun, self.verdict.org, self.verdict.sale) = (true, org, sale);
        }
    }

    fn bucket(&mut self, number: u32, head: String) {
        self.close();
        if self.verdict.buckets.iter().any(|known| known.bucket == number) {
            self.find(Some(number), None, "it stands twice".into());
        }
        self.open = Some(OpenBucket {
            number,
            head: self.believed(number, &head),
            chain: Chain::default(),
            replay: Replay::default(),
            orders: HashSet::new(),
            tickets: HashSet::new(),
            transfers: Vec::new(),
        });
    }

    /// The head of a bucket in a file, which must be signed, and be the bucket's.
    fn believed(&mut self, number: u32, text: &str) -> Option<Head> {
        let what = match Head::verify(text, self.against.keys) {
            Ok(head) if self.is_of(&head, number) => return Some(head),
            Ok(_) => "its head is another ledger's".into(),
            Err(_) if text.is_empty() => "no head of it was signed, so it proves nothing".into(),
            Err(flaw) => format!("its head cannot be believed: {flaw}"),
        };
        self.find(Some(number), None, what);
        None
    }

    fn row(&mut self, row: &Row) {
        let Some(mut open) = self.open.take() else {
            return self.find(None, Some(row.seq), "a row is in no bucket".into());
        };
        let number = Some(open.number);
        match open.chain.follow(row) {
            Ok(entries) => {
                for what in entries.iter().flat_map(|entry| open.apply(row, entry)) {
                    self.find(number, Some(row.seq), what);
                }
            }
            Err(flaw) => {
                self.find(number, Some(row.seq), flaw.to_string());
                open.chain.stand_at(row);
            }
        }
        // Here and not at the end: rows that came later are no reason to believe those that a head covers.
        let denies = |head: &Head| head.seq == row.seq && !head.covers(&open.chain);
        if open.head.as_ref().is_some_and(denies) {
            let what = "up to here this is not the ledger of which its head was signed";
            self.find(number, Some(row.seq), what.into());
        }
        if self.kept.iter().any(|kept| self.is_of(kept, open.number) && denies(kept)) {
            let what = "up to here this is not the ledger of which a kept head was signed: it was written anew";
            self.find(number, Some(row.seq), what.into());
        }
        self.open = Some(open);
    }

    /// The bucket's last row was read.
    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let number = Some(open.number);
        let last = open.chain.seq();
        match open.head.map(|head| head.seq) {
            Some(covered) if covered > last => {
                let what = format!("rows are missing: its head was signed for row {covered}");
                self.find(number, Some(last), what);
            }
            Some(covered) if covered < last => {
                let what = "the signed head does not cover the rows from here on";
                self.find(number, Some(covered + 1), what.into());
            }
            Some(_) | None => {}
        }
        let newest = self.kept.iter().filter(|kept| self.is_of(kept, open.number));
        if let Some(newest) = newest.map(|kept| kept.seq).max().filter(|seq| *seq > last) {
            let what = format!(
                "it ends here, and a head that was kept is for row {newest}: it was put back"
            );
            self.find(number, Some(last), what);
        }
        self.verdict.buckets.push(Checked {
            bucket: open.number,
            rows: last,
            orders: open.orders.len(),
            granted: open.replay.granted().clone(),
            live: open.replay.live(),
            paid: open.replay.paid(),
            at_us: open.chain.at_us(),
            transfers: open.transfers,
        });
    }

    fn end(mut self) -> Verdict {
        let is_there =
            |head: &&Head| self.verdict.buckets.iter().any(|known| known.bucket == head.bucket);
        let missing: Vec<Head> = self.kept.iter().filter(|head| !is_there(head)).cloned().collect();
        for head in missing {
            self.find(
                Some(head.bucket),
                None,
                "a head of it was kept, and it is in no file".into(),
            );
        }
        for head in self.kept.clone() {
            if (&head.org, &head.sale) != (&self.verdict.org, &self.verdict.sale) {
                self.find(None, None, format!("a kept head is of another sale, {}", head.sale));
            }
        }
        if self.verdict.buckets.is_empty() {
            self.find(None, None, "there is no bucket".into());
        }
        sale::check(&mut self.verdict, self.against.stock);
        self.verdict
    }

    fn is_of(&self, head: &Head, bucket: u32) -> bool {
        (&head.org, &head.sale, head.bucket) == (&self.verdict.org, &self.verdict.sale, bucket)
    }

    fn open_number(&self) -> Option<u32> {
        self.open.as_ref().map(|open| open.number)
    }

    fn find(&mut self, bucket: Option<u32>, seq: Option<u64>, what: String) {
        self.verdict.findings.push(Finding { bucket, seq, what });
    }
}

impl OpenBucket {
    /// Goes on by an entry. Returns what cannot be so.
    fn apply(&mut self, row: &Row, entry: &LedgerEntry) -> Vec<String> {
        let mut found = Vec::new();
        if entry.kind() == Kind::Held
            && let Ok(order) = OrderId::try_from(&entry.order[..])
        {
            if !self.orders.insert(order) && self.replay.order(&order).is_none() {
                found.push(format!("order {order} is held a second time"));
            }
            if !self.tickets.insert(entry.ticket) {
                found.push(format!("ticket {} is spent a second time", entry.ticket));
            }
        }
        self.transfers.extend(Transfer::of(self.number, row, entry));
        self.replay.apply(entry);
        found.extend(self.replay.take_flaws().into_iter().map(|flaw| flaw.sentence));
        found
    }
}

#[cfg(test)]
#[path = "verify/tests.rs"]
mod tests;
