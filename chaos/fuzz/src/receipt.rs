//! Receipts as somebody shows them, and signed heads.
//!
//! An input is a receipt when it begins with `{`; otherwise it is changes to a genuine one.

use std::sync::LazyLock;

use prost::Message;
use proto::chain::entries_of;
use proto::chain::head::Head;
use proto::chain::receipt::{Receipt, Search};
use proto::id::OrderId;
use proto::limits::RECEIPT_BYTES_MAX;
use proto::wire::events::{LedgerEntry, ledger_entry::Kind};

use crate::Seed;
use crate::bounded::within;
use crate::edits::edited;
use crate::ledger::{bucket, public};

/// What a check may hold.
const HOLDS: (usize, usize) = (32, 16 * 1_024);

/// A ledger and receipts out of it.
struct Genuine {
    /// Row, time, and what happened.
    entries: Vec<(u64, u64, LedgerEntry)>,
    heads: [Head; 2],
    receipts: Vec<String>,
}

static GENUINE: LazyLock<Genuine> = LazyLock::new(|| {
    let (rows, head) = bucket(|last| last);
    let (before, older) = bucket(|last| last / 2);
    let mut entries = Vec::new();
    for row in &rows {
        let raw = entries_of(&row.entries).unwrap();
        let read = raw.iter().map(|entry| LedgerEntry::decode(*entry).unwrap());
        entries.extend(read.map(|entry| (row.seq, row.at_us, entry)));
    }
    let held = entries.iter().filter(|(_, _, entry)| entry.kind() == Kind::Held);
    let orders: Vec<_> =
        held.map(|(_, _, entry)| OrderId::try_from(&entry.order[..]).unwrap()).collect();
    let receipt = |(number, order): (usize, &OrderId)| {
        let mut search = Search::new(*order);
        rows.iter().for_each(|row| search.see(row));
        let seq = u64::try_from(before.len()).unwrap();
        let since = (number % 2 == 0).then_some((older.as_str(), seq));
        search.receipt(&head, since).unwrap().text()
    };
    let receipts = orders.iter().take(4).enumerate().map(receipt).collect();
    let heads = [&head, &older].map(|head| Head::verify(head, &[public()]).unwrap());
    Genuine { entries, heads, receipts }
});

/// What a receipt shows has happened, whatever was done to it.
///
/// # Panics
/// When a promise is broken.
pub fn receipt(bytes: &[u8]) {
    let others: Vec<&str> = GENUINE.receipts.iter().map(String::as_str).collect();
    let text = match bytes.split_first() {
        Some((b'{', _)) => String::from_utf8_lossy(bytes).into_owned(),
        // Its parts are lines here, so that whole parts are put elsewhere.
        Some((which, edits)) => {
            let parts: Vec<_> = others.iter().map(|text| text.replace(',', ",\n")).collect();
            let parts: Vec<_> = parts.iter().map(String::as_str).collect();
            let which = usize::from(*which) % parts.len();
            edited(parts[which], &parts, edits).replace(",\n", ",")
        }
        None => return,
    };
    let useful = text.len().min(RECEIPT_BYTES_MAX);
    let read = within(useful, HOLDS, || Receipt::verify(&text, &[public()]));
    assert!(read.is_ok() || !others.contains(&&*text), "{read:?}");
    let Ok(story) = read else { return };
    assert!(GENUINE.heads.contains(&story.head), "{text}");
    assert!(story.since.is_none_or(|since| since.seq <= story.head.seq), "{text}");
    for entry in &story.entries {
        assert!(GENUINE.entries.contains(entry), "that did not happen: {entry:?}\n{text}");
        assert_eq!(entry.2.order, story.order.0);
        assert!(entry.0 <= story.head.seq);
    }
}

/// Receipts, and what somebody may make of them.
pub fn seeds() -> Vec<Seed> {
    let whole = GENUINE.receipts[0].clone();
    let plain = |text: &str| text.as_bytes().to_vec();
    let empty = r#"{"floodgate_receipt":1,"order":"","head":"","entries":[]}"#;
    vec![
        ("a receipt", plain(&whole)),
        ("a short one", plain(&GENUINE.receipts[1])),
        ("with a blank", plain(&whole.replacen(',', ", ", 1))),
        ("of another version", plain(&whole.replacen(":1,", ":2,", 1))),
        ("of nothing", plain(&format!("{empty}\n"))),
        ("untouched", vec![0]),
        ("a part taken out", vec![0, 0, 0, 4, 0]),
        ("parts exchanged", vec![0, 1, 0, 5, 9]),
        ("a part twice", vec![1, 2, 0, 6, 6]),
        ("a part of another", vec![2, 3, 0, 60, 5]),
        ("a bit turned", vec![3, 4, 1, 0, 2]),
        ("a digit replaced", vec![0, 5, 2, 7, b'e']),
        ("cut", vec![0, 6, 3, 0, 66]),
    ]
}
