//! The audit of a sale that has become quiet: what buyers were told, the ledger, Postgres, Redis and the provider must
//! agree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use floodgate_cell::inventory::BucketKeys;
use floodgate_cell::ledger::BucketRef;
use proto::id::OrderId;
use proto::wire::admin::sale::Class;
use proto::wire::cell::SaleRecord;
use proto::wire::events::{LedgerEntry, ledger_entry::Kind};
use proto::wire::storefront::order::State;
use redis::AsyncCommands;
use serde_json::Value;
use sqlx::Row;
use uuid::Uuid;

use crate::cell::{CellUnderTest, until};
use crate::chain::checked_ledger;
use crate::sale::FIRST_UNIT;
use crate::storm::Told;

/// Until holds have run out, unknown payments are settled and unclaimed captures went back.
const QUIET: Duration = Duration::from_secs(90);

/// An order as the ledger's entries tell its story.
#[derive(Debug)]
struct Story {
    buyer: Vec<u8>,
    units: Vec<u32>,
    state: State,
    attempts: u32,
}

/// Waits until the sale is quiet, then checks every invariant that can be checked from outside.
pub(crate) async fn audit(cell: &CellUnderTest, sale: &SaleRecord, told: &Told) {
    let bucket = cell.bucket(&sale.sale).await;
    let owners = until(QUIET, async || quiet(cell, sale, bucket).await).await;
    keys_name_their_org(cell, sale).await;
    let rows = checked_ledger(&cell.pool, bucket).await;
    let entries: Vec<&LedgerEntry> = rows.iter().flat_map(|(_, entries)| entries).collect();
    let stories = read(sale, &entries);

    // INV-6: whatever was acknowledged is in the ledger.
    for (order, held) in &told.held {
        let story = stories.get(order).unwrap_or_else(|| panic!("INV-6: {order} is lost"));
        assert_eq!((&story.buyer[..], &story.units), (&held.buyer.0[..], &held.units), "INV-6");
    }
    let ends = [
        (&told.paid, State::Paid),
        (&told.cancelled, State::Cancelled),
        (&told.refunded, State::Refunded),
    ];
    for (orders, state) in ends {
        for order in orders {
            assert_eq!(stories[order].state, state, "INV-6: {order}");
        }
    }

    // INV-1, INV-2, INV-3: nothing is live, so the units of paid orders are taken and all others are free.
    let mut paid_units = BTreeMap::new();
    for (order, story) in &stories {
        assert!(
            matches!(
                story.state,
                State::Paid | State::Expired | State::Cancelled | State::Refunded
            ),
            "{story:?}"
        );
        for &unit in story.units.iter().filter(|_| story.state == State::Paid) {
            assert_eq!(paid_units.insert(unit, *order), None, "INV-1: {unit} was sold twice");
        }
    }
    assert_eq!(owners, paid_units, "INV-2: units in Postgres and in the ledger");
    let counts = sqlx::query(
        "select granted, live, paid, tail, cursor, ranks from bucket where org = $1 and sale = $2",
    );
    let counts = counts.bind(bucket.org).bind(bucket.sale).fetch_one(&cell.pool).await.unwrap();
    let count = |place: usize| usize::try_from(counts.get::<i32, _>(place)).unwrap();
    let stock = usize::try_from(sale.stock).unwrap();
    assert_eq!((count(0), count(1), count(2)), (stock, 0, owners.len()), "INV-2");

    // INV-7: every ticket that was spent had been admitted; everyday commerce admits whoever was given one.
    let is_standard = sale.class == i32::from(Class::Standard);
    let cursor = counts.get::<i64, _>(if is_standard { 5 } else { 4 }).cast_unsigned();
    let tickets: Vec<u64> =
        entries.iter().filter(|one| one.kind() == Kind::Held).map(|one| one.ticket).collect();
    assert!(tickets.iter().all(|ticket| *ticket < cursor), "INV-7: {tickets:?} under {cursor}");
    assert_eq!(tickets.iter().collect::<BTreeSet<_>>().len(), tickets.len(), "INV-7");

    // The states in Postgres are where the stories end.
    let states = sqlx::query(r#"select id, state from "order" where sale = $1"#).bind(bucket.sale);
    let states = states.fetch_all(&cell.pool).await.unwrap();
    assert_eq!(states.len(), stories.len());
    for row in states {
        let order = OrderId(row.get::<Uuid, _>(0).into_bytes());
        assert_eq!(i32::from(row.get::<i16, _>(1)), i32::from(stories[&order].state), "{order}");
    }
}

/// Tells the stories of orders by the ledger's entries, one after the other, and checks each against those before.
fn read(sale: &SaleRecord, entries: &[&LedgerEntry]) -> BTreeMap<OrderId, Story> {
    let mut stories: BTreeMap<OrderId, Story> = BTreeMap::new();
    let mut owners: BTreeMap<u32, OrderId> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.kind() != Kind::Granted) {
        let order = OrderId::try_from(&entry.order[..]).unwrap();
        if entry.kind() == Kind::Held {
            for &unit in &entry.units {
                assert!((FIRST_UNIT..FIRST_UNIT + sale.stock).contains(&unit), "INV-2: {unit}");
                assert_eq!(owners.insert(unit, order), None, "INV-1: {unit} is in two orders");
            }
            let story = Story {
                buyer: entry.buyer.to_vec(),
                units: entry.units.clone(),
                state: State::Held,
                attempts: 0,
            };
            assert!(stories.insert(order, story).is_none(), "{order} was held twice");
            let theirs = stories.values().filter(|one| one.buyer == entry.buyer[..]);
            let in_use = |one: &&Story| {
                !matches!(one.state, State::Expired | State::Cancelled | State::Refunded)
            };
            let units: usize = theirs.filter(in_use).map(|one| one.units.len()).sum();
            assert!(units <= usize::try_from(sale.cap).unwrap(), "INV-4: {units} units");
            continue;
        }
        let story = stories.get_mut(&order).expect("an order that was never held");
        story.state = match (entry.kind(), story.state) {
            (Kind::Expired, State::Held | State::Paying | State::Review) => State::Expired,
            (Kind::Cancelled, State::Held) => State::Cancelled,
            (Kind::Paying, State::Held) => State::Paying,
            (Kind::Declined, State::Paying) => State::Held,
            (Kind::Paid, State::Paying | State::Review) => State::Paid,
            (Kind::Review, State::Paying) => State::Review,
            (Kind::Refunding, State::Paid) => State::Paid,
            (Kind::Refunded, State::Paid) if !entry.units.is_empty() => State::Refunded,
            (Kind::Refunded, state) => state,
            other => panic!("{order}: {other:?}"),
        };
        story.attempts += u32::from(entry.kind() == Kind::Paying);
        if !matches!(entry.kind(), Kind::Refunding | Kind::Refunded) {
            assert_eq!(entry.attempt, if entry.attempt == 0 { 0 } else { story.attempts });
        }
        let frees = matches!(entry.kind(), Kind::Expired | Kind::Cancelled);
        if frees || entry.kind() == Kind::Refunded && !entry.units.is_empty() {
            assert_eq!(entry.units, story.units, "{order} returned other units");
            for unit in &entry.units {
                assert_eq!(owners.remove(unit), Some(order), "INV-1");
            }
        }
    }
    stories
}

