//! Public keys as people have them: `KID=PUBLIC`, as `floodgate keys generate` writes it, or a file as other tools do.
//!
//! Other tools write the `SubjectPublicKeyInfo` of RFC 5280 as PEM. For each of our algorithms all but the key itself is
//! always the same bytes, so those are compared and cut off.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proto::token::{self, Algorithm};
use proto::wire::fleet::PublicKey;
use proto::wire::fleet::public_key::Key;

/// What precedes an Ed25519 key (RFC 8410).
const ED25519: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What precedes an uncompressed point of P-256 (RFC 5480).
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// What names RSA (RFC 3279), between two lengths.
const RSA: &[u8] = &[
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00, 0x03,
    0x82,
];

/// What a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AlgorithmArg {
    /// EdDSA with Ed25519.
    Ed25519,
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
}

impl From<AlgorithmArg> for Algorithm {
    fn from(algorithm: AlgorithmArg) -> Algorithm {
        match algorithm {
            AlgorithmArg::Ed25519 => Algorithm::EdDsa,
            AlgorithmArg::Es256 => Algorithm::Es256,
            AlgorithmArg::Rs256 => Algorithm::Rs256,
        }
    }
}

/// A key like `k1=BASE64URL`, of Ed25519, or `k1=es256:BASE64URL`, `k1=rs256:BASE64URL`.
pub(crate) fn public_key(text: &str) -> Result<PublicKey, String> {
    let wrong = || format!("{text:?} is no key; write it as `floodgate keys generate` does");
    let (kid, key) = text.split_once('=').ok_or_else(wrong)?;
    let (algorithm, key) = match key.split_once(':').unwrap_or(("ed25519", key)) {
        ("ed25519", key) => (Algorithm::EdDsa, key),
        ("es256", key) => (Algorithm::Es256, key),
        ("rs256", key) => (Algorithm::Rs256, key),
        _ => return Err(wrong()),
    };
    let bytes = URL_SAFE_NO_PAD.decode(key.trim_end_matches('=')).map_err(|_| wrong())?;
    let key = token::PublicKey::new(algorithm, &bytes).map_err(|_| wrong())?;
    Ok(PublicKey::named(kid, &key))
}

/// The same key as text.
pub(crate) fn written(key: &PublicKey) -> String {
    let (mark, bytes) = match &key.key {
        Some(Key::Ed25519(raw)) => ("", raw.as_slice()),
        Some(Key::Es256(point)) => ("es256:", point.as_slice()),
        Some(Key::Rs256(der)) => ("rs256:", der.as_slice()),
        None => ("unknown:", &[][..]),
    };
    format!("{}={mark}{}", key.kid, URL_SAFE_NO_PAD.encode(bytes))
}

/// The key in a file: a PEM of `PUBLIC KEY`, as `openssl pkey -pubout` writes it. Under its own name when it is given none.
pub(crate) fn public_key_file(
    algorithm: Algorithm,
    text: &str,
    kid: Option<String>,
) -> Result<PublicKey, String> {
    let key = pem(text).and_then(|info| {
        let bytes = match algorithm {
            Algorithm::EdDsa => info.strip_prefix(ED25519)?,
            Algorithm::Es256 => info.strip_prefix(P256)?,
            Algorithm::Rs256 => rsa(&info)?,
        };
        Some(token::PublicKey::new(algorithm, bytes))
    });
    let name = algorithm.name();
    let key = key.ok_or_else(|| format!("it holds no public key for {name} as PEM"))?;
    let key = key.map_err(|bad| format!("keys for {name} {bad}"))?;
    Ok(PublicKey::named(kid.unwrap_or_else(|| key.kid()), &key))
}

/// What a PEM of `PUBLIC KEY` holds.
fn pem(text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once("-----BEGIN PUBLIC KEY-----")?;
    let (body, _) = rest.split_once("-----END PUBLIC KEY-----")?;
    let body: String = body.split_whitespace().collect();
    STANDARD.decode(body).ok()
}

/// The `RSAPublicKey` in a `SubjectPublicKeyInfo`.
fn rsa(info: &[u8]) -> Option<&[u8]> {
    // Its tag and two bytes of length before, two bytes of length and the number of unused bits behind.
    let rest = info.strip_prefix(&[0x30, 0x82])?.get(2..)?.strip_prefix(RSA)?;
    rest.get(2..)?.strip_prefix(&[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let key = public_key(&format!("k1={}", URL_SAFE_NO_PAD.encode([7; 32]))).unwrap();
        assert_eq!(key, PublicKey::ed25519("k1", [7; 32]));
        let point = [&[4][..], &[9; 64]].concat();
        let point = public_key(&format!("k2=es256:{}", URL_SAFE_NO_PAD.encode(point))).unwrap();
        for key in [key, point] {
            assert_eq!(public_key(&written(&key)), Ok(key));
        }
        for bad in ["k1", "k1=#", "k1=AAAA", "k1=es256:AAAA", "k1=hs256:AAAA", "k1=rs256:AAAA"] {
            assert!(public_key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn files_of_other_tools_are_read_for_their_own_algorithm() {
        // Made by `openssl genpkey` and `openssl pkey -pubout`.
        let files = [
            (Algorithm::EdDsa, include_str!("fixtures/ed25519.pem")),
            (Algorithm::Es256, include_str!("fixtures/es256.pem")),
            (Algorithm::Rs256, include_str!("fixtures/rs256.pem")),
        ];
        for (own, file) in files {
            for asked in Algorithm::ALL {
                let read = public_key_file(asked, file, None);
                assert_eq!(read.is_ok(), asked == own, "{own:?} as {asked:?}: {read:?}");
            }
            let read = public_key_file(own, file, Some("k9".to_owned())).unwrap();
            assert_eq!((read.kid.as_str(), read.public_key().unwrap().algorithm()), ("k9", own));
            assert!(public_key_file(own, &file[..file.len() / 2], None).is_err());
        }
        assert!(public_key_file(Algorithm::EdDsa, "nonsense", None).is_err());
    }
}
