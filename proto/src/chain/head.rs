//! A signed head: what a cell says, once and for all, of a bucket's ledger up to a row.
//!
//! It is a compact JWS, like tokens and tickets, because every reader of those has what it takes to check it: EdDSA over
//! three parts of base64url. Its `typ` is its own, so that no token is taken for a head and no head for a token. The
//! checkpoints of transparency logs say the same in lines of text; they have no place for a bucket and a chain.

use super::Chain;
use crate::id::{hex, unhex};
use crate::jws::{self, Header};
use crate::limits::HEAD_BYTES_MAX;
use crate::merkle::Hash;
use crate::token::kid_of;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

const ALG: &str = "EdDSA";
const TYP: &str = "floodgate-head";

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The org's id.
    pub org: String,
    /// The sale's id.
    pub sale: String,
    /// The bucket's number.
    pub bucket: u32,
    /// The last row that it covers.
    pub seq: u64,
    /// That row's hash.
    pub hash: Hash,
    /// The root of the tree over the hashes of rows 1 to `seq`.
    pub root: Hash,
    /// That row's time, in microseconds since 1970.
    pub at_us: u64,
}

/// As it stands in the JWS.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    org: String,
    sale: String,
    bucket: u32,
    seq: u64,
    hash: String,
    root: String,
    at_us: u64,
}

/// Why a text is no head that can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadFlaw {
    /// It is no head.
    #[error("it is no signed head")]
    Malformed,
    /// It names a key that is not among the given ones.
    #[error("it is signed by another key than those given")]
    OtherKey,
    /// It names a given key, which did not sign it.
    #[error("its signature is false")]
    WrongSignature,
}

impl Head {
    /// The head of a bucket whose ledger was followed so far.
    pub fn of(org: &str, sale: &str, bucket: u32, chain: &Chain) -> Head {
        Head {
            org: org.into(),
            sale: sale.into(),
            bucket,
            seq: chain.seq(),
            hash: chain.hash(),
            root: chain.tree_root(),
            at_us: chain.at_us(),
        }
    }

    /// Whether a ledger that was followed exactly as far as this head is the one that it covers.
    pub fn covers(&self, chain: &Chain) -> bool {
        (self.seq, self.hash, self.root, self.at_us)
            == (chain.seq(), chain.hash(), chain.tree_root(), chain.at_us())
    }

    /// Signs it.
    pub fn sign(&self, key: &Ed25519KeyPair) -> String {
        let kid = kid_of(key.public_key().as_ref());
        let header = Header::new(ALG, TYP, &kid);
        let claims = Claims {
            org: self.org.clone(),
            sale: self.sale.clone(),
            bucket: self.bucket,
            seq: self.seq,
            hash: hex(&self.hash),
            root: hex(&self.root),
            at_us: self.at_us,
        };
        let signed = format!("{}.{}", jws::write(&header), jws::write(&claims));
        let signature = key.sign(signed.as_bytes());
        jws::seal(signed, signature.as_ref())
    }

    /// Reads a head that one of `keys` (raw Ed25519) has signed.
    ///
    /// # Errors
    /// Why it cannot be believed.
    pub fn verify(text: &str, keys: &[[u8; 32]]) -> Result<Head, HeadFlaw> {
        if text.len() > HEAD_BYTES_MAX {
            return Err(HeadFlaw::Malformed);
        }
        let parts = jws::cut(text).map_err(|_| HeadFlaw::Malformed)?;
        if parts.header.alg != ALG || parts.header.typ != TYP {
            return Err(HeadFlaw::Malformed);
        }
        let key = keys.iter().find(|key| kid_of(&key[..]) == parts.header.kid);
        let key = key.ok_or(HeadFlaw::OtherKey)?;
        UnparsedPublicKey::new(&ED25519, key)
            .verify(parts.signed.as_bytes(), &parts.signature)
            .map_err(|_| HeadFlaw::WrongSignature)?;
        let claims: Claims = jws::read(parts.payload).map_err(|_| HeadFlaw::Malformed)?;
        let hash = |text: &str| unhex(text).ok_or(HeadFlaw::Malformed);
        Ok(Head {
            hash: hash(&claims.hash)?,
            root: hash(&claims.root)?,
            org: claims.org,
            sale: claims.sale,
            bucket: claims.bucket,
            seq: claims.seq,
            at_us: claims.at_us,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token;

    fn key(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    fn public(seed: u8) -> [u8; 32] {
        key(seed).public_key().as_ref().try_into().unwrap()
    }

    fn head() -> Head {
        Head {
            org: "acme".into(),
            sale: "s0123456789abcdef".into(),
            bucket: 3,
            seq: 17,
            hash: [1; 32],
            root: [2; 32],
            at_us: 1_795_348_800_000_000,
        }
    }

    #[test]
    fn only_the_given_keys_are_believed() {
        let text = head().sign(&key(1));
        assert_eq!(Head::verify(&text, &[public(2), public(1)]), Ok(head()));
        assert_eq!(Head::verify(&text, &[public(2)]), Err(HeadFlaw::OtherKey));
        assert_eq!(Head::verify("", &[]), Err(HeadFlaw::Malformed));
        let claims = token::Claims::new("platform", "ada", token::Role::Operator, 2_000);
        let token = token::sign(&key(1), &kid_of(&public(1)), &claims);
        assert_eq!(Head::verify(&token, &[public(1)]), Err(HeadFlaw::Malformed));
        assert!(token::read(&text).is_err(), "a head is no token");
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let text = head().sign(&key(1));
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(text) = String::from_utf8(bytes) else { continue };
            assert!(Head::verify(&text, &[public(1)]).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_format_is_frozen() {
        assert_eq!(
            head().sign(&key(1)),
            "eyJhbGciOiJFZERTQSIsInR5cCI6ImZsb29kZ2F0ZS1oZWFkIiwia2lkIjoiazM0NzUwZjk4In0.eyJvcmciOiJhY21lIiwic2FsZSI6InMwMTIzNDU2Nzg5YWJjZGVmIiwiYnVja2V0IjozLCJzZXEiOjE3LCJoYXNoIjoiMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMSIsInJvb3QiOiIwMjAyMDIwMjAyMDIwMjAyMDIwMjAyMDIwMjAyMDIwMjAyMDIwMjAyMDIwMjAyMDIwMjAyMDIwMjAyMDIwMjAyIiwiYXRfdXMiOjE3OTUzNDg4MDAwMDAwMDB9.c739jfcZy8KH3ry_TPiDVoJIy6S4JypNt-sTaUK0EsVE65Mlyreyi1i7fbAvnzlkDJ8HY2uBGL6sBbVyN-VzBQ"
        );
    }
}
