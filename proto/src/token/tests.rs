//! Tokens as they arrive: good, altered, forged, and out of time.

use super::*;
use crate::jws::Header;
use ring::hmac;
use ring::signature::KeyPair as _;

/// Keys for tests only.
const RS256: &[u8] = include_bytes!("fixtures/rs256.p8");
const ES256: &[u8] = include_bytes!("fixtures/es256.p8");

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn public(seed: u8) -> PublicKey {
    PublicKey::new(Algorithm::EdDsa, key(seed).public_key().as_ref()).unwrap()
}

/// One key of each kind.
fn pairs() -> [KeyPair; 3] {
    let read = |der: &[u8]| KeyPair::from_pkcs8(der).unwrap();
    [KeyPair::Ed25519(key(1)), read(ES256), read(RS256)]
}

fn claims() -> Claims {
    Claims::new("orgs/acme", "ada", Role::Buyer, 2_000)
}

fn check(claims: &Claims, now_ms: u64, expected: Result<(), Reason>) {
    for pair in pairs() {
        let token = pair.sign("k1", claims).unwrap();
        let verified = read(&token).and_then(|token| token.verify(&pair.public().unwrap(), now_ms));
        assert_eq!(verified.map(|_| ()), expected, "{claims:?} at {now_ms}");
    }
}

#[test]
fn verdicts() {
    let with = |change: fn(&mut Claims)| {
        let mut claims = claims();
        change(&mut claims);
        claims
    };
    let leeway_s = TOKEN_LEEWAY_MS / 1_000;
    check(&claims(), 1_999_999, Ok(()));
    check(&claims(), 2_000_000 + TOKEN_LEEWAY_MS - 1, Ok(()));
    check(&claims(), 2_000_000 + TOKEN_LEEWAY_MS, Err(Reason::TokenExpired));
    check(&with(|c| c.exp = 0), TOKEN_LEEWAY_MS, Err(Reason::TokenExpired));
    let from_1000 = with(|c| c.nbf = Some(1_000));
    check(&from_1000, 1_000_000 - TOKEN_LEEWAY_MS, Ok(()));
    check(&from_1000, 1_000_000 - TOKEN_LEEWAY_MS - 1, Err(Reason::TokenTooEarly));
    check(&with(|c| c.nbf = Some(u64::MAX)), 0, Err(Reason::TokenTooEarly));
    assert!(leeway_s <= 2, "a token that is stolen must not live much longer than it says");
    check(&with(|c| c.aud = "other".into()), 0, Err(Reason::TokenWrongAudience));
    check(&with(|c| c.aud = String::new()), 0, Err(Reason::TokenWrongAudience));
    check(&with(|c| c.iss = "acme".into()), 0, Err(Reason::TokenMalformed));
    check(&with(|c| c.iss = "orgs/ACME".into()), 0, Err(Reason::TokenMalformed));
    check(&with(|c| c.iss = "orgs/acme/sales/x".into()), 0, Err(Reason::TokenMalformed));
    check(&with(|c| c.iss = PLATFORM.into()), 0, Err(Reason::RoleNotAllowed));
    check(&with(|c| c.role = Role::Operator), 0, Err(Reason::RoleNotAllowed));
    check(&with(|c| c.exp = u64::MAX), u64::MAX - 1, Ok(()));
    check(&with(|c| c.jti = Some("x".repeat(64))), 0, Ok(()));
    check(&with(|c| c.jti = Some("x".repeat(65))), 0, Err(Reason::TokenMalformed));
    check(&with(|c| c.jti = Some(String::new())), 0, Err(Reason::TokenMalformed));
}

#[test]
fn a_caller_is_who_the_token_says() {
    let claims = Claims { jti: Some("one".into()), ..claims() };
    for pair in pairs() {
        let token = pair.sign("k1", &claims).unwrap();
        let caller = read(&token).unwrap().verify(&pair.public().unwrap(), 0).unwrap();
        let (org, subject) = ("acme".parse().ok(), "ada".into());
        let token_id = Some("one".into());
        let expires_ms = 2_000_000;
        assert_eq!(caller, Caller { org, subject, role: Role::Buyer, expires_ms, token_id });
    }
}

