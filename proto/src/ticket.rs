//! Tickets: a place in a sale's line. A compact JWS with HS256 under a key that routers and the bucket's cell share.
//!
//! The line lives in the tickets, so it survives whatever forgets it; checking one costs a MAC. A ticket says where it
//! stands, for whom and in which sale; whether it is its turn is the gate's matter, whether it was spent the ledger's.

mod line;

pub use line::{LineTicket, verify_line};

use crate::fault::Reason;
use crate::id::BuyerKey;
use crate::jws::{self, Header};
use crate::limits::TICKET_BYTES_MAX;
use crate::rank::{Rule, rank};
use ring::hmac;
use serde::{Deserialize, Serialize};
use std::fmt;

const ALG: &str = "HS256";
const TYP: &str = "ticket";

/// What a ticket says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The sale's id.
    pub sale: Box<str>,
    /// The bucket's number.
    pub bucket: u32,
    /// The buyer's pseudonym in this sale.
    pub buyer: BuyerKey,
    /// The window in which the buyer joined.
    pub window: u32,
    /// The first index within it.
    pub index: u64,
    /// How many indices it has.
    pub weight: u32,
}

impl Ticket {
    /// Its rank, for a window that begins at rank `base`.
    pub fn rank(&self, rule: Rule, base: u64) -> u64 {
        rank(rule, base, self.index)
    }
}

#[derive(Serialize, Deserialize)]
struct Claims<'a> {
    sale: &'a str,
    bkt: u32,
    sub: &'a str,
    win: u32,
    idx: u64,
    wgt: u32,
}

/// A key of tickets, with its name.
#[derive(Clone)]
pub struct TicketKey {
    kid: Box<str>,
    header: Box<str>,
    /// That of line tickets: the MAC covers it, so neither can be taken for the other.
    line_header: Box<str>,
    key: hmac::Key,
}

impl TicketKey {
    /// The key called `kid` with this secret.
    pub fn new(kid: &str, secret: &[u8]) -> TicketKey {
        TicketKey {
            kid: kid.into(),
            header: jws::write(&Header::new(ALG, TYP, kid)).into(),
            line_header: jws::write(&Header::new(ALG, line::TYP, kid)).into(),
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }

    /// Signs a ticket.
    pub fn sign(&self, ticket: &Ticket) -> String {
        let buyer = ticket.buyer.to_string();
        let claims = Claims {
            sale: &ticket.sale,
            bkt: ticket.bucket,
            sub: &buyer,
            win: ticket.window,
            idx: ticket.index,
            wgt: ticket.weight,
        };
        self.seal(&self.header, &claims)
    }

    fn seal(&self, header: &str, claims: &impl Serialize) -> String {
        let signed = format!("{header}.{}", jws::write(claims));
        let mac = hmac::sign(&self.key, signed.as_bytes());
        jws::seal(signed, mac.as_ref())
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Checks a compact ticket against the live keys of its cell.
///
/// # Errors
/// [`Reason::TicketInvalid`] when no live key made it or when it is no ticket.
pub fn verify(keys: &[TicketKey], text: &str) -> Result<Ticket, Reason> {
    verified(keys, text).ok_or(Reason::TicketInvalid)
}

fn verified(keys: &[TicketKey], text: &str) -> Option<Ticket> {
    let json = payload(keys, |key| &key.header, text)?;
    let claims: Claims<'_> = jws::object(&json).ok()?;
    Some(Ticket {
        sale: claims.sale.into(),
        bucket: claims.bkt,
        buyer: claims.sub.parse().ok()?,
        window: claims.win,
        index: claims.idx,
        weight: claims.wgt,
    })
}

/// What a compact text says that one of the keys has signed under its header of one kind.
fn payload(
    keys: &[TicketKey],
    header_of: impl Fn(&TicketKey) -> &str,
    text: &str,
) -> Option<Vec<u8>> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    if text.len() > TICKET_BYTES_MAX {
        return None;
    }
    let (signed, mac) = text.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    // A key's header is always the same text, so comparing it picks the key and checks the algorithm at once.
    let key = keys.iter().find(|key| *header_of(key) == *header)?;
    let mut bytes = [0; 48];
    let length = URL_SAFE_NO_PAD.decode_slice(mac, &mut bytes).ok()?;
    hmac::verify(&key.key, signed.as_bytes(), &bytes[..length]).ok()?;
    URL_SAFE_NO_PAD.decode(payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            sale: "s0123456789abcdef".into(),
            bucket: 2,
            buyer: BuyerKey([9; 16]),
            window: 0,
            index: 41,
            weight: 1,
        }
    }

    #[test]
    fn a_ticket_survives_and_either_live_key_reads_it() {
        let keys = [TicketKey::new("a", &[1; 32]), TicketKey::new("b", &[2; 32])];
        for key in &keys {
            assert_eq!(verify(&keys, &key.sign(&ticket())), Ok(ticket()));
        }
        let revoked = TicketKey::new("c", &[3; 32]);
        assert_eq!(verify(&keys, &revoked.sign(&ticket())), Err(Reason::TicketInvalid));
    }

    #[test]
    fn a_list_of_what_a_ticket_says_is_none() {
        let key = TicketKey::new("a", &[1; 32]);
        let list = ("s01", 2, BuyerKey([9; 16]).to_string(), 0, 41, 1);
        let signed = format!("{}.{}", key.header, jws::write(&list));
        let mac = hmac::sign(&key.key, signed.as_bytes());
        let text = jws::seal(signed, mac.as_ref());
        assert_eq!(verify(&[key], &text), Err(Reason::TicketInvalid));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let keys = [TicketKey::new("a", &[1; 32])];
        let good = keys[0].sign(&ticket());
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(text) = String::from_utf8(bytes) else { continue };
            assert_eq!(verify(&keys, &text), Err(Reason::TicketInvalid), "bit {bit}");
        }
    }

    #[test]
    fn the_format_is_frozen() {
        assert_eq!(
            TicketKey::new("a", &[1; 32]).sign(&ticket()),
            "eyJhbGciOiJIUzI1NiIsInR5cCI6InRpY2tldCIsImtpZCI6ImEifQ.eyJzYWxlIjoiczAxMjM0NTY3ODlhYmNkZWYiLCJia3QiOjIsInN1YiI6IjA5MDkwOTA5MDkwOTA5MDkwOTA5MDkwOTA5MDkwOTA5Iiwid2luIjowLCJpZHgiOjQxLCJ3Z3QiOjF9.N2ThpgNICb-uv__NecQ1X-Ns2R6yexdKYGcmhAF_EW0"
        );
    }
}
