//! Typed calls of the bucket's functions: `hold.lua`, `settle.lua`, `join.lua`.

use super::{BucketKeys, Inventory, InventoryError};
use proto::id::{BuyerKey, OrderId};
use redis::Value;

/// Bytes of an entry of `hold.lua`.
const ENTRY_BYTES: usize = 41;
/// Bytes of an entry of `settle.lua` without its units, and of a unit there.
const SETTLED_BYTES: usize = 43;
const UNIT_BYTES: usize = 4;

/// A hold to try.
#[derive(Clone, Copy, Debug)]
pub struct HoldTry {
    /// Whose.
    pub buyer: BuyerKey,
    /// Derived from the request.
    pub order: OrderId,
    /// Of the ticket.
    pub rank: u64,
    /// How many units.
    pub quantity: u32,
}

/// What became of a hold that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// These local indices may be tried in the ledger.
    Granted {
        /// Units that the buyer has paid for before.
        paid: u8,
        /// Local indices.
        indices: Vec<u32>,
    },
    /// The buyer has this live order already.
    Live(OrderId),
    /// The ticket is spent.
    Spent,
    /// It would exceed the cap; the buyer has this many paid units.
    OverCap(u8),
    /// Too few units are free.
    None,
}

/// What the ledger has committed about an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It ended: its units return.
    Returned,
    /// Its hold was never committed.
    Undone,
    /// It is paid for.
    Paid,
    /// It was paid for and refunded: its units return.
    Refunded,
}

/// A consequence of something committed.
#[derive(Clone, Debug)]
pub struct Settled {
    /// What was committed.
    pub what: What,
    /// Whose order.
    pub buyer: BuyerKey,
    /// Which.
    pub order: OrderId,
    /// Of its ticket.
    pub rank: u64,
    /// The local indices of its units.
    pub indices: Vec<u32>,
}

/// A buyer who joins.
pub type JoinTry = BuyerKey;

/// What became of a buyer who joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// Their rank, new or as before.
    Rank(u64),
    /// No committed rank is left: commit more and ask again.
    NoRank,
    /// They have all the units that the cap allows.
    OverCap,
}

impl Joined {
    /// The rank, if there is one.
    pub fn rank(&self) -> Option<u64> {
        match self {
            Joined::Rank(rank) => Some(*rank),
            Joined::NoRank | Joined::OverCap => None,
        }
    }
}

impl Inventory {
    /// Tries a batch of holds, in their order.
    ///
    /// # Errors
    /// [`InventoryError`]; after `Unknown` the same batch may be sent again.
    pub async fn hold(
        &self,
        run: &str,
        keys: &BucketKeys,
        (epoch, batch): (i64, i64),
        cap: u32,
        tries: &[HoldTry],
    ) -> Result<Vec<Grant>, InventoryError> {
        let mut entries = Vec::with_capacity(tries.len() * ENTRY_BYTES);
        for hold in tries {
            // More than a byte holds is more than any cap.
            let quantity = u8::try_from(hold.quantity).unwrap_or(u8::MAX);
            entries.extend_from_slice(&hold.buyer.0);
            entries.extend_from_slice(&hold.order.0);
            entries.extend_from_slice(&hold.rank.to_be_bytes());
            entries.push(quantity);
        }
        let mut command = redis::cmd("FCALL");
        command.arg("fg_hold").arg(4);
        command.arg(&keys.rec).arg(&keys.units).arg(&keys.free).arg(&keys.buyers);
        command.arg(epoch).arg(batch).arg(cap).arg(entries);
        let Value::BulkString(answers) = self.call(run, &command).await? else {
            return Err(odd("hold"));
        };
        grants(&answers).filter(|grants| grants.len() == tries.len()).ok_or_else(|| odd("hold"))
    }

