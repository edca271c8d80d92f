//! Keys of tokens: which algorithm a key is for, and whether it made a signature.
//!
//! A key is good for its own algorithm and no other: what a token's header says is compared with the key and chooses
//! nothing. So no public key can be taken for a secret, and no strong key be used weakly.

use super::Claims;
use super::rsa;
use crate::fault::Reason;
use crate::jws::{self, Header};
use crate::wire::{cell, fleet};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
    UnparsedPublicKey, VerificationAlgorithm,
};

/// Bytes of a raw Ed25519 public key.
const ED25519_BYTES: usize = 32;
/// Bytes of an uncompressed point of P-256, and the first of them.
const P256_BYTES: (usize, u8) = (65, 4);

/// An algorithm that signs tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// RSA PKCS#1 v1.5 with SHA-256, 2,048 to 4,096 bits.
    Rs256,
}

impl Algorithm {
    /// Every algorithm; a token with any other is malformed.
    pub const ALL: [Algorithm; 3] = [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256];

    /// The `alg` of a token's header.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::EdDsa => "EdDSA",
            Algorithm::Es256 => "ES256",
            Algorithm::Rs256 => "RS256",
        }
    }

    /// The algorithm with this name.
    pub(super) fn named(name: &str) -> Option<Algorithm> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// Why bytes are no key, as a complaint about the field that held them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadKey(pub &'static str);

/// The public half of a key, with its algorithm. Its bytes have the right shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: Algorithm,
    bytes: Box<[u8]>,
}

impl PublicKey {
    /// A key from its bytes: EdDSA the raw 32; ES256 the uncompressed point, 65; RS256 the DER of an `RSAPublicKey`
    /// (PKCS#1).
    ///
    /// # Errors
    /// [`BadKey`] when they have another shape, or for an RSA key of less than 2,048 or more than 4,096 bits, or with an
    /// exponent other than 65,537.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Result<PublicKey, BadKey> {
        let complaint = match algorithm {
            Algorithm::EdDsa if bytes.len() != ED25519_BYTES => {
                Some("must be raw Ed25519 public keys of 32 bytes")
            }
            Algorithm::Es256
                if (bytes.len(), bytes.first()) != (P256_BYTES.0, Some(&P256_BYTES.1)) =>
            {
                Some("must be uncompressed points of P-256, 65 bytes that begin with 4")
            }
            Algorithm::Rs256 => rsa::complaint(bytes),
            _ => None,
        };
        match complaint {
            Some(complaint) => Err(BadKey(complaint)),
            None => Ok(PublicKey { algorithm, bytes: bytes.into() }),
        }
    }

    /// An Ed25519 key.
    pub fn ed25519(raw: &[u8; 32]) -> PublicKey {
        PublicKey { algorithm: Algorithm::EdDsa, bytes: (*raw).into() }
    }

    /// What it is for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its bytes, as [`Self::new`] takes them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The name that it has by itself.
    pub fn kid(&self) -> String {
        super::kid_of(&self.bytes)
    }

    pub(super) fn check(&self, signed: &str, signature: &[u8]) -> Result<(), Reason> {
        let algorithm: &dyn VerificationAlgorithm = match self.algorithm {
            Algorithm::EdDsa => &ED25519,
            Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
            Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        };
        let key = UnparsedPublicKey::new(algorithm, &self.bytes);
        key.verify(signed.as_bytes(), signature).map_err(|_| Reason::TokenWrongKey)
    }
}

