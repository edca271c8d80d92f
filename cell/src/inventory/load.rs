//! Loading a bucket from Postgres into Redis under a new epoch: planned first, then written in slices, opened last.

use super::{BucketKeys, Inventory, InventoryError};
use crate::failpoint::{self, Failpoint};
use crate::ledger::Loaded;
use proto::id::{BuyerKey, OrderId};
use proto::limits::LOAD_SLICE_ENTRIES;
use proto::wire::storefront::order::State;
use redis::{Cmd, Value};
use std::collections::BTreeMap;

const NO_ORDER: OrderId = OrderId([0; 16]);

/// What Redis must know of a bucket.
#[derive(Debug, PartialEq, Eq)]
pub struct LoadPlan {
    granted: u32,
    /// The first local index that was never granted to an order.
    next: u32,
    /// Indices below `next` that no order has.
    free: Vec<u32>,
    buyers: BTreeMap<BuyerKey, Known>,
    ranks: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Known {
    live_order: OrderId,
    live: u32,
    paid: u32,
    /// The buyer's tickets of ranks below this are spent.
    spent: u64,
    units: Vec<(OrderId, u32)>,
}

impl Default for Known {
    fn default() -> Known {
        Known { live_order: NO_ORDER, live: 0, paid: 0, spent: 0, units: Vec::new() }
    }
}

impl LoadPlan {
    /// What follows from what Postgres has; `index` turns a unit number into its local index.
    pub fn new(loaded: &Loaded, index: impl Fn(u32) -> Option<u32>) -> LoadPlan {
        let mut buyers: BTreeMap<BuyerKey, Known> = BTreeMap::new();
        let mut taken = Vec::new();
        for holder in &loaded.holders {
            let entry = buyers.entry(holder.buyer).or_default();
            let indices: Vec<u32> = holder.units.iter().filter_map(|&unit| index(unit)).collect();
            let count = u32::try_from(indices.len()).unwrap_or(u32::MAX);
            if holder.state == i32::from(State::Paid) {
                entry.paid += count;
            } else {
                entry.live_order = holder.order;
                entry.live += count;
            }
            entry.units.extend(indices.iter().map(|&unit| (holder.order, unit)));
            taken.extend(indices);
        }
        for ticket in &loaded.spent {
            let entry = buyers.entry(ticket.buyer).or_default();
            entry.spent = entry.spent.max(ticket.rank + 1);
        }
        taken.sort_unstable();
        let next = taken.last().map_or(0, |last| last + 1);
        let mut free = Vec::new();
        let mut expected = 0;
        for &unit in &taken {
            free.extend(expected..unit);
            expected = unit + 1;
        }
        LoadPlan {
            granted: loaded.granted,
            next,
            free,
            buyers,
            ranks: loaded.given.unwrap_or(loaded.ranks),
        }
    }

    /// How many units nobody has.
    pub fn free_units(&self) -> u32 {
        self.granted - self.next + u32::try_from(self.free.len()).unwrap_or(u32::MAX)
    }
}

/// What stood in Redis before a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// The oldest epoch of which keys may be left, 0 when there is none.
    pub oldest: i64,
    /// The first rank not given out, if what stood there is to be believed.
    pub given: Option<u64>,
}

/// What a keeper knows of the line before it asks Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineHint {
    /// The newest epoch under which anybody may have given out ranks.
    pub served: i64,
    /// Ranks below this one were given out.
    pub answered: u64,
}

/// Closes the bucket in the server's run `run` to everybody, under the new epoch. Returns what stood there before.
///
/// # Errors
/// [`InventoryError`]; doing it again under the same epoch is safe until it is open.
pub async fn close(
    inventory: &Inventory,
    run: &str,
    (keys, epoch): (&BucketKeys, i64),
    plan: &LoadPlan,
    hint: LineHint,
) -> Result<Before, InventoryError> {
    let mut begin = function("fg_load_begin", &[&keys.rec]);
    begin.arg(epoch).arg(plan.granted).arg(plan.next).arg(plan.ranks);
    // Batches to Redis are counted from 1 under each epoch.
    begin.arg(0).arg(0).arg(0);
    begin.arg(run).arg(hint.served).arg(hint.answered);
    match failpoint::reply(Failpoint::TakeOverBegun, inventory.call(run, &begin)).await? {
        Value::Array(before) => match before[..] {
            [Value::Int(oldest), Value::Int(rank)] => {
                Ok(Before { oldest, given: u64::try_from(rank).ok() })
            }
            _ => Err(odd()),
        },
        _ => Err(odd()),
    }
}

fn odd() -> InventoryError {
    InventoryError::Unknown("load_begin answered in an unknown shape".into())
}

/// Writes down what was read of a closed bucket, in slices.
///
/// # Errors
/// [`InventoryError`]; doing it again under the same epoch is safe until it is open.
pub async fn fill(
    inventory: &Inventory,
    run: &str,
    (keys, epoch): (&BucketKeys, i64),
    plan: &LoadPlan,
) -> Result<(), InventoryError> {
    // A take-over that broke off may have left a part of this epoch's keys.
    unlink(inventory, run, &keys.of_epoch()).await?;
    let buyers: Vec<_> = plan.buyers.iter().collect();
    for some in buyers.chunks(LOAD_SLICE_ENTRIES) {
        let slice = buyers_slice(keys, epoch, some);
        failpoint::reply(Failpoint::TakeOverSlice, inventory.call(run, &slice)).await?;
    }
    for some in plan.free.chunks(LOAD_SLICE_ENTRIES) {
        let mut slice = function("fg_load_free", &[&keys.rec, &keys.free]);
        slice.arg(epoch).arg(some);
        failpoint::reply(Failpoint::TakeOverSlice, inventory.call(run, &slice)).await?;
    }
    Ok(())
}

