//! Names: of orgs, sales, orders, buyers, cells and processes.
//!
//! Ids that people choose are short words; ids that the platform makes are random or derived. A resource name puts
//! them together as `orgs/{org}/sales/{sale}/orders/{order}`. Nothing here says whether a name exists.

use crate::fault::{Fault, Reason};
use ring::{digest, hmac};
use std::{fmt, str::FromStr};

/// A name that cannot be one. Callers are told that the resource does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a well-formed name")]
pub struct BadName;

impl From<BadName> for Fault {
    fn from(_: BadName) -> Fault {
        Fault::new(Reason::NotFound)
    }
}

/// A word: lower-case letters, digits and dashes, a letter first and no dash last.
fn is_word(text: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    length.contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

macro_rules! word_id {
    ($(#[$doc:meta])* $name:ident, $length:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                if is_word(text, $length) { Ok($name(text.into())) } else { Err(BadName) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

word_id! {
    /// A tenant.
    OrgId, 3..=32
}
word_id! {
    /// A sale: made by the platform, unique over all orgs.
    SaleId, 3..=32
}
word_id! {
    /// A cell, as in `cell-3`.
    CellId, 1..=32
}
word_id! {
    /// A process within its cell, as in `p1`.
    ProcessId, 1..=64
}

impl SaleId {
    /// The id made of 80 random bits.
    pub fn from_random(bits: [u8; 10]) -> SaleId {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let mut text = String::with_capacity(17);
        text.push('s');
        let value = bits.iter().fold(0_u128, |value, &byte| value << 8 | u128::from(byte));
        for place in (0..16).rev() {
            text.push(char::from(ALPHABET[(value >> (place * 5)) as usize & 31]));
        }
        SaleId(text.into())
    }
}

/// A buyer within one sale: a keyed hash of their name, so that neither cell nor ledger knows who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BuyerKey(pub [u8; 16]);

impl BuyerKey {
    /// The pseudonym of `subject` under a sale's key.
    pub fn of(sale_key: &hmac::Key, subject: &str) -> BuyerKey {
        BuyerKey(first_16(hmac::sign(sale_key, subject.as_bytes()).as_ref()))
    }

    /// The buyer's bucket in a list of `buckets`; it never changes.
    pub fn bucket(self, buckets: u32) -> u32 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        let hash = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let place = (u128::from(hash) * u128::from(buckets)) >> 64;
        u32::try_from(place).unwrap_or(0)
    }
}

/// An order: derived from what was asked, so that the same request finds the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderId(pub [u8; 16]);

impl OrderId {
    /// The order that `request_id` of this buyer makes. A sale's id names its org too.
    pub fn derive(sale: &str, buyer: BuyerKey, request_id: [u8; 16]) -> OrderId {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(sale.as_bytes());
        context.update(&[0]);
        context.update(&buyer.0);
        context.update(&request_id);
        OrderId(first_16(context.finish().as_ref()))
    }
}

fn first_16(hash: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&hash[..16]);
    out
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte)]).collect()
}

/// `N` bytes from twice as many lower-case hexadecimal digits.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (digits, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digits: &[[u8; 2]; N] = digits.try_into().ok()?;
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(digits) {
        *byte = value(*high)? << 4 | value(*low)?;
    }
    Some(bytes)
}

/// 16 bytes from 32 lower-case hexadecimal digits.
pub fn unhex_16(text: &str) -> Option<[u8; 16]> {
    unhex(text)
}

macro_rules! hex_id {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl FromStr for $name {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                unhex_16(text).map($name).ok_or(BadName)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = BadName;

            fn try_from(bytes: &[u8]) -> Result<Self, BadName> {
                bytes.try_into().map($name).map_err(|_| BadName)
            }
        }
    };
}
hex_id!(BuyerKey);
hex_id!(OrderId);

/// `orgs/{org}`.
pub fn parse_org(name: &str) -> Result<OrgId, BadName> {
    name.strip_prefix("orgs/").ok_or(BadName)?.parse()
}

/// `orgs/{org}/sales/{sale}`.
pub fn parse_sale(name: &str) -> Result<(OrgId, SaleId), BadName> {
    let (org, sale) =
        name.strip_prefix("orgs/").and_then(|rest| rest.split_once("/sales/")).ok_or(BadName)?;
    Ok((org.parse()?, sale.parse()?))
}

/// `orgs/{org}/sales/{sale}/orders/{order}`.
pub fn parse_order(name: &str) -> Result<(OrgId, SaleId, OrderId), BadName> {
    let (sale, order) = name.split_once("/orders/").ok_or(BadName)?;
    let (org, sale) = parse_sale(sale)?;
    Ok((org, sale, order.parse()?))
}

/// `cells/{cell}`.
pub fn parse_cell(name: &str) -> Result<CellId, BadName> {
    name.strip_prefix("cells/").ok_or(BadName)?.parse()
}

/// 16 bytes from a UUID as people write it.
pub fn parse_request_id(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    let dashes_stand_right =
        bytes.len() == 36 && [8, 13, 18, 23].iter().all(|&at| bytes[at] == b'-');
    if !dashes_stand_right || bytes.iter().filter(|&&b| b == b'-').count() != 4 {
        return None;
    }
    unhex_16(&text.replace('-', "").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_strict() {
        let good = "orgs/acme/sales/s0123456789abcdef";
        assert!(parse_sale(good).is_ok());
        for bad in [
            "",
            "orgs/",
            "orgs/acme",
            "orgs/ACME/sales/s01",
            "orgs/a/sales/s01",
            "orgs/acme/sales/",
            "orgs/acme/sales/s01/",
            "orgs/acme/sales/s01/orders/x",
            "orgs/../sales/s01",
            "/orgs/acme/sales/s01",
        ] {
            assert_eq!(parse_sale(bad), Err(BadName), "{bad}");
        }
    }

    #[test]
    fn request_ids_are_uuids() {
        assert!(parse_request_id("6f9619ff-8b86-d011-b42d-00cf4fc964ff").is_some());
        assert!(parse_request_id("6F9619FF-8B86-D011-B42D-00CF4FC964FF").is_some());
        for bad in
            ["", "6f9619ff8b86d011b42d00cf4fc964ff", "6f9619ff-8b86-d011-b42d-00cf4fc964f-", "x"]
        {
            assert_eq!(parse_request_id(bad), None, "{bad}");
        }
    }

    #[test]
    fn derived_ids_are_frozen() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
        let buyer = BuyerKey::of(&key, "ada");
        assert_eq!(buyer.to_string(), "cf2f093f9c4c3f3969cc06a6934eecd4");
        let order = OrderId::derive("s0123456789abcdef", buyer, [1; 16]);
        assert_eq!(order.to_string(), "eff2f5d688d9375d49b2cc0a9c421fb3");
        assert_eq!(SaleId::from_random([255; 10]).as_str(), "szzzzzzzzzzzzzzzz");
    }

    proptest! {
        #[test]
        fn a_bucket_is_one_of_the_list(buyer: [u8; 16], buckets in 1_u32..100) {
            prop_assert!(BuyerKey(buyer).bucket(buckets) < buckets);
        }

        #[test]
        fn hex_survives(bytes: [u8; 16]) {
            prop_assert_eq!(unhex_16(&hex(&bytes)), Some(bytes));
        }
    }
}
