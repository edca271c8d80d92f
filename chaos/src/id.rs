//! Ids as answers and ledgers hold them: 16 bytes, shown as lower-case hexadecimal.
//!
//! The judge has its own, so that a mistake in the planes' ids is not repeated here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Text or bytes that are no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 16 bytes, or not 32 hexadecimal digits")]
pub struct BadId;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
                let value = u128::from_str_radix(text, 16).ok().filter(|_| digits);
                value.map(|value| Self(value.to_be_bytes())).ok_or(BadId)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = BadId;

            fn try_from(bytes: &[u8]) -> Result<Self, BadId> {
                bytes.try_into().map(Self).map_err(|_| BadId)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

id! {
    /// An order.
    OrderId
}
id! {
    /// A buyer within one sale: the pseudonym that ledgers know them by.
    BuyerKey
}
id! {
    /// What makes a call the same call when it is sent again.
    RequestId
}

impl RequestId {
    /// As a UUID, which is how requests carry it.
    pub fn uuid(self) -> String {
        uuid::Uuid::from_bytes(self.0).hyphenated().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_text_and_json() {
        let order = OrderId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(order.to_string(), "000102030405060708090a0b0c0d0eff");
        assert_eq!(order.to_string().parse(), Ok(order));
        let json = serde_json::to_string(&order).unwrap();
        assert_eq!(serde_json::from_str::<OrderId>(&json).unwrap(), order);
        assert_eq!(RequestId(order.0).uuid(), "00010203-0405-0607-0809-0a0b0c0d0eff");
        for bad in
            ["", "00", "+00102030405060708090a0b0c0d0eff", "000102030405060708090a0b0c0d0eff0"]
        {
            assert_eq!(bad.parse::<OrderId>(), Err(BadId), "{bad}");
        }
    }
}
