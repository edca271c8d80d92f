//! Damages of stock: units in two hands, counts that do not add up, units that are stranded (INV-1 to INV-3).

use super::{Damage, Row, paid, row, say};
use floodgate_chaos::told::{PageTold, Said};

pub const TABLE: &[Row] = &[
    // INV-1, oversold.
    row(
        "two buyers were told that the same units are paid and theirs",
        Damage::Told(|told| {
            let first = paid(told, 0).units.clone();
            paid(told, 1).units = first;
        }),
        &["INV-1", "INV-6"],
        [2, 0, 0, 1],
    ),
    row(
        "more units are paid than there are",
        Damage::Sql(0, "update \"order\" set quantity = 9 where ticket = 0"),
        &["INV-1", "INV-2", "INV-5", "INV-6"],
        [3, 0, 0, 0],
    ),
    row(
        "a unit in two orders of two cells",
        Damage::Sql(1, "update unit set unit = 3 where unit = 21"),
        &["INV-1", "INV-2", "INV-3", "INV-6"],
        [1, 1, 0, 0],
    ),
    row(
        "a unit in two orders of one cell",
        Damage::Sql(
            0,
            "alter table unit drop constraint unit_once; update unit set unit = 2 where unit = 0",
        ),
        &["INV-1", "INV-3", "INV-6"],
        [1, 1, 0, 0],
    ),
    row(
        "a unit that the sale does not have",
        Damage::Sql(1, "update unit set unit = 41 where unit = 20"),
        &["INV-1", "INV-2", "INV-3", "INV-6"],
        [1, 1, 0, 0],
    ),
    // INV-2.
    row(
        "a bucket that counts a paid unit too few",
        Damage::Sql(0, "update bucket set paid = paid - 1"),
        &["INV-2"],
        [0, 0, 0, 0],
    ),
    row(
        "a bucket that counts a live unit which is none",
        Damage::Sql(1, "update bucket set live = live + 1"),
        &["INV-2"],
        [0, 0, 0, 0],
    ),
    row(
        "a share that reaches into another",
        Damage::Sql(
            0,
            "update share set units = 2 where first_unit = 19; update bucket set granted = 22",
        ),
        &["INV-2", "INV-3"],
        [0, 0, 0, 0],
    ),
    row(
        "a unit that no bucket may sell",
        Damage::Sql(
            1,
            "delete from share where first_unit = 37; update bucket set granted = granted - 1",
        ),
        &["INV-2", "INV-3"],
        [0, 1, 0, 0],
    ),
    row(
        "a unit of a paid order that lies free",
        Damage::Sql(0, "delete from unit where unit = 0"),
        &["INV-2", "INV-3", "INV-4", "INV-6"],
        [0, 1, 0, 0],
    ),
    // INV-3, stranded.
    row(
        "a returned unit that Redis has forgotten",
        Damage::Redis(1, &[&["LPOP", "fg:{acme:s0000000000000001:1}:e1:f"]]),
        &["INV-3"],
        [0, 1, 0, 0],
    ),
    row(
        "a returned unit that Redis has twice",
        Damage::Redis(1, &[&["RPUSH", "fg:{acme:s0000000000000001:1}:e1:f", "16"]]),
        &["INV-3"],
        [0, 0, 0, 0],
    ),
    row(
        "units that Redis believes it has granted",
        Damage::Redis(1, &[&["HSET", "fg:{acme:s0000000000000001:1}:rec", "next", "21"]]),
        &["INV-3"],
        [0, 1, 0, 0],
    ),
    row(
        "a free unit that Redis names an order for",
        Damage::Redis(
            1,
            &[&["SETRANGE", "fg:{acme:s0000000000000001:1}:e1:u", "256", "sixteen letters!"]],
        ),
        &["INV-3"],
        [0, 1, 0, 0],
    ),
    row(
        "a paid unit that Redis would sell again",
        Damage::Redis(
            0,
            &[
                &["SETRANGE", "fg:{acme:s0000000000000001:0}:e2:u", "0", ZEROS],
                &["RPUSH", "fg:{acme:s0000000000000001:0}:e2:f", "0"],
            ],
        ),
        &["INV-3"],
        [0, 0, 0, 0],
    ),
    row(
        "a Redis that was emptied and not loaded again",
        Damage::Redis(1, &[&["FLUSHALL"]]),
        &["INV-3"],
        [0, 3, 0, 0],
    ),
    row(
        "a Redis that still serves an older epoch",
        Damage::Sql(1, "update bucket set epoch = 2"),
        &["INV-3"],
        [0, 3, 0, 0],
    ),
    row(
        "an order that never ended",
        Damage::Sql(1, "update \"order\" set state = 2 where ticket = 1"),
        &["INV-2", "INV-3", "INV-5", "INV-6"],
        [0, 2, 1, 1],
    ),
    row(
        "buyers were told that it is sold out, and it was not",
        Damage::Told(|told| say(told, Said::Refused { reason: "SOLD_OUT".into() })),
        &["INV-3"],
        [0, 0, 0, 0],
    ),
    row(
        "the page said that it is sold out, and it was not",
        Damage::Told(|told| {
            let page = PageTold { free: 0, held: 0, sold: 40, sold_out: true, stale: false };
            say(told, Said::Page(page));
        }),
        &["INV-3"],
        [0, 0, 0, 0],
    ),
];

const ZEROS: &str = "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