/// Opens a bucket whose every slice is there.
///
/// # Errors
/// [`InventoryError`]; doing it again under the same epoch is not safe once somebody has been served.
pub async fn open(
    inventory: &Inventory,
    run: &str,
    (keys, epoch): (&BucketKeys, i64),
) -> Result<(), InventoryError> {
    failpoint::reach(Failpoint::TakeOverOpen).await;
    let mut open = function("fg_load_open", &[&keys.rec]);
    open.arg(epoch);
    failpoint::reply(Failpoint::TakeOverOpened, inventory.call(run, &open)).await?;
    Ok(())
}

/// Closes, fills and opens a bucket. Returns what stood there before.
///
/// # Errors
/// [`InventoryError`]; loading again under the same epoch is safe until it is open.
pub async fn load(
    inventory: &Inventory,
    run: &str,
    keys: &BucketKeys,
    loaded: &Loaded,
    plan: &LoadPlan,
) -> Result<Before, InventoryError> {
    let of = (keys, loaded.epoch);
    let before = close(inventory, run, of, plan, LineHint::default()).await?;
    fill(inventory, run, of, plan).await?;
    open(inventory, run, of).await?;
    Ok(before)
}

/// Removes what the epochs from `oldest` up to that of `keys` have left behind, in slices, and notes that it is gone.
///
/// # Errors
/// [`InventoryError`]; what stays takes room only, and the record goes on naming it.
pub async fn forget(
    inventory: &Inventory,
    run: &str,
    (keys, epoch): (&BucketKeys, i64),
    oldest: i64,
) -> Result<(), InventoryError> {
    let epochs: Vec<i64> = (oldest..epoch).collect();
    for some in epochs.chunks(LOAD_SLICE_ENTRIES / 4) {
        let old: Vec<String> = some.iter().flat_map(|old| keys.under(*old).of_epoch()).collect();
        unlink(inventory, run, &old).await?;
    }
    inventory.call(run, function("fg_load_tidy", &[&keys.rec]).arg(epoch)).await?;
    Ok(())
}

/// Removes everything of a bucket that is at rest.
///
/// # Errors
/// [`InventoryError`]; what stays only takes room.
pub async fn remove(
    inventory: &Inventory,
    run: &str,
    keys: &BucketKeys,
) -> Result<(), InventoryError> {
    unlink(inventory, run, &keys.of_epoch()).await?;
    unlink(inventory, run, &keys.of_bucket()).await
}

async fn unlink(inventory: &Inventory, run: &str, keys: &[String]) -> Result<(), InventoryError> {
    for some in keys.chunks(LOAD_SLICE_ENTRIES) {
        inventory.call(run, redis::cmd("UNLINK").arg(some)).await?;
    }
    Ok(())
}

fn buyers_slice(keys: &BucketKeys, epoch: i64, buyers: &[(&BuyerKey, &Known)]) -> Cmd {
    let mut command = function("fg_load_buyers", &[&keys.rec, &keys.units, &keys.buyers]);
    command.arg(epoch);
    for (buyer, has) in buyers {
        let pairs: Vec<u8> = has
            .units
            .iter()
            .flat_map(|(order, unit)| order.0.into_iter().chain(unit.to_be_bytes()))
            .collect();
        command.arg(&buyer.0).arg(&has.live_order.0);
        command.arg(has.live).arg(has.paid).arg(has.spent).arg(pairs);
    }
    command
}

fn function(name: &str, keys: &[&str]) -> Cmd {
    let mut command = redis::cmd("FCALL");
    command.arg(name).arg(keys.len()).arg(keys);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Holder, SpentTicket};

    fn holder(order: u8, buyer: u8, state: State, units: &[u32]) -> Holder {
        Holder {
            order: OrderId([order; 16]),
            buyer: BuyerKey([buyer; 16]),
            state: state.into(),
            ticket: order.into(),
            deadline_us: 0,
            revision: 1,
            attempt: 0,
            intent: None,
            amount_minor: 100,
            units: units.to_vec(),
        }
    }

    fn spent((buyer, rank): (u8, u64)) -> SpentTicket {
        SpentTicket { buyer: BuyerKey([buyer; 16]), rank }
    }

    #[test]
    fn what_no_order_has_is_free() {
        let loaded = Loaded {
            epoch: 3,
            hold_batch: 0,
            settle_batch: 0,
            granted: 10,
            ranks: 7,
            given: None,
            tail: 0,
            cursor: 0,
            gate_us: 0,
            shares: vec![],
            holders: vec![
                holder(1, 1, State::Paid, &[101]),
                holder(2, 1, State::Held, &[104]),
                holder(3, 2, State::Paying, &[105, 106]),
            ],
            spent: [(1, 1), (1, 2), (3, 9)].map(spent).to_vec(),
        };
        let plan = LoadPlan::new(&loaded, |unit| unit.checked_sub(100));
        assert_eq!((plan.next, &plan.free[..]), (7, &[0, 2, 3][..]));
        assert_eq!(plan.free_units() + 4, 10);
        let first = &plan.buyers[&BuyerKey([1; 16])];
        assert_eq!((first.live_order, first.live, first.paid), (OrderId([2; 16]), 1, 1));
        let spent = [1, 2, 3].map(|buyer| plan.buyers[&BuyerKey([buyer; 16])].spent);
        assert_eq!(spent, [3, 0, 10], "the highest of a buyer's tickets, and whoever has no unit");
        let second = &plan.buyers[&BuyerKey([2; 16])];
        assert_eq!((second.live_order, second.live, second.paid), (OrderId([3; 16]), 2, 0));
    }
}
