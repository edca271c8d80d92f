//! Damages of what moves: units between buckets, to and from the merchant, and money that goes back (INV-2, INV-3, INV-5).

use super::{Damage, Row, row};
use crate::finished::{Finished, MOVED, moved};
use proto::wire::events::LedgerEntry;
use proto::wire::events::ledger_entry::Kind;

/// The order of the second bucket that was refunded.
fn refunded(sale: &Finished) -> LedgerEntry {
    sale.buckets[1].orders[0].entry(Kind::Refunded)
}

pub const TABLE: &[Row] = &[
    row(
        "a unit that was copied to another bucket",
        Damage::Sql(
            1,
            "insert into share (org, sale, first_unit, units, bucket) select org, sale, 39, 1, 1 from bucket;
             update bucket set granted = granted + 1",
        ),
        &["INV-2", "INV-3"],
        [0, 0, 0, 0],
    ),
    row(
        "a unit that was given up and never accepted",
        Damage::Sql(
            0,
            "delete from ledger where seq = (select max(seq) from ledger);
             delete from share where first_unit = 39;
             update bucket set seq = seq - 1, granted = granted - 1,
                 head = (select hash from ledger order by seq desc limit 1)",
        ),
        &["INV-3"],
        [0, 1, 0, 0],
    ),
    row(
        "a unit that was accepted twice",
        Damage::Entry(0, |_| moved(Kind::Accepted, MOVED, Some(1), 39)),
        &["INV-2", "INV-3"],
        [0, 0, 0, 0],
    ),
    row(
        "a unit that was given up twice",
        Damage::Entry(1, |_| moved(Kind::GivenUp, MOVED, Some(0), 39)),
        &["INV-2"],
        [0, 0, 0, 0],
    ),
    row(
        "a unit that was accepted and that nobody gave up",
        Damage::Entry(0, |_| moved(Kind::Accepted, [9; 16], Some(1), 36)),
        &["INV-2", "INV-3"],
        [0, 0, 0, 0],
    ),
    row(
        "a unit that was accepted instead of the one given up",
        Damage::Entry(0, |_| moved(Kind::Accepted, [2; 16], Some(1), 36)),
        &["INV-2", "INV-3"],
        [0, 0, 0, 0],
    ),
    row(
        "a unit that was given up while an order has it",
        Damage::Entry(0, |_| moved(Kind::GivenUp, [9; 16], Some(1), 0)),
        &["INV-2"],
        [0, 0, 0, 0],
    ),
    row(
        "a unit that the merchant added and nobody has",
        Damage::Agreed(|agreed| agreed.stock += 1),
        &["INV-2", "INV-3"],
        [0, 1, 0, 0],
    ),
    row(
        "a unit that came back and that the merchant was not told of",
        Damage::Agreed(|agreed| agreed.surrendered = 0),
        &["INV-2"],
        [0, 0, 0, 0],
    ),
    row(
        "a moved unit that Redis does not know",
        Damage::Redis(0, &[&["HSET", "fg:{acme:s0000000000000001:0}:rec", "granted", "20"]]),
        &["INV-3"],
        [0, 1, 0, 0],
    ),
    row(
        "a unit that left and that Redis would still sell",
        Damage::Redis(
            1,
            &[
                &["SETRANGE", "fg:{acme:s0000000000000001:1}:e1:u", "304", ZEROS],
                &["RPUSH", "fg:{acme:s0000000000000001:1}:e1:f", "19"],
            ],
        ),
        &["INV-3"],
        [0, 0, 0, 0],
    ),
    // Money that goes back.
    row(
        "a refund that was written down twice",
        Damage::Entry(1, refunded),
        &["INV-5"],
        [0, 0, 0, 0],
    ),
    row(
        "a refund that was made twice",
        Damage::File(|text| {
            let line = text.lines().rfind(|line| line.contains("refunded")).unwrap();
            format!("{text}{line}\n")
        }),
        &["INV-5"],
        [0, 0, 0, 0],
    ),
    row(
        "a refunded order whose money never went back",
        Damage::File(|text| {
            let line = text.lines().rfind(|line| line.contains("refunded")).unwrap();
            text.replacen(&format!("{line}\n"), "", 1)
        }),
        &["INV-5"],
        [0, 0, 1, 0],
    ),
    row(
        "a refund that nobody asked for",
        Damage::Entry(1, |sale| sale.buckets[1].orders[1].entry(Kind::Refunded)),
        &["INV-6"],
        [0, 0, 0, 0],
    ),
    row(
        "a refunded order that is paid again by its row",
        Damage::Sql(1, "update \"order\" set state = 3 where ticket = 0"),
        &["INV-1", "INV-2", "INV-5", "INV-6"],
        [2, 0, 0, 1],
    ),
];

const ZEROS: &str = "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
