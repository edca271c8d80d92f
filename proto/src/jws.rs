//! Compact JWS (RFC 7515), as little of it as tokens and tickets need: three parts of unpadded base64url.
//!
//! The algorithm is fixed by the caller and only compared here, never chosen by what arrives.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

/// The header of everything that we sign.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) alg: String,
    pub(crate) typ: String,
    pub(crate) kid: String,
    /// Extensions that a reader must understand (RFC 7515, 4.1.11): we understand none.
    #[serde(default, skip_serializing)]
    crit: Option<IgnoredAny>,
}

impl Header {
    pub(crate) fn new(alg: &str, typ: &str, kid: &str) -> Header {
        Header { alg: alg.to_owned(), typ: typ.to_owned(), kid: kid.to_owned(), crit: None }
    }
}

/// A compact JWS cut into its parts, its signature not yet checked.
pub(crate) struct Unverified<'a> {
    pub(crate) header: Header,
    pub(crate) signed: &'a str,
    pub(crate) payload: &'a str,
    pub(crate) signature: Vec<u8>,
}

/// Why it is no compact JWS.
#[derive(Debug)]
pub(crate) struct Malformed;

/// Cuts `text` into its parts.
pub(crate) fn cut(text: &str) -> Result<Unverified<'_>, Malformed> {
    let (signed, signature) = text.rsplit_once('.').ok_or(Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(Malformed)?;
    if payload.contains('.') {
        return Err(Malformed);
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Malformed)?;
    let header: Header = read(header)?;
    if header.crit.is_some() {
        return Err(Malformed);
    }
    Ok(Unverified { header, signed, payload, signature })
}

/// Reads one part.
pub(crate) fn read<T: DeserializeOwned>(part: &str) -> Result<T, Malformed> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| Malformed)?;
    object(&json)
}

/// Reads a part's JSON, which must be an object: a list of the same values would do for the library.
pub(crate) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Malformed> {
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err(Malformed);
    }
    serde_json::from_slice(json).map_err(|_| Malformed)
}

/// Writes one part.
pub(crate) fn write<T: Serialize>(part: &T) -> String {
    // Headers and claims are structs of text and numbers: serializing them cannot fail.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(part).unwrap_or_default())
}

/// Puts the signature behind what was signed.
pub(crate) fn seal(mut signed: String, signature: &[u8]) -> String {
    signed.push('.');
    signed.push_str(&URL_SAFE_NO_PAD.encode(signature));
    signed
}