/// Who has each unit in Postgres, once nothing is live, Redis agrees, and so does the provider.
async fn quiet(
    cell: &CellUnderTest,
    sale: &SaleRecord,
    bucket: BucketRef,
) -> Result<BTreeMap<u32, OrderId>, String> {
    let failed = |error: sqlx::Error| error.to_string();
    let rows = sqlx::query(r#"select id, state from "order" where sale = $1"#).bind(bucket.sale);
    let rows = rows.fetch_all(&cell.pool).await.map_err(failed)?;
    let orders: BTreeMap<OrderId, i16> =
        rows.iter().map(|row| (OrderId(row.get::<Uuid, _>(0).into_bytes()), row.get(1))).collect();
    let is_live = |state: &&i16| {
        [State::Held, State::Paying, State::Review]
            .contains(&State::try_from(i32::from(**state)).unwrap())
    };
    let live = orders.values().filter(is_live).count();
    if live > 0 {
        return Err(format!("{live} orders are live"));
    }
    let rows = sqlx::query("select unit, id from unit where sale = $1").bind(bucket.sale);
    let rows = rows.fetch_all(&cell.pool).await.map_err(failed)?;
    let owners: BTreeMap<u32, OrderId> = rows
        .iter()
        .map(|row| {
            (row.get::<i32, _>(0).cast_unsigned(), OrderId(row.get::<Uuid, _>(1).into_bytes()))
        })
        .collect();
    let epoch: i64 = sqlx::query_scalar("select epoch from bucket where org = $1 and sale = $2")
        .bind(bucket.org)
        .bind(bucket.sale)
        .fetch_one(&cell.pool)
        .await
        .map_err(failed)?;
    let in_redis = owners_in_redis(cell, sale, epoch).await.map_err(|error| error.to_string())?;
    if in_redis != owners {
        return Err(format!("INV-3: Redis {in_redis:?}, Postgres {owners:?}"));
    }
    let captures = captures(cell);
    for (order, state) in &orders {
        let captured = captures.get(order).copied().unwrap_or(0);
        let wanted = i32::from(i32::from(*state) == i32::from(State::Paid));
        if captured != wanted {
            return Err(format!("INV-5: {order} in state {state} has {captured} captures"));
        }
    }
    Ok(owners)
}

/// Who has each unit in Redis, which must count as free what nobody has.
async fn owners_in_redis(
    cell: &CellUnderTest,
    sale: &SaleRecord,
    epoch: i64,
) -> Result<BTreeMap<u32, OrderId>, redis::RedisError> {
    let url = cell.stack.redis_admin_url("cell-1").unwrap();
    let mut redis = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let keys = BucketKeys::new(&sale.org, &sale.sale, 0, epoch);
    let units: Option<Vec<u8>> = redis.get(&keys.units).await?;
    let returned: Vec<u32> = redis.lrange(&keys.free, 0, -1).await?;
    let next: Option<u32> = redis.hget(&keys.rec, "next").await?;
    let owners: BTreeMap<u32, OrderId> = (FIRST_UNIT..)
        .zip(units.unwrap_or_default().as_chunks::<16>().0)
        .filter(|(_, owner)| **owner != [0; 16])
        .map(|(unit, owner)| (unit, OrderId(*owner)))
        .collect();
    let mut free: Vec<u32> = returned.iter().map(|index| FIRST_UNIT + index).collect();
    free.extend(FIRST_UNIT + next.unwrap_or(0)..FIRST_UNIT + sale.stock);
    free.sort_unstable();
    let nobodys: Vec<u32> =
        (FIRST_UNIT..FIRST_UNIT + sale.stock).filter(|unit| !owners.contains_key(unit)).collect();
    if next.is_some() && free != nobodys {
        println!("free in Redis: {free:?}; with nobody: {nobodys:?}");
        return Ok(BTreeMap::new());
    }
    Ok(owners)
}

/// INV-9: whatever Redis has of the sale lies under its org.
async fn keys_name_their_org(cell: &CellUnderTest, sale: &SaleRecord) {
    let url = cell.stack.redis_admin_url("cell-1").unwrap();
    let redis = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await;
    let keys: Vec<String> = redis.unwrap().keys(format!("*:{}:*", sale.sale)).await.unwrap();
    let tag = format!("fg:{{{}:{}:", sale.org, sale.sale);
    let strays: Vec<&String> = keys.iter().filter(|key| !key.starts_with(&tag)).collect();
    assert!(!keys.is_empty() && strays.is_empty(), "INV-9: {strays:?} do not begin with {tag}");
}

/// Captures that were not refunded, by order, from the provider's own file.
pub(crate) fn captures(cell: &CellUnderTest) -> BTreeMap<OrderId, i32> {
    let file = cell.stack.folder().join("provider/ledger.jsonl");
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut captures = BTreeMap::new();
    for line in whole.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let Some(order) = line["order"].as_str().and_then(|order| order.parse().ok()) else {
            continue;
        };
        *captures.entry(order).or_default() += match line["event"].as_str() {
            Some("captured") => 1,
            Some("refunded") => -1,
            _ => 0,
        };
    }
    captures
}