    /// Follows a batch of what the ledger has committed. Returns how many units became free.
    ///
    /// # Errors
    /// [`InventoryError`]; after `Unknown` the same batch may be sent again.
    pub async fn settle(
        &self,
        run: &str,
        keys: &BucketKeys,
        (epoch, batch): (i64, i64),
        settled: &[Settled],
    ) -> Result<u32, InventoryError> {
        let mut entries = Vec::with_capacity(settled.len() * (SETTLED_BYTES + UNIT_BYTES));
        for entry in settled {
            entries.push(match entry.what {
                What::Returned => b'R',
                What::Undone => b'U',
                What::Paid => b'P',
                What::Refunded => b'F',
            });
            entries.extend_from_slice(&entry.buyer.0);
            entries.extend_from_slice(&entry.order.0);
            entries.extend_from_slice(&entry.rank.to_be_bytes());
            let units = u16::try_from(entry.indices.len()).map_err(|_| too_many(entry.order))?;
            entries.extend_from_slice(&units.to_be_bytes());
            entries.extend(entry.indices.iter().flat_map(|index| index.to_be_bytes()));
        }
        let mut command = redis::cmd("FCALL");
        command.arg("fg_settle").arg(4);
        command.arg(&keys.rec).arg(&keys.units).arg(&keys.free).arg(&keys.buyers);
        command.arg(epoch).arg(batch).arg(entries);
        match self.call(run, &command).await? {
            Value::Int(freed) => u32::try_from(freed).map_err(|_| odd("settle")),
            _ => Err(odd("settle")),
        }
    }

    /// Gives a batch of buyers their ranks; `tail` and `ranks_end` are the gate's and the committed block's.
    ///
    /// # Errors
    /// [`InventoryError`]; after `Unknown` the same batch may be sent again.
    pub async fn join(
        &self,
        run: &str,
        keys: &BucketKeys,
        (epoch, batch): (i64, i64),
        (tail, ranks_end, cap): (u64, u64, u32),
        joiners: &[JoinTry],
    ) -> Result<Vec<Joined>, InventoryError> {
        let mut command = redis::cmd("FCALL");
        command.arg("fg_join").arg(2 + joiners.len()).arg(&keys.rec).arg(&keys.buyers);
        for &buyer in joiners {
            command.arg(keys.joiner(buyer));
        }
        let buyers: Vec<u8> = joiners.iter().flat_map(|buyer| buyer.0).collect();
        command.arg(epoch).arg(batch).arg(tail).arg(ranks_end).arg(cap).arg(buyers);
        let Value::Array(answers) = self.call(run, &command).await? else {
            return Err(odd("join"));
        };
        if answers.len() != joiners.len() {
            return Err(odd("join"));
        }
        answers.iter().map(|answer| joined(answer).ok_or_else(|| odd("join"))).collect()
    }
}

/// An answer of another shape than the script's header says: a defect, after which nothing is sure.
pub(super) fn odd(function: &str) -> InventoryError {
    InventoryError::Unknown(format!("{function} answered in an unknown shape"))
}

/// An order of more units than any cap allows: nothing was sent, and nothing is sure.
fn too_many(order: OrderId) -> InventoryError {
    InventoryError::Unknown(format!("order {order} has more units than an order can have"))
}

/// The answers of `hold.lua`, one behind the other.
fn grants(mut answers: &[u8]) -> Option<Vec<Grant>> {
    let mut grants = Vec::new();
    while !answers.is_empty() {
        let (grant, rest) = grant(answers)?;
        grants.push(grant);
        answers = rest;
    }
    Some(grants)
}

fn grant(answer: &[u8]) -> Option<(Grant, &[u8])> {
    let (kind, rest) = answer.split_first()?;
    Some(match kind {
        b'G' => {
            let (&[paid, count], rest) = rest.split_first_chunk()?;
            let (units, rest) = rest.split_at_checked(4 * usize::from(count))?;
            let indices = units.as_chunks::<4>().0.iter().map(|unit| u32::from_be_bytes(*unit));
            (Grant::Granted { paid, indices: indices.collect() }, rest)
        }
        b'L' => {
            let (order, rest) = rest.split_first_chunk()?;
            (Grant::Live(OrderId(*order)), rest)
        }
        b'S' => (Grant::Spent, rest),
        b'C' => {
            let (paid, rest) = rest.split_first()?;
            (Grant::OverCap(*paid), rest)
        }
        b'N' => (Grant::None, rest),
        _ => return None,
    })
}

fn joined(answer: &Value) -> Option<Joined> {
    match answer {
        Value::Int(-1) => Some(Joined::NoRank),
        Value::Int(-2) => Some(Joined::OverCap),
        Value::Int(rank) => u64::try_from(*rank).ok().map(Joined::Rank),
        _ => None,
    }
}
