//! Tokens: who a caller is. A compact JWS with EdDSA, signed by a key that the org (or the platform) registered.
//!
//! The org of a call comes from its verified token and from nowhere else. Verifying takes the registered keys and the
//! time as values; finding the keys is the caller's work. Nothing is accepted that lacks a `kid`, and the algorithm is
//! never taken from the token.

use crate::fault::Reason;
use crate::id::OrgId;
use crate::jws::{self, Header};
use crate::limits::{TOKEN_BYTES_MAX, TOKEN_LEEWAY_MS};
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

/// The audience of every token.
pub const AUDIENCE: &str = "floodgate";
/// The issuer of operators' tokens.
pub const PLATFORM: &str = "platform";
const ALG: &str = "EdDSA";
const TYP: &str = "JWT";
/// Bytes of a key's hash in its own name.
const KID_BYTES: usize = 4;

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Joins, reserves, pays.
    Buyer,
    /// Plans and steers an org's sales.
    Merchant,
    /// Runs the platform.
    Operator,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// `orgs/{org}` or `platform`.
    pub iss: String,
    /// [`AUDIENCE`].
    pub aud: String,
    /// Who, in the issuer's own words.
    pub sub: String,
    /// What they may do.
    pub role: Role,
    /// Unix seconds after which it is void.
    pub exp: u64,
}

/// A verified caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The tenant; none for the platform's own people.
    pub org: Option<OrgId>,
    /// Who, within the org.
    pub subject: Box<str>,
    /// What they may do.
    pub role: Role,
    /// Unix milliseconds after which the token is void.
    pub expires_ms: u64,
}

/// Whose key a token claims to be signed with, before anything is verified.
#[derive(Debug)]
pub struct Unverified<'a> {
    parts: jws::Unverified<'a>,
    claims: Claims,
}

impl std::fmt::Debug for jws::Unverified<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unverified").field("header", &self.header).finish_non_exhaustive()
    }
}

/// Reads a token without believing it, to find out which key to ask for.
///
/// # Errors
/// [`Reason::TokenMalformed`] unless it is a compact JWS with `alg` EdDSA, a `kid` and all claims.
pub fn read(token: &str) -> Result<Unverified<'_>, Reason> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Reason::TokenMalformed);
    }
    let parts = jws::cut(token).map_err(|_| Reason::TokenMalformed)?;
    if parts.header.alg != ALG || parts.header.typ != TYP || parts.header.kid.is_empty() {
        return Err(Reason::TokenMalformed);
    }
    let claims: Claims = jws::read(parts.payload).map_err(|_| Reason::TokenMalformed)?;
    Ok(Unverified { parts, claims })
}

impl Unverified<'_> {
    /// The `kid`.
    pub fn kid(&self) -> &str {
        &self.parts.header.kid
    }

    /// The org that is said to have issued it; none for the platform.
    ///
    /// # Errors
    /// [`Reason::TokenMalformed`] when the issuer is neither.
    pub fn org(&self) -> Result<Option<OrgId>, Reason> {
        if self.claims.iss == PLATFORM {
            return Ok(None);
        }
        crate::id::parse_org(&self.claims.iss).map(Some).map_err(|_| Reason::TokenMalformed)
    }

    /// Checks signature, audience, time and role against the issuer's key (raw Ed25519, 32 bytes).
    ///
    /// # Errors
    /// The reason for which it is refused; the signature is looked at first.
    pub fn verify(self, key: &[u8], now_ms: u64) -> Result<Caller, Reason> {
        let org = self.org()?;
        UnparsedPublicKey::new(&ED25519, key)
            .verify(self.parts.signed.as_bytes(), &self.parts.signature)
            .map_err(|_| Reason::TokenWrongKey)?;
        if self.claims.aud != AUDIENCE {
            return Err(Reason::TokenWrongAudience);
        }
        let expires_ms = self.claims.exp.saturating_mul(1000);
        if now_ms >= expires_ms.saturating_add(TOKEN_LEEWAY_MS) {
            return Err(Reason::TokenExpired);
        }
        // Orgs speak for their buyers and merchants, the platform for its operators, nobody for the other.
        if (self.claims.role == Role::Operator) != org.is_none() {
            return Err(Reason::RoleNotAllowed);
        }
        Ok(Caller { org, subject: self.claims.sub.into(), role: self.claims.role, expires_ms })
    }
}

