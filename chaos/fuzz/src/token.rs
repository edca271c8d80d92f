//! Tokens as they arrive, and tokens that the right key has signed whatever they say.
//!
//! An input is a token, or `!`, a letter for the algorithm (`E` EdDSA, `S` ES256), and a line each for the JSON of header
//! and claims, which are then signed: so what lies behind the signature is reached as well.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proto::limits::{TOKEN_BYTES_MAX, TOKEN_ID_BYTES_MAX, TOKEN_LEEWAY_MS};
use proto::token::{self, AUDIENCE, Algorithm, Caller, Claims, KeyPair, PLATFORM, PublicKey, Role};
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use serde_json::Value;

use crate::Seed;
use crate::bounded::within;

/// Keys that nobody needs to keep.
const ES256: &[u8] = include_bytes!("../../../proto/src/token/fixtures/es256.p8");
const RS256: &[u8] = include_bytes!("../../../proto/src/token/fixtures/rs256.p8");
/// A token by the first of them, which signs differently each time.
const BY_ES256: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImsxIn0.eyJpc3MiOiJvcmdzL2FjbWUiLCJhdWQiOiJmbG9vZGdhdGUiLCJzdWIiOiJhZGEiLCJyb2xlIjoiYnV5ZXIiLCJleHAiOjIwMDB9.zIft3RTjkmkR-1lt3_eCznzF7U4DioqM1PE5CoDwnlyt3wrudndji2enxwqIWa3VKvtGybgS8d_jlRVjY0_rog";

const NOW_MS: u64 = 1_000_000;
const KID: &str = "k1";
/// What reading a token may hold: its parts decoded, and errors.
const HOLDS: (usize, usize) = (4, 2_048);

struct Keys {
    pairs: [KeyPair; 3],
    public: [PublicKey; 3],
    genuine: Vec<String>,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let ed25519 = KeyPair::Ed25519(Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap());
    let read = |der| KeyPair::from_pkcs8(der).unwrap();
    let pairs = [ed25519, read(ES256), read(RS256)];
    let public = [0, 1, 2].map(|at| pairs[at].public().unwrap());
    let rich = Claims { nbf: Some(1), jti: Some("t-1".into()), ..claims() };
    let operator = Claims::new(PLATFORM, "me", Role::Operator, 2_000);
    let mut genuine = vec![BY_ES256.to_owned()];
    for claims in [claims(), rich, operator] {
        genuine.extend([0, 2].map(|at| pairs[at].sign(KID, &claims).unwrap()));
    }
    Keys { pairs, public, genuine }
});

fn claims() -> Claims {
    Claims::new("orgs/acme", "ada", Role::Buyer, 2_000)
}

/// Nobody is believed whose token was not signed, and who is believed is who the token says.
///
/// # Panics
/// When a promise is broken.
pub fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.strip_prefix('!') {
        Some(parts) => drop(made(parts)),
        None => arrived(text),
    }
}

fn arrived(text: &str) {
    if let Some((_, caller)) = caller(text) {
        let signed = KEYS.genuine.iter().any(|one| one == text);
        assert!(signed, "nobody signed {text:?}, which is taken for {caller:?}");
    }
}

