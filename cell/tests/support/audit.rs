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
use sqlx::{PgPool, Row};
use uuid::Uuid;

use crate::cell::{CellUnderTest, until};
use crate::chain::{LedgerRow, checked_ledger};
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

/// What a bucket's ledger tells: the stories of its orders, and what came of its units.
#[derive(Debug, Default)]
struct Past {
    stories: BTreeMap<OrderId, Story>,
    /// The units that it may sell.
    stock: BTreeSet<u32>,
    /// The units at its local indices, under the epoch for which the ledger was read.
    at_index: Vec<u32>,
    /// What it gave up, and what it accepted, by transfer.
    given_up: BTreeMap<Vec<u8>, BTreeSet<u32>>,
    accepted: BTreeMap<Vec<u8>, BTreeSet<u32>>,
    /// Who has which unit at the end.
    owners: BTreeMap<u32, OrderId>,
    /// The ranks of tickets that were spent.
    tickets: Vec<u64>,
}

/// A bucket and the Postgres in which it stands.
#[derive(Debug)]
struct Place {
    cell: String,
    pool: PgPool,
    bucket: BucketRef,
}

/// Waits until the sale is quiet, then checks every invariant that can be checked from outside.
pub(crate) async fn audit(cell: &CellUnderTest, sale: &SaleRecord, told: &Told) {
    let places = places(cell, sale).await;
    let mut sold: BTreeMap<u32, OrderId> = BTreeMap::new();
    let mut stories: BTreeMap<OrderId, Story> = BTreeMap::new();
    let (mut stock, mut given_up, mut accepted) =
        (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    for place in &places {
        let owners = until(QUIET, async || quiet(cell, sale, place).await).await;
        let past = read(sale, &checked_ledger(&place.pool, place.bucket).await, i64::MAX);
        assert_eq!(owners, past.owners, "INV-2: units in Postgres and in the ledger");
        counts_agree(sale, place, &past).await;
        for (unit, order) in owners {
            assert_eq!(sold.insert(unit, order), None, "INV-1: {unit} was sold twice");
        }
        for unit in past.stock {
            assert!(stock.insert(unit), "INV-2: {unit} is in two buckets");
        }
        given_up.extend(past.given_up);
        accepted.extend(past.accepted);
        stories.extend(past.stories);
    }
    keys_name_their_org(cell, sale).await;

    // INV-2: what left one bucket came to another, or is in transit.
    for (transfer, units) in accepted {
        let given = given_up.remove(&transfer);
        assert!(given.is_none_or(|given| given == units), "INV-2: other units came than left");
    }
    let in_transit: usize = given_up.values().map(BTreeSet::len).sum();
    assert_eq!(stock.len() + in_transit, usize::try_from(sale.stock).unwrap(), "INV-2");

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
    crate::found::nothing_was_found(cell).await;
}

/// The sale's buckets.
async fn places(cell: &CellUnderTest, sale: &SaleRecord) -> Vec<Place> {
    let mut places = Vec::new();
    for (number, plan) in (0..).zip(&sale.buckets) {
        let pool = cell.pool_of(&plan.cell);
        let row = sqlx::query("select org, sale from sale where id = $1").bind(&sale.sale);
        let row = row.fetch_one(&pool).await.unwrap();
        let bucket = BucketRef { org: row.get(0), sale: row.get(1), bucket: number };
        places.push(Place { cell: plan.cell.clone(), pool, bucket });
    }
    places
}

/// What a bucket's rows say is what its ledger tells.
async fn counts_agree(sale: &SaleRecord, place: &Place, past: &Past) {
    // INV-1, INV-2, INV-3: nothing is live, so the units of paid orders are taken and all others are free.
    let ended = [State::Paid, State::Expired, State::Cancelled, State::Refunded];
    for story in past.stories.values() {
        assert!(ended.contains(&story.state), "{story:?}");
    }
    let BucketRef { org, sale: alias, bucket } = place.bucket;
    let counts = sqlx::query(
        "select granted, live, paid, tail, cursor, ranks from bucket
         where org = $1 and sale = $2 and bucket = $3",
    );
    let counts = counts.bind(org).bind(alias).bind(bucket).fetch_one(&place.pool).await.unwrap();
    let count = |at: usize| usize::try_from(counts.get::<i32, _>(at)).unwrap();
    assert_eq!((count(0), count(1), count(2)), (past.stock.len(), 0, past.owners.len()), "INV-2");
    let shares = sqlx::query(
        "select first_unit, units from share where org = $1 and sale = $2 and bucket = $3",
    );
    let shares = shares.bind(org).bind(alias).bind(bucket).fetch_all(&place.pool).await.unwrap();
    let range = |first: i32, units: i32| (first..first + units).map(i32::cast_unsigned);
    let shares = shares.iter().flat_map(|row| range(row.get(0), row.get(1)));
    assert_eq!(shares.collect::<BTreeSet<u32>>(), past.stock, "INV-2");

    // INV-7: every ticket that was spent had been admitted; everyday commerce admits whoever was given one.
    let is_standard = sale.class == i32::from(Class::Standard);
    let cursor = counts.get::<i64, _>(if is_standard { 5 } else { 4 }).cast_unsigned();
    let tickets = &past.tickets;
    assert!(tickets.iter().all(|ticket| *ticket < cursor), "INV-7: {tickets:?} under {cursor}");
    assert_eq!(tickets.iter().collect::<BTreeSet<_>>().len(), tickets.len(), "INV-7");

    // The states in Postgres are where the stories end.
    let states = sqlx::query(r#"select id, state from "order" where sale = $1 and bucket = $2"#);
    let states = states.bind(alias).bind(bucket).fetch_all(&place.pool).await.unwrap();
    assert_eq!(states.len(), past.stories.len());
    for row in states {
        let order = OrderId(row.get::<Uuid, _>(0).into_bytes());
        let state = i32::from(past.stories[&order].state);
        assert_eq!(i32::from(row.get::<i16, _>(1)), state, "{order}");
    }
}

/// Tells a bucket's past by the ledger's entries, one after the other, and checks each against those before. Its local
/// indices are those of a bucket that was loaded under `epoch`.
fn read(sale: &SaleRecord, rows: &[LedgerRow], epoch: i64) -> Past {
    let mut past = Past::default();
    let mut loaded = false;
    for (row_epoch, entries) in rows {
        if *row_epoch >= epoch && !loaded {
            loaded = true;
            past.at_index = past.stock.iter().copied().collect();
        }
        for entry in entries {
            match entry.kind() {
                Kind::Granted | Kind::Accepted => past.come(entry, loaded),
                Kind::GivenUp => past.leave(entry),
                Kind::Held => past.hold(sale, entry),
                _ => past.turn(entry),
            }
        }
    }
    if !loaded {
        past.at_index = past.stock.iter().copied().collect();
    }
    past
}

impl Past {
    fn come(&mut self, entry: &LedgerEntry, loaded: bool) {
        let units = of_ranges(entry);
        for &unit in &units {
            assert!(self.stock.insert(unit), "INV-2: {unit} came twice");
        }
        if loaded {
            self.at_index.extend(&units);
        }
        if entry.kind() == Kind::Accepted {
            let before = self.accepted.insert(entry.transfer.to_vec(), units.into_iter().collect());
            assert_eq!(before, None, "INV-2: accepted twice");
        }
    }

    fn leave(&mut self, entry: &LedgerEntry) {
        let units = of_ranges(entry);
        for unit in &units {
            assert!(self.stock.remove(unit), "INV-2: {unit} was not there");
            assert!(!self.owners.contains_key(unit), "INV-1: {unit} left, and an order has it");
        }
        let before = self.given_up.insert(entry.transfer.to_vec(), units.into_iter().collect());
        assert_eq!(before, None, "INV-2: given up twice");
    }

    fn hold(&mut self, sale: &SaleRecord, entry: &LedgerEntry) {
        let order = OrderId::try_from(&entry.order[..]).unwrap();
        for &unit in &entry.units {
            assert!(self.stock.contains(&unit), "INV-2: {unit} is not the bucket's");
            assert_eq!(self.owners.insert(unit, order), None, "INV-1: {unit} is in two orders");
        }
        let (buyer, units) = (entry.buyer.to_vec(), entry.units.clone());
        let story = Story { buyer, units, state: State::Held, attempts: 0 };
        assert!(self.stories.insert(order, story).is_none(), "{order} was held twice");
        self.tickets.push(entry.ticket);
        let theirs = self.stories.values().filter(|one| one.buyer == entry.buyer[..]);
        let in_use = |one: &&Story| {
            !matches!(one.state, State::Expired | State::Cancelled | State::Refunded)
        };
        let units: usize = theirs.filter(in_use).map(|one| one.units.len()).sum();
        assert!(units <= usize::try_from(sale.cap).unwrap(), "INV-4: {units} units");
    }

    fn turn(&mut self, entry: &LedgerEntry) {
        let order = OrderId::try_from(&entry.order[..]).unwrap();
        let story = self.stories.get_mut(&order).expect("an order that was never held");
        story.state = match (entry.kind(), story.state) {
            (Kind::Expired, State::Held | State::Paying | State::Review) => State::Expired,
            (Kind::Cancelled, State::Held) => State::Cancelled,
            (Kind::Paying, State::Held) => State::Paying,
            (Kind::Declined, State::Paying) => State::Held,
            (Kind::Paid, State::Paying | State::Review) => State::Paid,
            (Kind::Review, State::Paying) => State::Review,
            (Kind::Refunding | Kind::RefundRefused, State::Paid) => State::Paid,
            (Kind::Refunded, State::Paid) if !entry.units.is_empty() => State::Refunded,
            (Kind::Refunded, state) => state,
            other => panic!("{order}: {other:?}"),
        };
        story.attempts += u32::from(entry.kind() == Kind::Paying);
        if !matches!(entry.kind(), Kind::Refunding | Kind::RefundRefused | Kind::Refunded) {
            assert_eq!(entry.attempt, if entry.attempt == 0 { 0 } else { story.attempts });
        }
        let frees = matches!(entry.kind(), Kind::Expired | Kind::Cancelled);
        if frees || entry.kind() == Kind::Refunded && !entry.units.is_empty() {
            assert_eq!(entry.units, story.units, "{order} returned other units");
            for unit in &entry.units {
                assert_eq!(self.owners.remove(unit), Some(order), "INV-1");
            }
        }
    }
}

/// The units of an entry that lists ranges.
fn of_ranges(entry: &LedgerEntry) -> Vec<u32> {
    let (ranges, rest) = entry.units.as_chunks::<2>();
    assert!(rest.is_empty(), "{entry:?}");
    ranges.iter().flat_map(|[first, last]| *first..=*last).collect()
}

/// Who has each unit of a bucket in Postgres, once nothing is live, Redis agrees, and so does the provider.
async fn quiet(
    cell: &CellUnderTest,
    sale: &SaleRecord,
    place: &Place,
) -> Result<BTreeMap<u32, OrderId>, String> {
    let failed = |error: sqlx::Error| error.to_string();
    let BucketRef { org, sale: alias, bucket } = place.bucket;
    let rows = sqlx::query(r#"select id, state from "order" where sale = $1 and bucket = $2"#);
    let rows = rows.bind(alias).bind(bucket).fetch_all(&place.pool).await.map_err(failed)?;
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
    let rows = sqlx::query("select unit, id from unit where sale = $1 and bucket = $2");
    let rows = rows.bind(alias).bind(bucket).fetch_all(&place.pool).await.map_err(failed)?;
    let owners: BTreeMap<u32, OrderId> = rows
        .iter()
        .map(|row| {
            (row.get::<i32, _>(0).cast_unsigned(), OrderId(row.get::<Uuid, _>(1).into_bytes()))
        })
        .collect();
    let epoch =
        sqlx::query_scalar("select epoch from bucket where org = $1 and sale = $2 and bucket = $3");
    let epoch = epoch.bind(org).bind(alias).bind(bucket).fetch_one(&place.pool);
    let epoch: i64 = epoch.await.map_err(failed)?;
    let past = read(sale, &checked_ledger(&place.pool, place.bucket).await, epoch);
    let in_redis = owners_in_redis(cell, sale, (place, epoch), &past).await?;
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
    (place, epoch): (&Place, i64),
    past: &Past,
) -> Result<BTreeMap<u32, OrderId>, String> {
    let failed = |error: redis::RedisError| error.to_string();
    let url = cell.stack.redis_admin_url(&place.cell).unwrap();
    let client = redis::Client::open(url).map_err(failed)?;
    let mut redis = client.get_multiplexed_async_connection().await.map_err(failed)?;
    let keys = BucketKeys::new(&sale.org, &sale.sale, place.bucket.bucket, epoch);
    let units: Option<Vec<u8>> = redis.get(&keys.units).await.map_err(failed)?;
    let returned: Vec<usize> = redis.lrange(&keys.free, 0, -1).await.map_err(failed)?;
    let next: Option<usize> = redis.hget(&keys.rec, "next").await.map_err(failed)?;
    let end: Option<usize> = redis.hget(&keys.rec, "granted").await.map_err(failed)?;
    let at_index = &past.at_index;
    let owners: BTreeMap<u32, OrderId> = at_index
        .iter()
        .zip(units.unwrap_or_default().as_chunks::<16>().0)
        .filter(|(_, owner)| **owner != [0; 16] && !past.given_up.contains_key(&owner[..]))
        .map(|(unit, owner)| (*unit, OrderId(*owner)))
        .collect();
    let (Some(next), Some(end)) = (next, end) else { return Ok(owners) };
    if end != at_index.len() {
        return Err(format!("{end} local indices in Redis, {} by the ledger", at_index.len()));
    }
    let mut free: Vec<u32> = returned.into_iter().chain(next..end).map(|at| at_index[at]).collect();
    free.sort_unstable();
    let has_none = |unit: &u32| !owners.contains_key(unit);
    let nobodys: Vec<u32> = past.stock.iter().copied().filter(has_none).collect();
    if free != nobodys {
        return Err(format!("INV-3: free in Redis: {free:?}; with nobody: {nobodys:?}"));
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
    let rests =
        "select bool_and(b.settled) from bucket b join sale s using (org, sale) where s.id = $1";
    let rests = sqlx::query_scalar(rests).bind(&sale.sale).fetch_one(&cell.pool).await;
    // A bucket at rest leaves Redis.
    assert!(rests.unwrap() || !keys.is_empty(), "{} has no keys in Redis", sale.sale);
    assert!(strays.is_empty(), "INV-9: {strays:?} do not begin with {tag}");
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