#[test]
fn a_key_is_good_for_its_own_algorithm_only() {
    let pairs = pairs();
    for (signs, pair) in pairs.iter().enumerate() {
        for (reads, other) in pairs.iter().enumerate() {
            let token = pair.sign("k1", &claims()).unwrap();
            let verdict = read(&token).unwrap().verify(&other.public().unwrap(), 0);
            let expected = if signs == reads { Ok(()) } else { Err(Reason::TokenWrongKey) };
            assert_eq!(verdict.map(|_| ()), expected, "{signs} {reads}");
        }
    }
    // A signature that the key has made, in a token that names another algorithm.
    for other in [Algorithm::Es256, Algorithm::Rs256] {
        let signed = key::to_sign(other, "k1", &claims());
        let signature = key(1).sign(signed.as_bytes());
        let renamed = jws::seal(signed, signature.as_ref());
        let verdict = read(&renamed).unwrap().verify(&public(1), 0);
        assert_eq!(verdict, Err(Reason::TokenWrongKey), "{other:?}");
    }
    let verdict = read(&sign(&key(1), "k1", &claims())).unwrap().verify(&public(2), 0);
    assert_eq!(verdict, Err(Reason::TokenWrongKey));
}

fn forged(header: &str, mac: impl Fn(&[u8]) -> Vec<u8>) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), jws::write(&claims()));
    let mac = mac(signed.as_bytes());
    jws::seal(signed, &mac)
}

#[test]
fn what_is_no_signature_of_a_registered_kind_is_malformed() {
    for pair in pairs() {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, pair.public().unwrap().bytes());
        let token = forged(r#"{"alg":"HS256","typ":"JWT","kid":"k1"}"#, |text| {
            hmac::sign(&secret, text).as_ref().to_vec()
        });
        assert_eq!(read(&token).map(|_| ()), Err(Reason::TokenMalformed));
    }
    let headers = [
        r#"{"alg":"none","typ":"JWT","kid":"k1"}"#,
        r#"{"alg":"None","typ":"JWT","kid":"k1"}"#,
        r#"{"alg":"eddsa","typ":"JWT","kid":"k1"}"#,
        r#"{"alg":"ES384","typ":"JWT","kid":"k1"}"#,
        r#"{"alg":"PS256","typ":"JWT","kid":"k1"}"#,
        r#"{"alg":["EdDSA"],"typ":"JWT","kid":"k1"}"#,
        r#"{"alg":"EdDSA","typ":"ticket","kid":"k1"}"#,
        r#"{"alg":"EdDSA","typ":"JWT","kid":""}"#,
        r#"{"alg":"EdDSA","typ":"JWT"}"#,
        r#"{"alg":"EdDSA","alg":"none","typ":"JWT","kid":"k1"}"#,
        r#"{"alg":"EdDSA","typ":"JWT","kid":"k1","crit":["exp"]}"#,
        r#"["EdDSA","JWT","k1"]"#,
        "nonsense",
        "",
    ];
    for header in headers {
        for signature in [vec![], vec![0; 64]] {
            let token = forged(header, |_| signature.clone());
            assert_eq!(read(&token).map(|_| ()), Err(Reason::TokenMalformed), "{header}");
        }
    }
    for text in ["", ".", "..", "...", "a.b", "a.b.c.d", &"a".repeat(TOKEN_BYTES_MAX + 1)] {
        assert_eq!(read(text).map(|_| ()), Err(Reason::TokenMalformed), "{text}");
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    for pair in pairs() {
        let (token, public) = (pair.sign("k1", &claims()).unwrap(), pair.public().unwrap());
        assert!(read(&token).unwrap().verify(&public, 0).is_ok());
        for bit in 0..token.len() * 8 {
            let mut bytes = token.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // What is no text does not get as far as a token.
            let Ok(text) = String::from_utf8(bytes) else { continue };
            // The name of the key is compared by whoever looks for it.
            let verdict = read(&text).and_then(|token| match token.kid() {
                "k1" => token.verify(&public, 0),
                _ => Err(Reason::TokenWrongKey),
            });
            assert!(verdict.is_err(), "{:?}: bit {bit}", public.algorithm());
        }
    }
}

