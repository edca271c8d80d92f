//! The file of an export: lines of JSON, which can be read with a page of code in any language, and packed well.
//!
//! ```text
//! {"floodgate_ledger":1,"org":"acme","sale":"s0123456789abcdef"}
//! {"bucket":0,"head":"<compact JWS, or nothing>"}
//! {"seq":1,"epoch":1,"at_us":1795348800000000,"root":"<hex>","hash":"<hex>","entries":"<base64url of a LedgerBatch>"}
//! {"buckets":1,"rows":1}
//! ```
//!
//! Buckets and rows stand in rising order. A line is written in one way only, so that no byte of a file can change
//! unnoticed; the last line says that nothing is missing at the end.

use std::io::{self, BufRead, Read, Write};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proto::chain::Row;
use proto::id::{hex, unhex};
use serde::{Deserialize, Serialize};

/// The format's version.
const VERSION: u32 = 1;
/// Bytes of one line: a row has at most 256 entries.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// Whose ledgers these are.
    Begin {
        /// The org's id.
        org: String,
        /// The sale's id.
        sale: String,
    },
    /// The rows that follow are this bucket's.
    Bucket {
        /// Its number.
        bucket: u32,
        /// The newest signed head, or nothing.
        head: String,
    },
    /// A row.
    Row(Row),
    /// Nothing is missing at the end.
    End {
        /// How many buckets there were.
        buckets: u64,
        /// How many rows.
        rows: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Row(RowLine),
    Bucket(BucketLine),
    Begin(BeginLine),
    End(EndLine),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BeginLine {
    floodgate_ledger: u32,
    org: String,
    sale: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BucketLine {
    bucket: u32,
    head: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RowLine {
    seq: u64,
    epoch: u64,
    at_us: u64,
    root: String,
    hash: String,
    entries: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndLine {
    buckets: u64,
    rows: u64,
}

impl Item {
    /// As it is written, with the line's end.
    pub(crate) fn line(&self) -> String {
        let line = match self {
            Item::Begin { org, sale } => Line::Begin(BeginLine {
                floodgate_ledger: VERSION,
                org: org.clone(),
                sale: sale.clone(),
            }),
            Item::Bucket { bucket, head } => {
                Line::Bucket(BucketLine { bucket: *bucket, head: head.clone() })
            }
            Item::Row(row) => Line::Row(RowLine {
                seq: row.seq,
                epoch: row.epoch,
                at_us: row.at_us,
                root: hex(&row.root),
                hash: hex(&row.hash),
                entries: URL_SAFE_NO_PAD.encode(&row.entries),
            }),
            Item::End { buckets, rows } => Line::End(EndLine { buckets: *buckets, rows: *rows }),
        };
        // Structs of text and numbers: serializing them cannot fail.
        let mut text = serde_json::to_string(&line).unwrap_or_default();
        text.push('\n');
        text
    }

    fn read(line: &str) -> Option<Item> {
        let item = match serde_json::from_str(line).ok()? {
            Line::Begin(begin) if begin.floodgate_ledger == VERSION => {
                Item::Begin { org: begin.org, sale: begin.sale }
            }
            Line::Begin(_) => return None,
            Line::Bucket(bucket) => Item::Bucket { bucket: bucket.bucket, head: bucket.head },
            Line::Row(row) => Item::Row(Row {
                seq: row.seq,
                epoch: row.epoch,
                at_us: row.at_us,
                entries: URL_SAFE_NO_PAD.decode(&row.entries).ok()?,
                root: unhex(&row.root)?,
                hash: unhex(&row.hash)?,
            }),
            Line::End(end) => Item::End { buckets: end.buckets, rows: end.rows },
        };
        (item.line() == line).then_some(item)
    }
}

/// Writes a file, one item after the other.
pub(crate) struct Writer<W> {
    out: W,
    buckets: u64,
    rows: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    pub(crate) fn begin(mut out: W, org: &str, sale: &str) -> io::Result<Writer<W>> {
        out.write_all(Item::Begin { org: org.into(), sale: sale.into() }.line().as_bytes())?;
        Ok(Writer { out, buckets: 0, rows: 0 })
    }

    /// Begins a bucket.
    pub(crate) fn bucket(&mut self, bucket: u32, head: &str) -> io::Result<()> {
        self.buckets += 1;
        self.out.write_all(Item::Bucket { bucket, head: head.into() }.line().as_bytes())
    }

    /// Writes a row of it.
    pub(crate) fn row(&mut self, row: Row) -> io::Result<()> {
        self.rows += 1;
        self.out.write_all(Item::Row(row).line().as_bytes())
    }

    /// Ends the file. Returns how many rows it has.
    pub(crate) fn end(mut self) -> io::Result<(W, u64)> {
        let end = Item::End { buckets: self.buckets, rows: self.rows };
        self.out.write_all(end.line().as_bytes())?;
        self.out.flush()?;
        Ok((self.out, self.rows))
    }
}

/// Why a file cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileFlaw {
    /// The machine refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is not as exports are written.
    #[error("line {0} is not written as in an export")]
    Malformed(u64),
}

/// Reads a file's items.
pub(crate) struct Reader<R> {
    lines: R,
    number: u64,
}

impl<R: BufRead> Reader<R> {
    /// Reads from the first line on.
    pub(crate) fn new(lines: R) -> Reader<R> {
        Reader { lines, number: 0 }
    }

    /// The number of the last line that was read.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The next item. None at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, FileFlaw> {
        let mut line = Vec::new();
        let read = (&mut self.lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let text = std::str::from_utf8(&line).ok();
        text.and_then(Item::read).map(Some).ok_or(FileFlaw::Malformed(self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_frozen() {
        let mut writer = Writer::begin(Vec::new(), "acme", "s0123456789abcdef").unwrap();
        writer.bucket(3, "a.b.c").unwrap();
        let row = Row {
            seq: 1,
            epoch: 2,
            at_us: 3,
            entries: vec![0xfb, 0xff],
            root: [1; 32],
            hash: [2; 32],
        };
        writer.row(row.clone()).unwrap();
        let (text, rows) = writer.end().unwrap();
        let (one, two) = ("01".repeat(32), "02".repeat(32));
        let expected = format!(
            "{{\"floodgate_ledger\":1,\"org\":\"acme\",\"sale\":\"s0123456789abcdef\"}}\n\
             {{\"bucket\":3,\"head\":\"a.b.c\"}}\n\
             {{\"seq\":1,\"epoch\":2,\"at_us\":3,\"root\":\"{one}\",\"hash\":\"{two}\",\"entries\":\"-_8\"}}\n\
             {{\"buckets\":1,\"rows\":1}}\n"
        );
        assert_eq!((String::from_utf8(text.clone()).unwrap(), rows), (expected, 1));
        let mut reader = Reader::new(&text[..]);
        let read: Vec<Item> = std::iter::from_fn(|| reader.next().unwrap()).collect();
        assert_eq!((read.len(), &read[2]), (4, &Item::Row(row)));
    }

    #[test]
    fn a_line_is_written_in_one_way() {
        for bad in [
            "{\"buckets\":1,\"rows\":1}",
            "{\"buckets\": 1,\"rows\":1}\n",
            "{\"rows\":1,\"buckets\":1}\n",
            "{\"buckets\":1,\"rows\":1,\"x\":1}\n",
            "{\"buckets\":01,\"rows\":1}\n",
            "{\"floodgate_ledger\":2,\"org\":\"acme\",\"sale\":\"s01\"}\n",
            "\n",
            "\u{7f}",
        ] {
            let read = Reader::new(bad.as_bytes()).next();
            assert!(matches!(read, Err(FileFlaw::Malformed(1))), "{bad}: {read:?}");
        }
    }
}
