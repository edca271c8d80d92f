//! Reads the provider's file: one JSON object a line, `seq` without a gap, only ever appended to.
//!
//! A last line without an end was told to nobody and is left out. Fields that are not named here do not matter.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::{Intent, ReadError};

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    Created,
    Confirmed,
    Declined,
    Captured,
    Canceled,
    Refunded,
}

#[derive(Deserialize)]
struct Line {
    seq: u64,
    intent: String,
    event: Event,
    amount: u64,
    order: Option<String>,
}

/// What became of each intent, in the order of their creation.
pub(super) fn read(path: &Path) -> Result<Vec<Intent>, ReadError> {
    let flaw = |reason: String| ReadError::Provider { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| flaw(error.to_string()))?;
    let mut intents: Vec<Intent> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    for (number, text) in (1..).zip(whole.lines()) {
        let line: Line = serde_json::from_str(text)
            .map_err(|error| flaw(format!("line {number} is no entry: {error}")))?;
        if line.seq != number {
            return Err(flaw(format!("line {number} has the seq {}", line.seq)));
        }
        let place = *places.entry(line.intent.clone()).or_insert(intents.len());
        if place == intents.len() {
            intents.push(Intent { id: line.intent.clone(), ..Intent::default() });
        }
        let intent = &mut intents[place];
        match line.event {
            Event::Created => {
                intent.amount = line.amount;
                intent.order = line.order;
            }
            Event::Declined => intent.declines += 1,
            Event::Captured => {
                intent.captures += 1;
                intent.captured += line.amount;
            }
            Event::Refunded => intent.refunded += line.amount,
            Event::Confirmed | Event::Canceled => {}
        }
    }
    Ok(intents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Vec<Intent>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|error| error.to_string())
    }

    fn line(seq: u64, intent: &str, event: &str, amount: u64) -> String {
        let order = if event == "created" { r#""o-1""# } else { "null" };
        format!(
            "{{\"seq\":{seq},\"at_ms\":7,\"intent\":\"{intent}\",\"event\":\"{event}\",\
             \"amount\":{amount},\"currency\":\"eur\",\"order\":{order},\"key\":null,\"new\":1}}\n"
        )
    }

    #[test]
    fn lines_add_up_to_intents() {
        let text = [
            line(1, "pi_1", "created", 500),
            line(2, "pi_2", "created", 300),
            line(3, "pi_1", "declined", 500),
            line(4, "pi_1", "confirmed", 500),
            line(5, "pi_1", "captured", 500),
            line(6, "pi_1", "refunded", 200),
            line(7, "pi_2", "canceled", 300),
        ];
        let intents = check(&(text.concat() + r#"{"seq":8,"at_"#)).unwrap();
        let first = Intent {
            id: "pi_1".into(),
            order: Some("o-1".into()),
            amount: 500,
            captures: 1,
            captured: 500,
            refunded: 200,
            declines: 1,
        };
        assert_eq!(intents[0], first);
        assert_eq!((intents[1].captures, first.unrefunded_captures()), (0, 1));
        assert_eq!(Intent { refunded: 500, ..first }.unrefunded_captures(), 0);
    }

    #[test]
    fn a_file_that_is_not_whole_is_not_judged() {
        let gap = check(&line(2, "pi_1", "created", 5)).unwrap_err();
        assert!(gap.contains("line 1 has the seq 2"), "{gap}");
        let garbage = check("{}\n").unwrap_err();
        assert!(garbage.contains("line 1 is no entry"), "{garbage}");
        assert!(check("").unwrap().is_empty());
    }
}
