//! How ledgers look: checked buckets, a checked sale, and the story of an order.

use jiff::Timestamp;
use proto::chain::receipt::Story;
use proto::wire::events::LedgerEntry;
use serde_json::{Value, json};

use super::View;
use crate::ledger::verify::{Checked, Verdict};

impl View for Checked {
    const BRIEF: &'static [&'static str] =
        &["bucket", "rows", "orders", "granted", "live", "paid", "until"];

    fn json(&self) -> Value {
        json!({
            "bucket": self.bucket,
            "rows": self.rows.to_string(),
            "orders": self.orders,
            "granted": self.granted.count().to_string(),
            "live": self.live.to_string(),
            "paid": self.paid.to_string(),
            "untilTime": at(self.at_us),
        })
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("bucket", self.bucket.to_string()),
            ("rows", self.rows.to_string()),
            ("orders", self.orders.to_string()),
            ("granted", self.granted.count().to_string()),
            ("live", self.live.to_string()),
            ("paid", self.paid.to_string()),
            ("until", at(self.at_us)),
        ]
    }
}

/// A sale in whose ledgers nothing was found.
pub(crate) struct Summary<'a>(pub(crate) &'a Verdict);

impl Summary<'_> {
    fn sale(&self) -> String {
        format!("orgs/{}/sales/{}", self.0.org, self.0.sale)
    }

    fn sum(&self, of: impl Fn(&Checked) -> u64) -> u64 {
        self.0.buckets.iter().map(of).sum()
    }
}

impl View for Summary<'_> {
    const BRIEF: &'static [&'static str] = &["sale", "sold"];

    fn json(&self) -> Value {
        json!({
            "sale": self.sale(),
            "units": self.0.stock().to_string(),
            "sold": self.sum(|bucket| bucket.paid).to_string(),
            "live": self.sum(|bucket| bucket.live).to_string(),
            "inTransit": self.0.in_transit().to_string(),
            "asSigned": true,
        })
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("sale", self.sale()),
            ("units", self.0.stock().to_string()),
            ("sold", self.sum(|bucket| bucket.paid).to_string()),
            ("live", self.sum(|bucket| bucket.live).to_string()),
            ("in transit", self.0.in_transit().to_string()),
            ("verdict", "as it was signed".to_owned()),
        ]
    }
}

impl View for Story {
    const BRIEF: &'static [&'static str] = &["order", "state"];

    fn json(&self) -> Value {
        let entries = self.entries.iter().map(|(row, at_us, entry)| {
            json!({
                "row": row.to_string(),
                "time": at(*at_us),
                "kind": entry.kind().as_str_name(),
                "units": entry.units,
                "amountMinor": entry.amount_minor.to_string(),
                "currencyCode": entry.currency,
                "payment": entry.intent,
            })
        });
        json!({
            "order": name(self),
            "bucket": self.head.bucket,
            "state": self.state.as_str_name(),
            "untilRow": self.head.seq.to_string(),
            "untilTime": at(self.head.at_us),
            "continuesRow": self.since.as_ref().map_or(0, |since| since.seq).to_string(),
            "entries": entries.collect::<Vec<_>>(),
        })
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let story = self
            .entries
            .iter()
            .map(|(row, at_us, entry)| format!("row {row}  {}  {}", at(*at_us), told(entry)));
        let continues = self.since.as_ref().map(|since| format!("the head of row {}", since.seq));
        vec![
            ("order", name(self)),
            ("bucket", self.head.bucket.to_string()),
            ("state", self.state.as_str_name().trim_start_matches("STATE_").to_owned()),
            ("until", format!("row {}  {}", self.head.seq, at(self.head.at_us))),
            ("continues", continues.unwrap_or_default()),
            ("story", story.collect::<Vec<_>>().join("\n")),
        ]
    }
}

fn name(story: &Story) -> String {
    format!("orgs/{}/sales/{}/orders/{}", story.head.org, story.head.sale, story.order)
}

fn told(entry: &LedgerEntry) -> String {
    let kind = entry.kind().as_str_name().trim_start_matches("KIND_");
    let units: Vec<String> = entry.units.iter().map(ToString::to_string).collect();
    let mut words = kind.to_owned();
    if !units.is_empty() {
        words.push_str(&format!("  units {}", units.join(", ")));
    }
    if entry.amount_minor > 0 {
        words.push_str(&format!("  {} {} (minor unit)", entry.amount_minor, entry.currency));
    }
    if !entry.intent.is_empty() {
        words.push_str(&format!("  {}", entry.intent));
    }
    words
}

fn at(us: u64) -> String {
    let time = i64::try_from(us).ok().and_then(|us| Timestamp::from_microsecond(us).ok());
    time.map(|time| time.to_string()).unwrap_or_default()
}
