//! A sale of two units in two cells, one of whose clocks steps: when it may be said that it is sold out.

use prost::Message;
use proto::wire::events::ledger_entry::Kind;
use proto::wire::events::{LedgerBatch, LedgerEntry};

use super::*;
use crate::id::RequestId;
use crate::judge::case::Case;
use crate::judge::{Agreed, Bucket, Evidence, LedgerRow};
use crate::told::{OrderTold, TicketTold, Told};

const SECOND_US: u64 = 1_000_000;
const HOUR_US: i64 = 3_600_000_000;

/// Buyer `n` holds unit `n` in second 10 n + 1, asks to pay in second 10 n + 2 and has paid in second 10 n + 3; each
/// is told a tenth of a second later.
fn told(buyer: u32) -> Vec<Told> {
    let at = |tenths: u64| (u64::from(buyer) * 100 + tenths) * SECOND_US / 10;
    let order =
        |state| OrderTold { order: order(buyer), state, units: vec![buyer], amount_minor: 5 };
    let ticket = TicketTold { bucket: buyer, rank: 0, pseudonym: key(buyer), admitted: true };
    let reserve = Ask::Reserve { request: RequestId([0; 16]), quantity: 1 };
    let said = [
        (8, Said::Ticket(ticket)),
        (9, Said::Asked(reserve)),
        (11, Said::Order(order(OrderState::Held))),
        (20, Said::Asked(Ask::Checkout { order: self::order(buyer) })),
        (31, Said::Order(order(OrderState::Paid))),
    ];
    said.map(|(tenths, said)| Told {
        at_us: at(tenths),
        sale: 0,
        buyer: Some(buyer),
        call: 0,
        said,
    })
    .into()
}

fn order(buyer: u32) -> OrderId {
    OrderId([buyer.to_le_bytes()[0] + 1; 16])
}

fn key(buyer: u32) -> BuyerKey {
    BuyerKey([buyer.to_le_bytes()[0] + 1; 16])
}

/// The bucket of buyer `n`, by a clock that is wrong by so much when the unit is held, and when it is paid for.
fn bucket(buyer: u32, [hold_us, pay_us]: [i64; 2]) -> Bucket {
    let entry = |kind: Kind, units: &[u32]| LedgerEntry {
        kind: kind.into(),
        order: order(buyer).0.to_vec(),
        buyer: key(buyer).0.to_vec(),
        units: units.to_vec(),
        attempt: 1,
        ..LedgerEntry::default()
    };
    let row = |tenths: i64, wrong_us, entry: LedgerEntry| LedgerRow {
        seq: 0,
        epoch: 1,
        at_us: (i64::from(buyer) * 100 + tenths) * 100_000 + wrong_us,
        entries: LedgerBatch { entries: vec![entry] }.encode_to_vec(),
        root: vec![],
        hash: vec![],
    };
    // Granted long before both.
    let granted = LedgerRow { at_us: 0, ..row(0, 0, entry(Kind::Granted, &[buyer, buyer])) };
    let rows = vec![
        granted,
        row(10, hold_us, entry(Kind::Held, &[buyer])),
        row(21, pay_us, entry(Kind::Paying, &[])),
        row(30, pay_us, entry(Kind::Paid, &[])),
    ];
    Bucket { cell: format!("cell-{buyer}"), number: buyer, rows, ..Bucket::default() }
}

/// Whether "sold out", told at so many tenths of a second, was too early.
fn too_early(buckets: [[i64; 2]; 2], tenths: u64) -> bool {
    let refused = Said::Refused { reason: "SOLD_OUT".into() };
    let at_us = tenths * SECOND_US / 10;
    let last = Told { at_us, sale: 0, buyer: Some(9), call: 0, said: refused };
    let evidence = Evidence {
        sales: vec![Agreed {
            org: String::new(),
            sale: String::new(),
            flash: true,
            stock: 2,
            surrendered: 0,
            cap: 1,
            price_minor: 5,
            admission_rate: 1,
        }],
        told: [told(0), told(1), vec![last]].concat(),
        buckets: vec![bucket(0, buckets[0]), bucket(1, buckets[1])],
        ..Evidence::default()
    };
    let mut findings = Findings::default();
    Case::open(&evidence).sales.iter().for_each(|sale| check(sale, &mut findings));
    !findings.0.is_empty()
}

#[test]
fn clocks_that_agree_say_it_to_the_instant() {
    let right = [[0; 2]; 2];
    for (tenths, early) in [(35, true), (129, true), (130, false), (900, false)] {
        assert_eq!(too_early(right, tenths), early, "{tenths}");
    }
}

#[test]
fn of_a_clock_that_steps_counts_when_the_buyer_asked_to_pay() {
    // At the end of the sale or before; forward or back; only while it was held.
    let wrong = [
        [[0; 2], [0, HOUR_US]],
        [[0; 2], [0, -HOUR_US]],
        [[HOUR_US, 0], [0; 2]],
        [[-HOUR_US; 2], [-HOUR_US; 2]],
        [[HOUR_US; 2], [HOUR_US; 2]],
    ];
    for buckets in wrong {
        // Nobody had asked to pay for the second unit yet.
        assert!(too_early(buckets, 35), "{buckets:?}");
        assert!(too_early(buckets, 119), "{buckets:?}");
        assert!(!too_early(buckets, 130), "{buckets:?}");
    }
    // The other cell's clock is as exact as ever.
    assert!(too_early([[HOUR_US; 2], [0; 2]], 129));
}
