//! The damages: each in one place of one ledger, with what the judge must name and which figures must move.

mod moves;
mod orders;
mod stock;

use crate::finished::Finished;
use floodgate_chaos::judge::Agreed;
use floodgate_chaos::told::{OrderState, OrderTold, Said, Told};
use proto::wire::events::LedgerEntry;

/// One damage.
pub enum Damage {
    /// Statements in the Postgres of a cell (0 or 1).
    Sql(usize, &'static str),
    /// Commands in the Redis of a cell.
    Redis(usize, &'static [&'static [&'static str]]),
    /// A change of the provider's file; its lines are numbered anew.
    File(fn(&str) -> String),
    /// A row more in the ledger of a cell, rightly chained.
    Entry(usize, fn(&Finished) -> LedgerEntry),
    /// A change of what was agreed with the merchant.
    Agreed(fn(&mut Agreed)),
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

/// All of them.
pub fn table() -> impl Iterator<Item = &'static Row> {
    stock::TABLE.iter().chain(orders::TABLE).chain(moves::TABLE)
}

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
