//! Compares what a ledger says with the tables of the same moment. Decides only: what to read is the caller's affair.

use super::difference::Difference;
use super::snapshot::BucketRow;
use proto::chain::Chain;
use proto::id::OrderId;
use proto::invariant::Invariant;
use proto::replay::{Ended, Replay, ReplayedOrder};
use proto::wire::storefront::order::State;
use std::collections::{BTreeMap, BTreeSet};

/// The bucket's row: the ledger's end and the counts (INV-2).
pub(super) fn counts(chain: &Chain, replay: &Replay, row: &BucketRow) -> Vec<Difference> {
    let mut found = Vec::new();
    if (row.seq, &row.head[..]) != (chain.seq(), &chain.hash()[..]) {
        let what = format!(
            "the bucket's row says that the ledger ends with row {}, it ends with row {}",
            row.seq,
            chain.seq()
        );
        found.push(Difference::new(Invariant::Inv6, "end", what));
    }
    if row.at_us.cast_unsigned() != chain.at_us() || row.epoch.cast_unsigned() < chain.epoch() {
        let what = format!(
            "the bucket's row is of epoch {} and {} us, its last ledger row of epoch {} and {} us",
            row.epoch,
            row.at_us,
            chain.epoch(),
            chain.at_us()
        );
        found.push(Difference::new(Invariant::Inv8, "time", what));
    }
    let counts = [
        ("granted", row.granted, replay.granted().count()),
        ("live", row.live, replay.live()),
        ("paid", row.paid, replay.paid()),
    ];
    for (name, table, ledger) in counts {
        if u64::try_from(table) != Ok(ledger) {
            let what = format!("{name} is {table} in the bucket's row and {ledger} by the ledger");
            found.push(Difference::new(Invariant::Inv2, name, what));
        }
    }
    found
}

/// The units that are not free (INV-1): `rows` are those of the table from `from` to `last`, or to the end.
pub(super) fn units(
    replay: &Replay,
    (from, last): (u32, Option<u32>),
    rows: &[(u32, OrderId)],
) -> Vec<Difference> {
    let table: BTreeMap<u32, OrderId> = rows.iter().copied().collect();
    let ledger: BTreeMap<u32, OrderId> = replay
        .units()
        .range(from..=last.unwrap_or(u32::MAX))
        .map(|(unit, order)| (*unit, *order))
        .collect();
    let all: BTreeSet<u32> = table.keys().chain(ledger.keys()).copied().collect();
    let mut found = Vec::new();
    for unit in all {
        let what = match (table.get(&unit), ledger.get(&unit)) {
            (Some(table), Some(ledger)) if table == ledger => continue,
            (Some(table), Some(ledger)) => format!(
                "unit {unit} is order {table}'s in the table, order {ledger}'s by the ledger"
            ),
            (Some(table), None) => {
                format!("unit {unit} is order {table}'s in the table, free by the ledger")
            }
            (None, Some(ledger)) => {
                format!("unit {unit} is free in the table, order {ledger}'s by the ledger")
            }
            (None, None) => continue,
        };
        found.push(Difference::new(Invariant::Inv1, format!("unit {unit}"), what));
    }
    found
}

/// The orders whose ids begin with `part` (INV-6): `rows` are all of the table's.
pub(super) fn orders(
    replay: &Replay,
    part: u8,
    rows: &[(OrderId, ReplayedOrder)],
) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut known: BTreeMap<OrderId, &ReplayedOrder> =
        replay.orders_in(part).map(|(id, order)| (*id, order)).collect();
    let mut ended = Ended::default();
    for (id, row) in rows {
        let what = match known.remove(id) {
            Some(ledger) => differs(ledger, row).map(|(ledger, row)| {
                format!("order {id}: {row} in the table, {ledger} by the ledger")
            }),
            None if has_ended(row.state) => {
                ended.add(row.digest(*id));
                None
            }
            None => Some(format!(
                "order {id} is {:?} in the table; by the ledger it has no units",
                row.state
            )),
        };
        found
            .extend(what.map(|what| Difference::new(Invariant::Inv6, format!("order {id}"), what)));
    }
    for (id, ledger) in known {
        let what =
            format!("order {id} is {:?} by the ledger and not in the table as that", ledger.state);
        found.push(Difference::new(Invariant::Inv6, format!("order {id}"), what));
    }
    let ledger = replay.ended_in(part);
    if found.is_empty() && ended != ledger {
        let what = format!(
            "of the orders whose ids begin with {part:02x}, {} that ended stand in the table and {} in the ledger, or they \
             ended otherwise",
            ended.count, ledger.count
        );
        found.push(Difference::new(Invariant::Inv6, format!("ended {part:02x}"), what));
    }
    found
}

fn has_ended(state: State) -> bool {
    matches!(state, State::Expired | State::Cancelled | State::Refunded)
}

/// The first column in which they differ: by the ledger, and in the table.
fn differs(ledger: &ReplayedOrder, row: &ReplayedOrder) -> Option<(String, String)> {
    let columns = |order: &ReplayedOrder| {
        [
            format!("state {:?}", order.state),
            format!("quantity {}", order.units.len()),
            format!("buyer {}", proto::id::hex(&order.buyer)),
            format!("ticket {}", order.ticket),
            format!("revision {}", order.revision),
            format!("attempt {}", order.attempt),
            format!("payment with the mark {:x}", order.intent),
        ]
    };
    let same = ledger.state == row.state
        && ledger.digest(OrderId([0; 16])) == row.digest(OrderId([0; 16]));
    if same {
        return None;
    }
    columns(ledger).into_iter().zip(columns(row)).find(|(ledger, row)| ledger != row)
}

#[cfg(test)]
#[path = "compare/tests.rs"]
mod tests;
