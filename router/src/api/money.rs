//! Money: minor units inside, `google.type.Money` outside.

use iso_currency::Currency;
use proto::wire::Money;

/// An amount in a currency's minor unit, as the API writes it.
pub(crate) fn money(amount_minor: i64, currency: &str) -> Money {
    let exponent =
        Currency::from_code(currency).and_then(|currency| currency.exponent()).unwrap_or(2);
    let unit = 10_i64.pow(u32::from(exponent.min(9)));
    let nano = 1_000_000_000 / unit;
    Money {
        currency_code: currency.to_owned(),
        units: amount_minor / unit,
        nanos: i32::try_from(amount_minor % unit * nano).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        let rows = [
            (1999, "EUR", (19, 990_000_000)),
            (5, "USD", (0, 50_000_000)),
            (500, "JPY", (500, 0)),
            (1234, "KWD", (1, 234_000_000)),
        ];
        for (minor, currency, expected) in rows {
            let money = money(minor, currency);
            assert_eq!((money.units, money.nanos), expected, "{minor} {currency}");
        }
    }
}
