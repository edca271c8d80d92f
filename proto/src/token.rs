//! Tokens: who a caller is. A compact JWS, signed by a key that the org (or the platform) registered.
//!
//! The org of a call comes from its verified token and from nowhere else. Verifying takes the registered keys and the
//! time as values; finding the keys, and the tokens that were withdrawn, is the caller's work. Nothing is accepted that
//! lacks a `kid`, and the algorithm is the key's ([`PublicKey`]), never the token's.

use crate::fault::Reason;
use crate::id::OrgId;
use crate::jws;
use crate::limits::{TOKEN_BYTES_MAX, TOKEN_ID_BYTES_MAX, TOKEN_LEEWAY_MS};
use ring::signature::Ed25519KeyPair;
use serde::{Deserialize, Serialize};

mod key;
mod rsa;

pub use key::{Algorithm, BadKey, KeyPair, PublicKey};

/// The audience of every token.
pub const AUDIENCE: &str = "floodgate";
/// The issuer of operators' tokens.
pub const PLATFORM: &str = "platform";
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
    /// Unix seconds before which it is not good yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// Its own id, by which it can be withdrawn; at most 64 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
}

impl Claims {
    /// What a token says of `sub`, who has this role with `iss`, until `exp` (unix seconds).
    pub fn new(iss: impl Into<String>, sub: impl Into<String>, role: Role, exp: u64) -> Claims {
        let (iss, aud, sub) = (iss.into(), AUDIENCE.to_owned(), sub.into());
        Claims { iss, aud, sub, role, exp, nbf: None, jti: None }
    }
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
    /// The token's own id, if it has one: whether it was withdrawn is for whoever knows what was.
    pub token_id: Option<Box<str>>,
}

/// Whose key a token claims to be signed with, before anything is verified.
#[derive(Debug)]
pub struct Unverified<'a> {
    parts: jws::Unverified<'a>,
    algorithm: Algorithm,
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
/// [`Reason::TokenMalformed`] unless it is a compact JWS with an `alg` of [`Algorithm::ALL`], a `kid` and all claims.
pub fn read(token: &str) -> Result<Unverified<'_>, Reason> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Reason::TokenMalformed);
    }
    let parts = jws::cut(token).map_err(|_| Reason::TokenMalformed)?;
    let algorithm = Algorithm::named(&parts.header.alg).ok_or(Reason::TokenMalformed)?;
    if parts.header.typ != TYP || parts.header.kid.is_empty() {
        return Err(Reason::TokenMalformed);
    }
    let claims: Claims = jws::read(parts.payload).map_err(|_| Reason::TokenMalformed)?;
    if claims.jti.as_ref().is_some_and(|id| id.is_empty() || id.len() > TOKEN_ID_BYTES_MAX) {
        return Err(Reason::TokenMalformed);
    }
    Ok(Unverified { parts, algorithm, claims })
}

impl Unverified<'_> {
    /// The `kid`.
    pub fn kid(&self) -> &str {
        &self.parts.header.kid
    }

    /// What it says, whether or not that is so.
    pub fn claims(&self) -> &Claims {
        &self.claims
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

    /// Checks algorithm, signature, audience, time and role against the issuer's key.
    ///
    /// # Errors
    /// The reason for which it is refused; the signature is looked at first.
    pub fn verify(self, key: &PublicKey, now_ms: u64) -> Result<Caller, Reason> {
        let org = self.org()?;
        if self.algorithm != key.algorithm() {
            return Err(Reason::TokenWrongKey);
        }
        key.check(self.parts.signed, &self.parts.signature)?;
        if self.claims.aud != AUDIENCE {
            return Err(Reason::TokenWrongAudience);
        }
        let expires_ms = self.claims.exp.saturating_mul(1000);
        if now_ms >= expires_ms.saturating_add(TOKEN_LEEWAY_MS) {
            return Err(Reason::TokenExpired);
        }
        let begins_ms = self.claims.nbf.unwrap_or(0).saturating_mul(1000);
        if now_ms.saturating_add(TOKEN_LEEWAY_MS) < begins_ms {
            return Err(Reason::TokenTooEarly);
        }
        // Orgs speak for their buyers and merchants, the platform for its operators, nobody for the other.
        if (self.claims.role == Role::Operator) != org.is_none() {
            return Err(Reason::RoleNotAllowed);
        }
        let Claims { sub, role, jti, .. } = self.claims;
        let (subject, token_id) = (sub.into(), jti.map(Into::into));
        Ok(Caller { org, subject, role, expires_ms, token_id })
    }
}

/// The name that a public key has by itself: `k` and the first bytes of its SHA-256.
pub fn kid_of(public_key: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, public_key);
    format!("k{}", crate::id::hex(&hash.as_ref()[..KID_BYTES]))
}

/// Signs `claims` with the key called `kid`: EdDSA. [`KeyPair::sign`] does it with a key of any kind.
pub fn sign(key: &Ed25519KeyPair, kid: &str, claims: &Claims) -> String {
    let signed = key::to_sign(Algorithm::EdDsa, kid, claims);
    let signature = key.sign(signed.as_bytes());
    jws::seal(signed, signature.as_ref())
}

#[cfg(test)]
mod tests;
