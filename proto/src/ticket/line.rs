//! Line tickets: a place in the line before a bucket's line, given by an overflow cell while that line takes nobody.
//!
//! One lets its buyer join once the window has reached its number, and does nothing else: it is no ticket, and no gate
//! admits it. It says by itself who stands where, so a line outlives whoever keeps it.

use super::{TicketKey, payload};
use crate::fault::Reason;
use crate::id::BuyerKey;
use crate::jws;
use serde::{Deserialize, Serialize};

pub(super) const TYP: &str = "line";

/// What a line ticket says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineTicket {
    /// The sale's id.
    pub sale: Box<str>,
    /// The bucket whose line it stands before.
    pub bucket: u32,
    /// The buyer's pseudonym in this sale.
    pub buyer: BuyerKey,
    /// Its number there: who came earlier has a lower one.
    pub number: u64,
    /// Unix seconds from which on it is void.
    pub expire_s: u64,
}

#[derive(Serialize, Deserialize)]
struct Claims<'a> {
    sale: &'a str,
    bkt: u32,
    sub: &'a str,
    num: u64,
    exp: u64,
}

impl TicketKey {
    /// Signs a line ticket.
    pub fn sign_line(&self, ticket: &LineTicket) -> String {
        let buyer = ticket.buyer.to_string();
        let claims = Claims {
            sale: &ticket.sale,
            bkt: ticket.bucket,
            sub: &buyer,
            num: ticket.number,
            exp: ticket.expire_s,
        };
        self.seal(&self.line_header, &claims)
    }
}

/// Checks a compact line ticket against the live keys of its overflow cell; its time is the caller's matter.
///
/// # Errors
/// [`Reason::TicketInvalid`] when no live key made it or when it is no line ticket.
pub fn verify_line(keys: &[TicketKey], text: &str) -> Result<LineTicket, Reason> {
    verified(keys, text).ok_or(Reason::TicketInvalid)
}

fn verified(keys: &[TicketKey], text: &str) -> Option<LineTicket> {
    let json = payload(keys, |key| &key.line_header, text)?;
    let claims: Claims<'_> = jws::object(&json).ok()?;
    Some(LineTicket {
        sale: claims.sale.into(),
        bucket: claims.bkt,
        buyer: claims.sub.parse().ok()?,
        number: claims.num,
        expire_s: claims.exp,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Ticket, verify};
    use super::*;

    fn ticket() -> LineTicket {
        LineTicket {
            sale: "s0123456789abcdef".into(),
            bucket: 2,
            buyer: BuyerKey([9; 16]),
            number: 41,
            expire_s: 1_800_000_000,
        }
    }

    #[test]
    fn a_line_ticket_survives_and_every_flipped_bit_is_noticed() {
        let keys = [TicketKey::new("a", &[1; 32]), TicketKey::new("b", &[2; 32])];
        let good = keys[1].sign_line(&ticket());
        assert_eq!(verify_line(&keys, &good), Ok(ticket()));
        assert_eq!(verify_line(&keys[..1], &good), Err(Reason::TicketInvalid));
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(text) = String::from_utf8(bytes) else { continue };
            assert_eq!(verify_line(&keys, &text), Err(Reason::TicketInvalid), "bit {bit}");
        }
    }

    #[test]
    fn inv_7_neither_kind_of_ticket_is_taken_for_the_other() {
        let keys = [TicketKey::new("a", &[1; 32])];
        assert_eq!(verify(&keys, &keys[0].sign_line(&ticket())), Err(Reason::TicketInvalid));
        let LineTicket { sale, bucket, buyer, .. } = ticket();
        let place = Ticket { sale, bucket, buyer, window: 0, index: 41, weight: 1 };
        assert_eq!(verify_line(&keys, &keys[0].sign(&place)), Err(Reason::TicketInvalid));
    }

    #[test]
    fn the_format_is_frozen() {
        assert_eq!(
            TicketKey::new("a", &[1; 32]).sign_line(&ticket()),
            "eyJhbGciOiJIUzI1NiIsInR5cCI6ImxpbmUiLCJraWQiOiJhIn0.eyJzYWxlIjoiczAxMjM0NTY3ODlhYmNkZWYiLCJia3QiOjIsInN1YiI6IjA5MDkwOTA5MDkwOTA5MDkwOTA5MDkwOTA5MDkwOTA5IiwibnVtIjo0MSwiZXhwIjoxODAwMDAwMDAwfQ.4_Qs4AduAyZSmtFaFZ_bc0QakjJEyuGmEcM54IKTLSk"
        );
    }
}