macro_rules! as_message {
    ($($message:path, $key:path;)*) => {$(
        impl $message {
            /// An Ed25519 key, from its raw 32 bytes.
            pub fn ed25519(kid: impl Into<String>, raw: impl Into<Vec<u8>>) -> Self {
                use $key as Key;
                Self { kid: kid.into(), key: Some(Key::Ed25519(raw.into())) }
            }

            /// A key under a name.
            pub fn named(kid: impl Into<String>, key: &PublicKey) -> Self {
                use $key as Key;
                let bytes = key.bytes.to_vec();
                let key = match key.algorithm {
                    Algorithm::EdDsa => Key::Ed25519(bytes),
                    Algorithm::Es256 => Key::Es256(bytes),
                    Algorithm::Rs256 => Key::Rs256(bytes),
                };
                Self { kid: kid.into(), key: Some(key) }
            }

            /// The key that it holds.
            ///
            /// # Errors
            /// As [`PublicKey::new`], and when it holds none.
            pub fn public_key(&self) -> Result<PublicKey, BadKey> {
                use $key as Key;
                match &self.key {
                    Some(Key::Ed25519(bytes)) => PublicKey::new(Algorithm::EdDsa, bytes),
                    Some(Key::Es256(bytes)) => PublicKey::new(Algorithm::Es256, bytes),
                    Some(Key::Rs256(bytes)) => PublicKey::new(Algorithm::Rs256, bytes),
                    None => Err(BadKey("must be of a kind that is known: ed25519, es256 or rs256")),
                }
            }
        }
    )*};
}
as_message! {
    fleet::PublicKey, fleet::public_key::Key;
    cell::KeyRecord, cell::key_record::Key;
}

/// Both halves of a key.
#[derive(Debug)]
pub enum KeyPair {
    /// Signs EdDSA.
    Ed25519(Ed25519KeyPair),
    /// Signs ES256.
    Es256(EcdsaKeyPair),
    /// Signs RS256.
    Rs256(RsaKeyPair),
}

impl KeyPair {
    /// The key in a PKCS#8 file (DER), of whichever kind it is.
    ///
    /// # Errors
    /// [`BadKey`] when it is of none.
    pub fn from_pkcs8(der: &[u8]) -> Result<KeyPair, BadKey> {
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Ok(KeyPair::Ed25519(pair));
        }
        let random = SystemRandom::new();
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random) {
            return Ok(KeyPair::Es256(pair));
        }
        let bad = BadKey("no Ed25519, P-256 or RSA private key in PKCS#8 (DER)");
        let pair = KeyPair::Rs256(RsaKeyPair::from_pkcs8(der).map_err(|_| bad)?);
        pair.public()?;
        Ok(pair)
    }

    /// The public half.
    ///
    /// # Errors
    /// [`BadKey`] for an RSA key that may sign no token.
    pub fn public(&self) -> Result<PublicKey, BadKey> {
        match self {
            KeyPair::Ed25519(pair) => PublicKey::new(Algorithm::EdDsa, pair.public_key().as_ref()),
            KeyPair::Es256(pair) => PublicKey::new(Algorithm::Es256, pair.public_key().as_ref()),
            KeyPair::Rs256(pair) => PublicKey::new(Algorithm::Rs256, pair.public_key().as_ref()),
        }
    }

    /// Signs `claims` under the name `kid`.
    ///
    /// # Errors
    /// [`BadKey`] when this machine has no randomness for it.
    pub fn sign(&self, kid: &str, claims: &Claims) -> Result<String, BadKey> {
        let random = SystemRandom::new();
        let unsigned = |_| BadKey("cannot sign on this machine");
        match self {
            KeyPair::Ed25519(pair) => Ok(super::sign(pair, kid, claims)),
            KeyPair::Es256(pair) => {
                let signed = to_sign(Algorithm::Es256, kid, claims);
                let signature = pair.sign(&random, signed.as_bytes()).map_err(unsigned)?;
                Ok(jws::seal(signed, signature.as_ref()))
            }
            KeyPair::Rs256(pair) => {
                let signed = to_sign(Algorithm::Rs256, kid, claims);
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature)
                    .map_err(unsigned)?;
                Ok(jws::seal(signed, &signature))
            }
        }
    }
}

/// Header and claims as they are signed.
pub(super) fn to_sign(algorithm: Algorithm, kid: &str, claims: &Claims) -> String {
    let header = Header::new(algorithm.name(), super::TYP, kid);
    format!("{}.{}", jws::write(&header), jws::write(claims))
}