fn made(parts: &str) -> Option<()> {
    let (algorithm, parts) = parts.split_once('\n')?;
    let (header, claims) = parts.split_once('\n')?;
    let at = match algorithm {
        "E" => 0,
        "S" => 1,
        _ => return None,
    };
    let encoded = |part: &str| URL_SAFE_NO_PAD.encode(part);
    let signed = format!("{}.{}", encoded(header), encoded(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(&KEYS.pairs[at], signed.as_bytes()));
    let (read, caller) = caller(&format!("{signed}.{signature}"))?;
    // The same by a reader that knows nothing of tokens.
    let header: Value = serde_json::from_str(header).unwrap();
    let said: Value = serde_json::from_str(claims).unwrap();
    assert_eq!(header["alg"], KEYS.public[at].algorithm().name());
    assert_eq!((&header["typ"], &header["crit"]), (&"JWT".into(), &Value::Null));
    assert!(header["kid"].as_str().is_some_and(|kid| !kid.is_empty()), "{header}");
    assert_eq!((&said["iss"], &said["aud"]), (&read.iss.clone().into(), &AUDIENCE.into()));
    assert_eq!((&said["sub"], &said["exp"]), (&(*caller.subject).into(), &read.exp.into()));
    assert_eq!(said["jti"].as_str(), caller.token_id.as_deref());
    assert_eq!(serde_json::from_value::<Role>(said["role"].clone()).unwrap(), caller.role);
    assert_eq!(said["nbf"].as_u64(), read.nbf);
    Some(())
}

fn sign(pair: &KeyPair, text: &[u8]) -> Vec<u8> {
    match pair {
        KeyPair::Ed25519(pair) => pair.sign(text).as_ref().to_vec(),
        KeyPair::Es256(pair) => pair.sign(&SystemRandom::new(), text).unwrap().as_ref().to_vec(),
        KeyPair::Rs256(_) => Vec::new(),
    }
}

/// Reads a token, and believes it if one of the keys has signed it.
fn caller(text: &str) -> Option<(Claims, Caller)> {
    let useful = text.len().min(TOKEN_BYTES_MAX);
    let unverified = within(useful, HOLDS, || token::read(text)).ok()?;
    let (kid, claims) = (unverified.kid().to_owned(), unverified.claims().clone());
    assert!(text.len() <= TOKEN_BYTES_MAX && !kid.is_empty());
    let id = claims.jti.as_ref();
    assert!(id.is_none_or(|id| (1..=TOKEN_ID_BYTES_MAX).contains(&id.len())), "{id:?}");
    // There is one way to write a part.
    for part in text.split('.') {
        assert_eq!(URL_SAFE_NO_PAD.encode(URL_SAFE_NO_PAD.decode(part).unwrap()), part);
    }
    let again = KEYS.pairs[0].sign(&kid, &claims).unwrap();
    let again = token::read(&again).unwrap();
    assert_eq!((again.kid(), again.claims()), (&*kid, &claims));
    let believed = |key: &PublicKey| token::read(text).unwrap().verify(key, NOW_MS).ok();
    let mut callers = KEYS.public.iter().filter_map(believed);
    let caller = callers.next()?;
    assert_eq!(callers.next(), None, "one token by two keys");
    check(&claims, &caller);
    Some((claims, caller))
}

/// Whoever is believed is within the limits of what may be believed.
fn check(claims: &Claims, caller: &Caller) {
    assert_eq!((&*claims.sub, claims.role), (&*caller.subject, caller.role));
    assert_eq!(claims.jti.as_deref(), caller.token_id.as_deref());
    assert_eq!(claims.aud, AUDIENCE);
    let issuer = caller.org.as_ref().map_or(PLATFORM.to_owned(), |org| format!("orgs/{org}"));
    assert_eq!(claims.iss, issuer);
    assert_eq!(caller.org.is_none(), caller.role == Role::Operator);
    assert_eq!(caller.expires_ms, claims.exp.saturating_mul(1_000));
    assert!(NOW_MS < caller.expires_ms.saturating_add(TOKEN_LEEWAY_MS));
    let begins_ms = claims.nbf.unwrap_or(0).saturating_mul(1_000);
    assert!(begins_ms <= NOW_MS + TOKEN_LEEWAY_MS);
}

/// Tokens of every kind, and what is nearly one.
pub fn seeds() -> Vec<Seed> {
    let genuine = |at: usize| KEYS.genuine[at].clone().into_bytes();
    let spoilt = |how: fn(&mut String)| {
        let mut text = KEYS.genuine[1].clone();
        how(&mut text);
        text.into_bytes()
    };
    let header = |algorithm: Algorithm| {
        format!(r#"{{"alg":"{}","typ":"JWT","kid":"k1"}}"#, algorithm.name())
    };
    let good = serde_json::to_string(&claims()).unwrap();
    let by = |letter: &str, header: &str, claims: &str| {
        format!("!{letter}\n{header}\n{claims}").into_bytes()
    };
    let eddsa = header(Algorithm::EdDsa);
    let saying = |claims: &str| by("E", &eddsa, claims);
    let with = |from: &str, to: &str| saying(&good.replace(from, to));
    vec![
        ("EdDSA", genuine(1)),
        ("ES256", genuine(0)),
        ("RS256", genuine(2)),
        ("with everything", genuine(3)),
        ("an operator's", genuine(5)),
        ("nothing", Vec::new()),
        ("dots", b"..".to_vec()),
        ("four parts", b"e30.e30.e30.e30".to_vec()),
        ("longer than any", vec![b'a'; TOKEN_BYTES_MAX + 1]),
        ("padded", spoilt(|text| text.push('='))),
        ("another last bit", spoilt(|text| text.replace_range(text.len() - 1.., "h"))),
        ("without a signature", spoilt(|text| text.truncate(text.rfind('.').unwrap() + 1))),
        ("signed", saying(&good)),
        ("signed by ES256", by("S", &header(Algorithm::Es256), &good)),
        ("another algorithm's name", by("E", &header(Algorithm::Es256), &good)),
        ("alg none", by("E", &eddsa.replace("EdDSA", "none"), &good)),
        ("crit", by("E", r#"{"alg":"EdDSA","typ":"JWT","kid":"k1","crit":["exp"]}"#, &good)),
        ("lists for objects", by("E", r#"["EdDSA","JWT","k1"]"#, &good)),
        ("a list of claims", saying(r#"["orgs/acme","floodgate","ada","buyer",2000,null,null]"#)),
        ("twice the issuer", with("{", r#"{"iss":"orgs/other","#)),
        ("an unknown claim", with("{", r#"{"admin":true,"#)),
        ("escaped", with("ada", r"\u0061\ud83d\ude00\u0000")),
        ("the largest time", with("2000", "18446744073709551615")),
        ("a time with a fraction", with("2000", "2e3")),
        ("too late", with("2000", "900")),
        ("too early", with("{", r#"{"nbf":9000,"#)),
        ("an org's operator", with("buyer", "operator")),
        ("another audience", with("floodgate", "elsewhere")),
        ("no org", with("orgs/acme", "orgs/")),
        ("a sale for an org", with("orgs/acme", "orgs/acme/sales/s01")),
        ("an empty id", with("{", r#"{"jti":"","#)),
        ("nested", saying(&format!("{}{}", "[".repeat(400), "]".repeat(400)))),
    ]
}
