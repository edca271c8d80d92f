//! The damages: each in one place of one ledger, with what the judge must name and which figures must move.

use floodgate_chaos::id::OrderId;
use floodgate_chaos::told::{Ask, OrderState, OrderTold, PageTold, Said, Told};

/// One damage.
pub enum Damage {
    /// Statements in the Postgres of a cell (0 or 1).
    Sql(usize, &'static str),
    /// Commands in the Redis of a cell.
    Redis(usize, &'static [&'static [&'static str]]),
    /// A change of the provider's file; its lines are numbered anew.
    File(fn(&str) -> String),
    /// A change of what clients were told.
    Told(fn(&mut Vec<Told>)),
}

pub struct Row {
    pub what: &'static str,
    pub damage: Damage,
    /// Exactly these are broken.
    pub names: &'static [&'static str],
    /// Oversold, stranded, double charges, lost acknowledgements.
    pub figures: [u64; 4],
}

const fn row(
    what: &'static str,
    damage: Damage,
    names: &'static [&'static str],
    figures: [u64; 4],
) -> Row {
    Row { what, damage, names, figures }
}

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
        Damage::Sql(1, "update unit set unit = 40 where unit = 20"),
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
        Damage::Sql(0, "update share set units = 21; update bucket set granted = 21"),
        &["INV-2", "INV-3"],
        [0, 0, 0, 0],
    ),
    row(
        "a unit that no bucket may sell",
        Damage::Sql(1, "update share set units = 19; update bucket set granted = 19"),
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
        Damage::Redis(1, &[&["HSET", "fg:{acme:s0000000000000001:1}:rec", "next", "20"]]),
        &["INV-3"],
        [0, 2, 0, 0],
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
        [0, 4, 0, 0],
    ),
    row(
        "a Redis that still serves an older epoch",
        Damage::Sql(1, "update bucket set epoch = 2"),
        &["INV-3"],
        [0, 4, 0, 0],
    ),
    row(
        "an order that never ended",
        Damage::Sql(1, "update \"order\" set state = 2 where ticket = 0"),
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
    // INV-4.
    row(
        "a unit in a place above the cap",
        Damage::Sql(0, "update unit set slot = 2 where unit = 0"),
        &["INV-4"],
        [0, 0, 0, 0],
    ),
    row(
        "two units in one place",
        Damage::Sql(
            0,
            "alter table unit drop constraint unit_slot; update unit set slot = 0 where unit = 1",
        ),
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
        Damage::Redis(0, &[&["DEL", "fg:{acme:s0000000000000001:0}:e2:b:0"]]),
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
        Damage::Sql(1, "update unit set unit = 38 where unit = 20"),
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
        Damage::Redis(1, &[&["DEL", "fg:{acme:s0000000000000001:1}:e1:t"]]),
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
        &["INV-8"],
        [0, 0, 0, 0],
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

const ZEROS: &str = "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// What the `place`-th buyer to pay was told then.
fn paid(told: &mut [Told], place: usize) -> &mut OrderTold {
    let orders = told.iter_mut().filter_map(|told| match &mut told.said {
        Said::Order(order) if order.state == OrderState::Paid => Some(order),
        _ => None,
    });
    orders.into_iter().nth(place).unwrap()
}

/// Adds a line to what the last buyer was told.
fn say(told: &mut Vec<Told>, said: Said) {
    let last = told.last().unwrap().clone();
    told.push(Told { at_us: last.at_us + 1, said, ..last });
}

/// The file with a changed copy of its first line with this event behind it.
fn again(text: &str, event: &str, change: fn(&str) -> String) -> String {
    let line = text.lines().find(|line| line.contains(event)).unwrap();
    format!("{text}{}\n", change(line))
}

/// The file without its first line with this event.
fn without(text: &str, event: &str) -> String {
    let line = text.lines().find(|line| line.contains(event)).unwrap();
    text.replacen(&format!("{line}\n"), "", 1)
}

pub async fn redis(url: &str, commands: &[&[&str]]) {
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for words in commands {
        let mut command = redis::Cmd::new();
        for word in *words {
            command.arg(*word);
        }
        command.query_async::<redis::Value>(&mut connection).await.unwrap();
    }
}

/// Gives the lines the numbers 1, 2, 3, …
pub fn renumber(text: &str) -> String {
    let number = |(number, line): (usize, &str)| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["seq"] = number.into();
        format!("{line}\n")
    };
    (1..).zip(text.lines()).map(number).collect()
}