/// The name that a public key (raw Ed25519) has by itself: `k` and the first bytes of its SHA-256.
pub fn kid_of(public_key: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, public_key);
    format!("k{}", crate::id::hex(&hash.as_ref()[..KID_BYTES]))
}

/// Signs `claims` with the key called `kid`.
pub fn sign(key: &Ed25519KeyPair, kid: &str, claims: &Claims) -> String {
    let header = Header { alg: ALG.into(), typ: TYP.into(), kid: kid.into() };
    let signed = format!("{}.{}", jws::write(&header), jws::write(claims));
    let signature = key.sign(signed.as_bytes());
    jws::seal(signed, signature.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::KeyPair;

    fn key(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    fn claims() -> Claims {
        Claims {
            iss: "orgs/acme".into(),
            aud: AUDIENCE.into(),
            sub: "ada".into(),
            role: Role::Buyer,
            exp: 2_000,
        }
    }

    fn check(claims: &Claims, now_ms: u64, expected: Result<(), Reason>) {
        let token = sign(&key(1), "k1", claims);
        let verified =
            read(&token).and_then(|token| token.verify(key(1).public_key().as_ref(), now_ms));
        assert_eq!(verified.map(|_| ()), expected, "{claims:?} at {now_ms}");
    }

    #[test]
    fn verdicts() {
        let with = |change: fn(&mut Claims)| {
            let mut claims = claims();
            change(&mut claims);
            claims
        };
        check(&claims(), 1_999_999, Ok(()));
        check(&claims(), 2_000_000 + TOKEN_LEEWAY_MS, Err(Reason::TokenExpired));
        check(&with(|c| c.aud = "other".into()), 0, Err(Reason::TokenWrongAudience));
        check(&with(|c| c.iss = "acme".into()), 0, Err(Reason::TokenMalformed));
        check(&with(|c| c.iss = PLATFORM.into()), 0, Err(Reason::RoleNotAllowed));
        check(&with(|c| c.role = Role::Operator), 0, Err(Reason::RoleNotAllowed));
        check(&with(|c| c.exp = u64::MAX), u64::MAX - 1, Ok(()));
    }

    #[test]
    fn other_keys_and_algorithms_are_refused() {
        let token = sign(&key(1), "k1", &claims());
        let verdict = read(&token).unwrap().verify(key(2).public_key().as_ref(), 0);
        assert_eq!(verdict, Err(Reason::TokenWrongKey));
        for (alg, kid) in [("none", "k1"), ("HS256", "k1"), ("EdDSA", "")] {
            let header = Header { alg: alg.into(), typ: TYP.into(), kid: kid.into() };
            let forged =
                jws::seal(format!("{}.{}", jws::write(&header), jws::write(&claims())), &[0; 64]);
            assert_eq!(read(&forged).map(|_| ()), Err(Reason::TokenMalformed), "{alg}");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let token = sign(&key(1), "k1", &claims());
        for bit in 0..token.len() * 8 {
            let mut bytes = token.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(text) = String::from_utf8(bytes) else { continue };
            let verdict =
                read(&text).and_then(|token| token.verify(key(1).public_key().as_ref(), 0));
            assert!(verdict.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_format_is_frozen() {
        assert_eq!(
            sign(&key(1), "k1", &claims()),
            "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6ImsxIn0.eyJpc3MiOiJvcmdzL2FjbWUiLCJhdWQiOiJmbG9vZGdhdGUiLCJzdWIiOiJhZGEiLCJyb2xlIjoiYnV5ZXIiLCJleHAiOjIwMDB9.cPphvWfboU18ps69LjyFlLh5SrUi-hdZEPTX_o3RJrBRQQffF2ADBlIR5vUhLredVpaju0dD_8L0y2bcjlZKCA"
        );
    }
}
