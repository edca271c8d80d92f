//! `floodgate ledger`: a sale's ledgers as evidence. Only `export` needs a cell; all else is done with files, signed heads
//! and public keys, wherever somebody does not take our word for it.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use proto::chain::head::Head;
use proto::chain::receipt::{Receipt, Search};
use proto::id::{OrderId, parse_sale};

use crate::failure::Failure;
use crate::ledger::evidence::{
    PublicKey, heads_of_export, kept_heads, open, public_key, unreadable,
};
use crate::ledger::export::{Wanted, export};
use crate::ledger::file::Item;
use crate::ledger::verify::{Against, Verdict, verify};
use crate::output::Output;
use crate::view::ledger::Summary;

/// What can be done with ledgers.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Ledgers {
    /// Write the ledgers of a sale in one cell into a file, each up to its newest signed head (operators)
    Export {
        /// The cell's Postgres, as the role that cells work as
        #[arg(long, env = "FLOODGATE_POSTGRES", value_name = "URL", hide_env_values = true)]
        postgres: String,
        /// The sale, as orgs/acme/sales/s0123456789abcdef
        #[arg(long, value_name = "NAME")]
        sale: String,
        /// File to write; it must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Write the rows that no signed head covers yet, too
        #[arg(long)]
        unsigned: bool,
    },
    /// Check exports of a sale, those of all its cells together: whatever was changed is named
    Verify {
        /// Exports
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        evidence: Evidence,
        /// Heads that were kept outside the cell, a line each, or an older export: the files must continue them
        #[arg(long = "head", value_name = "HEAD-FILE")]
        heads: Vec<PathBuf>,
        /// Units of the sale, for which its ledgers must account
        #[arg(long)]
        stock: Option<u64>,
    },
    /// Write the receipt of one order, which anybody can check by itself
    Receipt {
        /// Export with the order's bucket
        file: PathBuf,
        /// The order
        #[arg(long)]
        order: String,
        /// File to write; it must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// A head that was kept: show that the ledger continues it
        #[arg(long, value_name = "HEAD-FILE", requires = "keys")]
        since: Option<PathBuf>,
        /// Public key of the ledger, needed with --since
        #[arg(long = "key", value_name = "PUBLIC", value_parser = public_key)]
        keys: Vec<PublicKey>,
    },
    /// Check a receipt and tell the order's story
    VerifyReceipt {
        /// The receipt
        file: PathBuf,
        #[command(flatten)]
        evidence: Evidence,
        /// A head that was kept: the receipt must be under it, or show that its own continues it
        #[arg(long, value_name = "HEAD-FILE")]
        head: Option<PathBuf>,
    },
    /// Show the signed heads of exports, a line each, to be kept outside the cell
    Heads {
        /// Exports
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// What a check believes.
#[derive(Debug, clap::Args)]
pub(crate) struct Evidence {
    /// Public key of a cell's ledgers, or a file of it; once for each cell
    #[arg(long = "key", value_name = "PUBLIC", value_parser = public_key, required = true)]
    keys: Vec<PublicKey>,
}

impl Ledgers {
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        match self {
            Ledgers::Export { postgres, sale, out, unsigned } => {
                let (org, sale) = parse_sale(&sale).map_err(|_| {
                    let form = "write it like orgs/acme/sales/s01";
                    Failure::Usage(format!("{sale:?} is no sale's name; {form}"))
                })?;
                let wanted = Wanted { org: org.as_str(), sale: sale.as_str(), unsigned };
                write_export(&postgres, wanted, &out).await
            }
            Ledgers::Verify { files, evidence, heads, stock } => {
                let verdict = check(&files, &evidence.keys, &heads, stock)?;
                verdict.doubts.iter().for_each(|doubt| note(&format!("in doubt: {doubt}")));
                output.many("buckets", &verdict.buckets)?;
                if !verdict.findings.is_empty() {
                    let findings = verdict.findings.iter().map(ToString::to_string);
                    return Err(Failure::Unproven(findings.collect()));
                }
                output.one(&Summary(&verdict))
            }
            Ledgers::Receipt { file, order, out, since, keys } => {
                write_receipt(&file, &order, &out, since.as_deref(), &keys)
            }
            Ledgers::VerifyReceipt { file, evidence, head } => {
                check_receipt(&file, &evidence.keys, head.as_deref(), output)
            }
            Ledgers::Heads { files } => {
                for file in files {
                    heads_of_export(&file)?.iter().try_for_each(|head| output.text(head))?;
                }
                Ok(())
            }
        }
    }
}