#[test]
fn keys_have_the_shape_of_their_algorithm() {
    let bad = |algorithm, bytes: &[u8]| PublicKey::new(algorithm, bytes).is_err();
    for algorithm in Algorithm::ALL {
        for bytes in [&[][..], &[4; 31], &[5; 65], &[4; 64], &[4; 33], &[0x30; 300]] {
            assert!(bad(algorithm, bytes), "{algorithm:?} {}", bytes.len());
        }
    }
    for pair in pairs() {
        let public = pair.public().unwrap();
        assert_eq!(PublicKey::new(public.algorithm(), public.bytes()), Ok(public.clone()));
        let message = crate::wire::fleet::PublicKey::named("k1", &public);
        assert_eq!((message.kid.as_str(), message.public_key()), ("k1", Ok(public)));
    }
    let none = crate::wire::cell::KeyRecord { kid: "k1".into(), key: None };
    assert!(none.public_key().is_err());
    assert!(KeyPair::from_pkcs8(b"nonsense").is_err());
}

#[test]
fn a_header_names_what_it_names() {
    let header: Header =
        serde_json::from_str(r#"{"alg":"a","typ":"t","kid":"k","x5t":"y"}"#).unwrap();
    assert_eq!(jws::write(&header), jws::write(&Header::new("a", "t", "k")));
}

/// What shops that sign tokens rely on. ES256 signs differently each time, so there a token is read.
#[test]
fn the_formats_are_frozen() {
    let [eddsa, es256, rs256] = pairs();
    assert_eq!(eddsa.sign("k1", &claims()).unwrap(), GOLDEN_EDDSA);
    assert_eq!(rs256.sign("k1", &claims()).unwrap(), GOLDEN_RS256);
    for (pair, golden) in [(eddsa, GOLDEN_EDDSA), (es256, GOLDEN_ES256), (rs256, GOLDEN_RS256)] {
        let caller = read(golden).unwrap().verify(&pair.public().unwrap(), 0).unwrap();
        assert_eq!((caller.org, &*caller.subject), ("acme".parse().ok(), "ada"));
    }
    let all = Claims { nbf: Some(1_000), jti: Some("t-1".into()), ..claims() };
    assert_eq!(
        serde_json::to_string(&all).unwrap(),
        r#"{"iss":"orgs/acme","aud":"floodgate","sub":"ada","role":"buyer","exp":2000,"nbf":1000,"jti":"t-1"}"#
    );
}

const GOLDEN_EDDSA: &str = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6ImsxIn0.eyJpc3MiOiJvcmdzL2FjbWUiLCJhdWQiOiJmbG9vZGdhdGUiLCJzdWIiOiJhZGEiLCJyb2xlIjoiYnV5ZXIiLCJleHAiOjIwMDB9.cPphvWfboU18ps69LjyFlLh5SrUi-hdZEPTX_o3RJrBRQQffF2ADBlIR5vUhLredVpaju0dD_8L0y2bcjlZKCA";
const GOLDEN_ES256: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImsxIn0.eyJpc3MiOiJvcmdzL2FjbWUiLCJhdWQiOiJmbG9vZGdhdGUiLCJzdWIiOiJhZGEiLCJyb2xlIjoiYnV5ZXIiLCJleHAiOjIwMDB9.zIft3RTjkmkR-1lt3_eCznzF7U4DioqM1PE5CoDwnlyt3wrudndji2enxwqIWa3VKvtGybgS8d_jlRVjY0_rog";
const GOLDEN_RS256: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImsxIn0.eyJpc3MiOiJvcmdzL2FjbWUiLCJhdWQiOiJmbG9vZGdhdGUiLCJzdWIiOiJhZGEiLCJyb2xlIjoiYnV5ZXIiLCJleHAiOjIwMDB9.x86dNdfQtlIMe_EpL1Uec_EBBwF2sbQ1Serzfcob2B8wGjDhC-L4bjhucQqJNiufv78GYbiZNxaf3ghSKT2s5TE8FUdaLkk-xynO9sid94hAouM1W_Phk1FfkclxkWr1Akga_wwC6MNJWJ-2ldm43VM8__afvYRrFR8tbvKU9O6nSo7i_P0XD_hpQM9iK6OlyriSPorTW7CffaGcWA85qVbzbVb-tMP98doI11hFkNicOl-mTOq3SurnyjI-1Frdp1oFiGAXlX1_4lP-RD8ijfOOnxE7SvXucR8An3bjcFrrHC5MF-0DVvuVaGFHdiwPGt3Y0-WPo5fgqPA-FGe0mg";
