//! Tickets as they arrive, and tickets that a live key has signed whatever they say.
//!
//! An input is a ticket, or `!` and the JSON of its claims, which is then signed.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proto::id::BuyerKey;
use proto::limits::TICKET_BYTES_MAX;
use proto::ticket::{self, Ticket, TicketKey};
use ring::hmac;
use serde_json::Value;

use crate::Seed;
use crate::bounded::within;

/// What checking a ticket may hold.
const HOLDS: (usize, usize) = (3, 1_024);
const SECRETS: [[u8; 32]; 2] = [[1; 32], [2; 32]];

static KEYS: LazyLock<[TicketKey; 2]> =
    LazyLock::new(|| [TicketKey::new("a", &SECRETS[0]), TicketKey::new("b", &SECRETS[1])]);
static GENUINE: LazyLock<Vec<String>> = LazyLock::new(|| {
    let rich = Ticket { index: u64::MAX, window: u32::MAX, weight: 9, ..plain() };
    [plain(), rich].iter().flat_map(|ticket| KEYS.each_ref().map(|key| key.sign(ticket))).collect()
});

fn plain() -> Ticket {
    Ticket {
        sale: "s0123456789abcdef".into(),
        bucket: 2,
        buyer: BuyerKey([9; 16]),
        window: 0,
        index: 41,
        weight: 1,
    }
}

/// No ticket is good that no live key has signed, and a good one means what it says.
///
/// # Panics
/// When a promise is broken.
pub fn ticket(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.strip_prefix('!') {
        Some(claims) => made(claims),
        None => {
            let signed = GENUINE.iter().any(|one| one == text);
            assert_eq!(verified(text).is_some(), signed, "{text:?}");
        }
    }
}

fn made(claims: &str) {
    let (header, _) = GENUINE[0].split_once('.').unwrap();
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &SECRETS[0]);
    let mac = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    let Some(ticket) = verified(&format!("{signed}.{mac}")) else { return };
    let said: Value = serde_json::from_str(claims).unwrap();
    assert_eq!(
        (said["sale"].as_str(), said["bkt"].as_u64()),
        (Some(&*ticket.sale), Some(ticket.bucket.into()))
    );
    let buyer = said["sub"].as_str().and_then(|buyer| buyer.parse().ok());
    assert_eq!((buyer, said["idx"].as_u64()), (Some(ticket.buyer), Some(ticket.index)));
    let numbers = (said["win"].as_u64(), said["wgt"].as_u64());
    assert_eq!(numbers, (Some(ticket.window.into()), Some(ticket.weight.into())));
}

fn verified(text: &str) -> Option<Ticket> {
    let useful = text.len().min(TICKET_BYTES_MAX);
    let ticket = within(useful, HOLDS, || ticket::verify(&KEYS[..], text)).ok()?;
    assert!(text.len() <= TICKET_BYTES_MAX);
    for part in text.split('.') {
        assert_eq!(URL_SAFE_NO_PAD.encode(URL_SAFE_NO_PAD.decode(part).unwrap()), part);
    }
    // Signed anew it is as long at most, and the same.
    let again = KEYS[1].sign(&ticket);
    assert!(again.len() <= text.len(), "{text:?} is shorter than {again:?}");
    assert_eq!(ticket::verify(&KEYS[1..], &again).as_ref(), Ok(&ticket));
    assert!(ticket::verify(&KEYS[..1], &again).is_err(), "by a key that is not live");
    Some(ticket)
}

/// Tickets, and what is nearly one.
pub fn seeds() -> Vec<Seed> {
    let genuine = |at: usize| GENUINE[at].clone().into_bytes();
    let spoilt = |how: fn(&mut String)| {
        let mut text = GENUINE[0].clone();
        how(&mut text);
        text.into_bytes()
    };
    let payload = GENUINE[0].split('.').nth(1).unwrap();
    let good = String::from_utf8(URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    let with = |from: &str, to: &str| format!("!{}", good.replace(from, to)).into_bytes();
    vec![
        ("one key", genuine(0)),
        ("the other", genuine(1)),
        ("the largest", genuine(3)),
        ("nothing", Vec::new()),
        ("nonsense", b"a.b.c".to_vec()),
        ("longer than any", vec![b't'; TICKET_BYTES_MAX + 1]),
        ("padded", spoilt(|text| text.push('='))),
        ("another last bit", spoilt(|text| text.replace_range(text.len() - 1.., "1"))),
        ("half a signature", spoilt(|text| text.truncate(text.len() - 22))),
        ("a longer signature", spoilt(|text| text.push_str("AAAA"))),
        ("a part more", spoilt(|text| text.insert(text.find('.').unwrap(), '.'))),
        ("signed", with("", "")),
        ("a list of claims", b"![\"s01\",2,\"09090909090909090909090909090909\",0,41,1]".to_vec()),
        ("escaped", with("s01", r"\u0073\u0030\u0031")),
        ("twice the index", with("{", r#"{"idx":0,"#)),
        ("a negative index", with(":41", ":-41")),
        ("an index too large", with(":41", ":18446744073709551616")),
        ("no buyer", with("0909", "09")),
        ("a buyer in capitals", with("0909", "AF")),
    ]
}
