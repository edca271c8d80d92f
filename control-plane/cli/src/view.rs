//! How messages look: as JSON in the shape of protobuf's mapping (every scalar is there, absent messages are not), and
//! as named fields of text.

mod admin;
mod fleet;
pub(crate) mod ledger;
mod storefront;

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use proto::wire::Money;
use serde_json::{Map, Value, json};

/// Something that is shown.
pub(crate) trait View {
    /// The fields that a list shows.
    const BRIEF: &'static [&'static str];

    /// As JSON.
    fn json(&self) -> Value;

    /// As text: names and values, in the order in which people want to know them.
    fn fields(&self) -> Vec<(&'static str, String)>;
}

/// An object without what is null.
fn object(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>(),
        ),
        other => other,
    }
}

/// RFC 3339.
fn time(time: Option<&prost_types::Timestamp>) -> Option<String> {
    let time = time?;
    Timestamp::new(time.seconds, time.nanos).ok().map(|time| time.to_string())
}

/// Seconds with as many digits behind the point as it needs, in threes.
fn duration(duration: Option<&prost_types::Duration>) -> Option<String> {
    let prost_types::Duration { seconds, nanos } = duration?;
    let sign = if *seconds < 0 || *nanos < 0 { "-" } else { "" };
    let (seconds, nanos) = (seconds.unsigned_abs(), nanos.unsigned_abs());
    Some(match nanos {
        0 => format!("{sign}{seconds}s"),
        _ if nanos % 1_000_000 == 0 => format!("{sign}{seconds}.{:03}s", nanos / 1_000_000),
        _ if nanos % 1_000 == 0 => format!("{sign}{seconds}.{:06}s", nanos / 1_000),
        _ => format!("{sign}{seconds}.{nanos:09}s"),
    })
}

fn money_json(money: Option<&Money>) -> Option<Value> {
    let Money { currency_code, units, nanos } = money?;
    Some(json!({ "currencyCode": currency_code, "units": units.to_string(), "nanos": nanos }))
}

fn money_text(money: Option<&Money>) -> String {
    let Some(Money { currency_code, units, nanos }) = money else { return String::new() };
    let fraction = format!("{nanos:09}");
    let fraction = fraction.trim_end_matches('0');
    match fraction.len() {
        0 => format!("{units} {currency_code}"),
        _ => format!("{units}.{fraction:0<2} {currency_code}"),
    }
}

/// Bytes as JSON has them.
fn bytes(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// `STATE_OPEN` as people say it.
fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_look_as_in_protobufs_mapping() {
        let at = |seconds, nanos| time(Some(&prost_types::Timestamp { seconds, nanos }));
        assert_eq!(at(1_795_348_800, 0).as_deref(), Some("2026-11-22T12:00:00Z"));
        assert_eq!(at(0, 500_000_000).as_deref(), Some("1970-01-01T00:00:00.5Z"));
        let lasting = |seconds, nanos| duration(Some(&prost_types::Duration { seconds, nanos }));
        assert_eq!(lasting(3, 0).as_deref(), Some("3s"));
        assert_eq!(lasting(0, 500_000_000).as_deref(), Some("0.500s"));
        assert_eq!(lasting(1, 1_000).as_deref(), Some("1.000001s"));
        assert_eq!(lasting(1, 1).as_deref(), Some("1.000000001s"));
        assert_eq!(lasting(-1, -500_000_000).as_deref(), Some("-1.500s"));
        let price = Money { currency_code: "EUR".into(), units: 20, nanos: 500_000_000 };
        assert_eq!(money_text(Some(&price)), "20.50 EUR");
        assert_eq!(money_json(Some(&price)).unwrap()["units"], "20");
        assert_eq!(object(json!({ "a": null, "b": 0 })), json!({ "b": 0 }));
    }
}