async fn write_export(postgres: &str, wanted: Wanted<'_>, out: &Path) -> Result<(), Failure> {
    let file = new_file(out)?;
    let written = export(postgres, wanted, BufWriter::new(file), |progress| note(&progress)).await;
    let exported = match written {
        Ok(exported) => exported,
        Err(failure) => {
            // Half an export is none.
            drop(std::fs::remove_file(out));
            return Err(failure);
        }
    };
    note(&format!("{} buckets, {} rows", exported.buckets, exported.rows));
    if exported.left_out > 0 {
        note(&format!("{} rows are left out: no signed head covers them yet", exported.left_out));
    }
    Ok(())
}

fn check(
    files: &[PathBuf],
    keys: &[PublicKey],
    heads: &[PathBuf],
    stock: Option<u64>,
) -> Result<Verdict, Failure> {
    let mut kept = Vec::new();
    for file in heads {
        kept.extend(kept_heads(file)?);
    }
    let mut opened = Vec::with_capacity(files.len());
    for file in files {
        let lines =
            std::fs::File::open(file).map_err(Failure::io(format!("read {}", file.display())))?;
        opened.push((file.display().to_string(), io::BufReader::new(lines)));
    }
    Ok(verify(opened, &Against { keys, kept: &kept, stock }))
}

fn write_receipt(
    file: &Path,
    order: &str,
    out: &Path,
    since: Option<&Path>,
    keys: &[PublicKey],
) -> Result<(), Failure> {
    let id = order.rsplit('/').next().unwrap_or_default();
    let id: OrderId =
        id.parse().map_err(|_| Failure::Usage(format!("{order:?} is no order's name")))?;
    let kept = match since {
        Some(path) => kept_heads(path)?,
        None => Vec::new(),
    };
    let mut reader = open(file)?;
    let mut bucket: Option<(u32, String, Search)> = None;
    let mut written = None;
    while let Some(item) = reader.next().map_err(|flaw| unreadable(file, flaw))? {
        match item {
            Item::Row(row) => {
                if let Some((_, _, search)) = &mut bucket {
                    search.see(&row);
                }
            }
            Item::Bucket { bucket: next, head } => {
                let last = bucket.replace((next, head, Search::new(id)));
                written = written.or(receipt_of(last, &kept, keys));
            }
            Item::End { .. } => written = written.or(receipt_of(bucket.take(), &kept, keys)),
            Item::Begin { .. } => {}
        }
    }
    let receipt = written.ok_or_else(|| {
        let what = if kept.is_empty() { "" } else { ", or the kept head is not of its bucket" };
        Failure::NotFound(format!("order {id} is not in {}{what}", file.display()))
    })?;
    let text = receipt.text();
    let wrote = new_file(out)?.write_all(text.as_bytes());
    wrote.map_err(Failure::io(format!("write {}", out.display())))
}

/// The receipt, if the order is in this bucket.
fn receipt_of(
    bucket: Option<(u32, String, Search)>,
    kept: &[String],
    keys: &[PublicKey],
) -> Option<Receipt> {
    let (number, head, search) = bucket?;
    let of_bucket = |text: &String| {
        let kept = Head::verify(text, keys).ok().filter(|kept| kept.bucket == number)?;
        Some((text.clone(), kept.seq))
    };
    let since = kept.iter().find_map(of_bucket);
    if since.is_none() && !kept.is_empty() {
        return None;
    }
    search.receipt(&head, since.as_ref().map(|(text, seq)| (text.as_str(), *seq)))
}

fn check_receipt(
    file: &Path,
    keys: &[PublicKey],
    head: Option<&Path>,
    output: &Output,
) -> Result<(), Failure> {
    let text =
        std::fs::read_to_string(file).map_err(Failure::io(format!("read {}", file.display())))?;
    let unproven = |what: String| Failure::Unproven(vec![format!("{}: {what}", file.display())]);
    let story = Receipt::verify(&text, keys).map_err(|flaw| unproven(flaw.to_string()))?;
    if let Some(path) = head {
        let under = |text: &String| {
            let kept = Head::verify(text, keys).ok();
            kept.is_some_and(|kept| kept == story.head || Some(&kept) == story.since.as_ref())
        };
        if !kept_heads(path)?.iter().any(under) {
            let what = "it does not show that its ledger continues the kept head; ask for one --since that head";
            return Err(unproven(what.into()));
        }
    }
    output.one(&story)
}

fn new_file(path: &Path) -> Result<std::fs::File, Failure> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    file.map_err(Failure::io(format!("write the new file {}", path.display())))
}

/// A remark on standard error.
fn note(text: &str) {
    // Without a standard error there is nobody to tell.
    drop(writeln!(io::stderr(), "{text}"));
}
