//! Damages of buyers, money, acknowledgements, tickets and the ledger itself (INV-4 to INV-12).

use super::{Damage, Row, again, paid, row, say, without};
use floodgate_chaos::id::OrderId;
use floodgate_chaos::told::{Ask, OrderState, Said};

/// Takes every buyer's units out of a Redis' hash of buyers, and nothing else.
const FORGET_UNITS: &str = "local all = redis.call('HGETALL', KEYS[1]) for i = 2, #all, 2 do redis.call('HSET', KEYS[1], \
    all[i - 1], string.sub(all[i], 1, 16) .. string.rep('\\0', 2) .. string.sub(all[i], 19)) end";

/// Takes what tickets every buyer spent out of it.
const FORGET_TICKETS: &str = "local all = redis.call('HGETALL', KEYS[1]) for i = 2, #all, 2 do redis.call('HSET', KEYS[1], \
    all[i - 1], string.sub(all[i], 1, 18) .. string.rep('\\0', 8)) end";

pub const TABLE: &[Row] = &[
    // INV-4.
    row(
        "a unit in a place above the cap",
        Damage::Sql(0, "update unit set slot = 2 where unit = 0"),
        &["INV-4"],
        [0, 0, 0, 0],
    ),
    row(
        "two units in one place",
        Damage::Sql(0, "drop index unit_slot; update unit set slot = 0 where unit = 1"),
        &["INV-4"],
        [0, 0, 0, 0],
    ),
    row(
        "a third unit of a buyer",
        Damage::Sql(
            0,
            "update unit set slot = 2, buyer = (select buyer from unit where unit = 0)
             where unit = 2",
        ),
        &["INV-4"],
        [0, 0, 0, 0],
    ),
    row(
        "a buyer whose units Redis has forgotten",
        Damage::Redis(0, &[&["EVAL", FORGET_UNITS, "1", "fg:{acme:s0000000000000001:0}:e2:b"]]),
        &["INV-4"],
        [0, 0, 0, 0],
    ),
    row(
        "a buyer who was told of three paid units",
        Damage::Told(|told| paid(told, 0).units.push(39)),
        &["INV-4", "INV-6"],
        [0, 0, 0, 1],
    ),
    // INV-5, double charges.
    row(
        "a payment that took the money twice",
        Damage::File(|text| again(text, "captured", |line| line.to_owned())),
        &["INV-5"],
        [0, 0, 1, 0],
    ),
    row(
        "an order with two payments",
        Damage::File(|text| again(text, "captured", |line| line.replace("pi_", "pi_second_"))),
        &["INV-5"],
        [0, 0, 1, 0],
    ),
    row(
        "a payment for an order that nobody knows",
        Damage::File(|text| {
            again(text, "created", |line| {
                line.replace("pi_", "pi_x").replace("\"order\":\"", "\"order\":\"x")
            }) + &again(text, "captured", |line| line.replace("pi_", "pi_x"))[text.len()..]
        }),
        &["INV-5"],
        [0, 0, 1, 0],
    ),
    row(
        "a charge after the hold had ended that never went back",
        Damage::File(|text| without(text, "refunded")),
        &["INV-5"],
        [0, 0, 1, 0],
    ),
    row(
        "a paid order whose money was never taken",
        Damage::File(|text| without(text, "captured")),
        &["INV-5"],
        [0, 0, 0, 0],
    ),
    row(
        "a paid order whose money went back",
        Damage::File(|text| again(text, "captured", |line| line.replace("captured", "refunded"))),
        &["INV-5"],
        [0, 0, 0, 0],
    ),
    row(
        "a paid order that cost too little",
        Damage::File(|text| {
            text.replacen("\"captured\",\"amount\":1998", "\"captured\",\"amount\":1", 1)
        }),
        &["INV-5"],
        [0, 0, 0, 0],
    ),
    row(
        "a paid order that names another payment",
        Damage::Sql(0, "update \"order\" set intent = 'pi_other' where ticket = 0"),
        &["INV-5"],
        [0, 0, 0, 0],
    ),
    // INV-6, lost acknowledgements.
    row(
        "a payment that a buyer was told of and no cell knows",
        Damage::Told(|told| paid(told, 0).order = OrderId([9; 16])),
        &["INV-6"],
        [0, 0, 0, 1],
    ),
    row(
        "units that are not those the buyer was told",
        Damage::Told(|told| paid(told, 0).units = vec![38, 39]),
        &["INV-6"],
        [0, 0, 0, 1],
    ),
    row(
        "an order that was told to somebody else",
        Damage::Told(|told| {
            let told = told.iter_mut().find(|told| matches!(told.said, Said::Order(_)));
            told.unwrap().buyer = Some(1);
        }),
        &["INV-6"],
        [0, 0, 0, 1],
    ),
    row(
        "a paid order that was told to be expired later on",
        Damage::Told(|told| {
            let mut order = paid(told, 0).clone();
            order.state = OrderState::Expired;
            let call = told.last().unwrap().call + 1;
            say(told, Said::Asked(Ask::GetOrder { order: order.order }));
            say(told, Said::Order(order));
            told.iter_mut().rev().take(2).for_each(|told| told.call = call);
        }),
        &["INV-6"],
        [0, 0, 0, 1],
    ),
    row(
        "a paid order that was told to have run out",
        Damage::Told(|told| {
            let order = paid(told, 0).order;
            let call = told.last().unwrap().call + 1;
            say(told, Said::Asked(Ask::Checkout { order }));
            say(told, Said::Refused { reason: "ORDER_EXPIRED".into() });
            told.iter_mut().rev().take(2).for_each(|told| told.call = call);
        }),
        &["INV-6"],
        [0, 0, 0, 1],
    ),
    row(
        "a cell that lost its last order and its units",
        Damage::Sql(
            1,
            "delete from unit where id = (select id from \"order\" where ticket = 7);
             delete from \"order\" where ticket = 7;
             update bucket set paid = paid - 2",
        ),
        &["INV-3", "INV-4", "INV-5", "INV-6"],
        [0, 2, 1, 1],
    ),
    row(
        "a paid order that has turned into an expired one",
        Damage::Sql(0, "update \"order\" set state = 4 where ticket = 0"),
        &["INV-2", "INV-3", "INV-5", "INV-6"],
        [0, 2, 1, 1],
    ),
    row(
        "a unit that is another one by its row",
        Damage::Sql(1, "update unit set unit = 36 where unit = 20"),
        &["INV-3", "INV-6"],
        [0, 1, 0, 0],
    ),
    row(
        "an attempt that the ledger does not know",
        Damage::Sql(0, "update \"order\" set attempt = 3 where ticket = 0"),
        &["INV-6"],
        [0, 0, 0, 0],
    ),
    // INV-7.
    row(
        "tickets that the gate had not admitted",
        Damage::Sql(0, "update bucket set cursor = 5"),
        &["INV-7"],
        [0, 0, 0, 0],
    ),
    row(
        "a ticket that served two orders",
        Damage::Sql(0, "drop index order_ticket; update \"order\" set ticket = 0 where ticket = 1"),
        &["INV-6", "INV-7"],
        [0, 0, 0, 0],
    ),
    row(
        "a ticket that its buyer was never given",
        Damage::Told(|told| {
            for told in told {
                if let Said::Ticket(ticket) = &mut told.said
                    && told.buyer == Some(3)
                {
                    ticket.rank += 40;
                }
            }
        }),
        &["INV-7"],
        [0, 0, 0, 0],
    ),
    row(
        "an order that nobody asked for",
        Damage::Told(|told| {
            told.retain(|told| {
                let reserve = matches!(told.said, Said::Asked(Ask::Reserve { .. }));
                told.buyer != Some(3) || !reserve
            });
        }),
        &["INV-7"],
        [0, 0, 0, 0],
    ),
    row(
        "spent tickets that Redis would take again",
        Damage::Redis(1, &[&["EVAL", FORGET_TICKETS, "1", "fg:{acme:s0000000000000001:1}:e1:b"]]),
        &["INV-7"],
        [0, 0, 0, 0],
    ),
    // INV-8.
    row(
        "an entry of an older epoch behind a newer one",
        Damage::Sql(0, "update ledger set epoch = 1 where seq = (select max(seq) from ledger)"),
        &["INV-8"],
        [0, 0, 0, 0],
    ),
    row(
        "a bucket that has gone back to an older epoch",
        Damage::Sql(0, "update bucket set epoch = 1"),
        &["INV-3", "INV-8"],
        [0, 1, 0, 0],
    ),
    row(
        "an entry that was written over",
        Damage::Sql(
            0,
            "update ledger set entries = (select entries from ledger where seq = 3) where seq = 4",
        ),
        &["INV-6", "INV-8"],
        [0, 0, 0, 1],
    ),
    row(
        "a row that was taken out of the middle",
        Damage::Sql(0, "delete from ledger where seq = 4"),
        &["INV-6", "INV-8"],
        [0, 0, 0, 1],
    ),
    row(
        "a row that was taken off the end",
        Damage::Sql(1, "delete from ledger where seq = (select max(seq) from ledger)"),
        &["INV-6", "INV-8"],
        [0, 0, 0, 1],
    ),
    row(
        "a row with another time",
        Damage::Sql(1, "update ledger set at_us = at_us - 1 where seq = 1"),
        &["INV-8"],
        [0, 0, 0, 0],
    ),
    row(
        "a head that is not the last row's",
        Damage::Sql(1, "update bucket set head = sha256('')"),
        &["INV-8"],
        [0, 0, 0, 0],
    ),
    // INV-12.
    row(
        "a crowd that was let in at once",
        Damage::Told(|told| {
            let mut early =
                told.iter().find(|told| matches!(told.said, Said::Ticket(_))).unwrap().clone();
            let Said::Ticket(ticket) = &mut early.said else { unreachable!() };
            (ticket.rank, ticket.admitted) = (100_000, true);
            told.push(early);
        }),
        &["INV-12"],
        [0, 0, 0, 0],
    ),
];
