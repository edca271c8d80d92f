//! What people type: times, durations, money, and names with or without their collection.

mod key;

pub(crate) use key::{AlgorithmArg, public_key, public_key_file, written};

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use proto::wire::Money;
use proto::wire::admin::sale::Class;

const NANO_DIGITS: usize = 9;

/// A time: RFC 3339, or `+10m` from now.
pub(crate) fn time(text: &str) -> Result<prost_types::Timestamp, String> {
    let wrong = || format!("{text:?} is no time; write it like 2026-11-22T12:00:00Z or +10m");
    let time = match text.strip_prefix('+') {
        Some(from_now) => {
            let from_now = SignedDuration::from_str(from_now).map_err(|_| wrong())?;
            Timestamp::now().checked_add(from_now).map_err(|_| wrong())?
        }
        None => Timestamp::from_str(text).map_err(|_| wrong())?,
    };
    let nanos = time.subsec_nanosecond();
    Ok(prost_types::Timestamp { seconds: time.as_second(), nanos })
}

/// A duration like `120s` or `1h30m`.
pub(crate) fn duration(text: &str) -> Result<prost_types::Duration, String> {
    let span = SignedDuration::from_str(text).ok().filter(|span| !span.is_negative());
    let span = span.ok_or_else(|| format!("{text:?} is no duration; write it like 120s or 2m"))?;
    Ok(prost_types::Duration { seconds: span.as_secs(), nanos: span.subsec_nanos() })
}

/// An amount like `19.99EUR`.
pub(crate) fn money(text: &str) -> Result<Money, String> {
    let read = || {
        let (amount, code) = text.split_at_checked(text.len().checked_sub(3)?)?;
        let (units, fraction) = match amount.trim_end().split_once('.') {
            Some((units, fraction)) if !fraction.is_empty() => (units, fraction),
            Some(_) => return None,
            None => (amount.trim_end(), ""),
        };
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let plain = !units.is_empty() && digits(units) && digits(fraction);
        if !plain || fraction.len() > NANO_DIGITS || !code.bytes().all(|b| b.is_ascii_uppercase()) {
            return None;
        }
        let nanos = format!("{fraction:0<NANO_DIGITS$}").parse().ok()?;
        Some(Money { currency_code: code.to_owned(), units: units.parse().ok()?, nanos })
    };
    read().ok_or_else(|| format!("{text:?} is no price; write it like 19.99EUR"))
}

/// A sale's class.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum ClassArg {
    /// A crowd at an exact moment.
    Flash,
    /// Everyday commerce.
    Standard,
}

impl From<ClassArg> for Class {
    fn from(class: ClassArg) -> Class {
        match class {
            ClassArg::Flash => Class::Flash,
            ClassArg::Standard => Class::Standard,
        }
    }
}

/// `acme` and `orgs/acme` mean the same.
pub(crate) fn named(collection: &str, text: &str) -> String {
    if text.starts_with(&format!("{collection}/")) {
        text.to_owned()
    } else {
        format!("{collection}/{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let read = time("2026-11-22T12:00:00.5Z").unwrap();
        assert_eq!((read.seconds, read.nanos), (1_795_348_800, 500_000_000));
        assert_eq!(time("2026-11-22T13:00:00+01:00").unwrap().seconds, 1_795_348_800);
        let now = Timestamp::now().as_second();
        assert!((now + 599..=now + 602).contains(&time("+10m").unwrap().seconds));
        for bad in ["", "tomorrow", "2026-11-22", "+", "+x", "10m"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("120s").unwrap().seconds, 120);
        assert_eq!(duration("1h30m").unwrap().seconds, 5_400);
        assert_eq!(duration("1500ms").unwrap().nanos, 500_000_000);
        for bad in ["", "120", "-5s", "x"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn prices() {
        let read = |text| money(text).map(|money| (money.units, money.nanos, money.currency_code));
        assert_eq!(read("19.99EUR"), Ok((19, 990_000_000, "EUR".to_owned())));
        assert_eq!(read("500 JPY"), Ok((500, 0, "JPY".to_owned())));
        assert_eq!(read("0.001KWD"), Ok((0, 1_000_000, "KWD".to_owned())));
        for bad in ["", "EUR", "1", "1eur", "-1EUR", "1.EUR", ".5EUR", "1.0000000001EUR", "1,5EUR"]
        {
            assert!(money(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(named("orgs", "acme"), "orgs/acme");
        assert_eq!(named("orgs", "orgs/acme"), "orgs/acme");
    }
}
