//! Prices: `google.type.Money` as merchants write it, and the currency's minor unit in which orders are counted.

use iso_currency::Currency;
use proto::limits::PRICE_MINOR_MAX;
use proto::wire::Money;

const NANO_DIGITS: u16 = 9;

/// Why something is no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadPrice {
    #[error("the currency is not a code of ISO 4217 with a minor unit, like EUR")]
    Currency,
    #[error("must be more than 0")]
    NotPositive,
    #[error("is finer than the currency's minor unit")]
    TooFine,
    #[error("is more than 1,000,000,000,000 of the currency's minor unit")]
    TooMuch,
}

/// The amount in the currency's minor unit, and the currency.
pub(super) fn minor(money: &Money) -> Result<(i64, String), BadPrice> {
    let digits = digits(&money.currency_code).ok_or(BadPrice::Currency)?;
    if money.units < 0 || money.nanos < 0 {
        return Err(BadPrice::NotPositive);
    }
    let (whole, fine) = (10_i64.pow(digits.into()), 10_i32.pow((NANO_DIGITS - digits).into()));
    if money.nanos >= 10_i32.pow(NANO_DIGITS.into()) || money.nanos % fine != 0 {
        return Err(BadPrice::TooFine);
    }
    let minor = money
        .units
        .checked_mul(whole)
        .and_then(|minor| minor.checked_add((money.nanos / fine).into()))
        .filter(|minor| *minor <= PRICE_MINOR_MAX)
        .ok_or(BadPrice::TooMuch)?;
    if minor == 0 { Err(BadPrice::NotPositive) } else { Ok((minor, money.currency_code.clone())) }
}

/// Money from an amount in the currency's minor unit; none when there is no such currency.
pub(super) fn money(minor: i64, currency: &str) -> Option<Money> {
    let digits = digits(currency)?;
    let (whole, fine) = (10_i64.pow(digits.into()), 10_i64.pow((NANO_DIGITS - digits).into()));
    Some(Money {
        currency_code: currency.to_owned(),
        units: minor / whole,
        nanos: i32::try_from(minor % whole * fine).ok()?,
    })
}

/// Digits of the currency behind the point.
fn digits(code: &str) -> Option<u16> {
    let currency = Currency::from_code(code).filter(|currency| currency.code() == code)?;
    currency.exponent().filter(|digits| *digits <= NANO_DIGITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn price(units: i64, nanos: i32, code: &str) -> Result<i64, BadPrice> {
        let money = Money { currency_code: code.into(), units, nanos };
        minor(&money).map(|(minor, _)| minor)
    }

    #[test]
    fn prices() {
        let rows = [
            (19, 990_000_000, "EUR", Ok(1_999)),
            (0, 10_000_000, "USD", Ok(1)),
            (1, 1_000_000, "KWD", Ok(1_001)),
            (500, 0, "JPY", Ok(500)),
            (10_000_000_000, 0, "EUR", Ok(PRICE_MINOR_MAX)),
            (10_000_000_000, 10_000_000, "EUR", Err(BadPrice::TooMuch)),
            (i64::MAX, 990_000_000, "EUR", Err(BadPrice::TooMuch)),
            (0, 0, "EUR", Err(BadPrice::NotPositive)),
            (-1, 0, "EUR", Err(BadPrice::NotPositive)),
            (1, -10_000_000, "EUR", Err(BadPrice::NotPositive)),
            (19, 999_000_000, "EUR", Err(BadPrice::TooFine)),
            (500, 500_000_000, "JPY", Err(BadPrice::TooFine)),
            (1, 1_000_000_000, "EUR", Err(BadPrice::TooFine)),
            (1, 0, "", Err(BadPrice::Currency)),
            (1, 0, "eur", Err(BadPrice::Currency)),
            (1, 0, "EURO", Err(BadPrice::Currency)),
            (1, 0, "ZZZ", Err(BadPrice::Currency)),
            (1, 0, "XAU", Err(BadPrice::Currency)),
        ];
        for (units, nanos, code, expected) in rows {
            assert_eq!(price(units, nanos, code), expected, "{units} {nanos} {code}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_what_was_meant(
            amount in 1..=PRICE_MINOR_MAX,
            code in prop::sample::select(vec!["EUR", "JPY", "KWD", "CLF"]),
        ) {
            let shown = money(amount, code).unwrap();
            prop_assert_eq!(minor(&shown), Ok((amount, code.to_owned())));
        }
    }
}
