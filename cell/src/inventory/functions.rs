//! Typed calls of the bucket's functions: `hold.lua`, `settle.lua`, `join.lua`.

use super::{BucketKeys, Inventory, InventoryError};
use proto::id::{BuyerKey, OrderId};
use redis::Value;

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
        let mut command = redis::cmd("FCALL");
        command.arg("fg_hold").arg(4 + tries.len());
        command.arg(&keys.rec).arg(&keys.units).arg(&keys.free).arg(&keys.spent);
        for hold in tries {
            command.arg(keys.buyer(hold.buyer));
        }
        command.arg(epoch).arg(batch).arg(cap);
        for hold in tries {
            command.arg(&hold.buyer.0).arg(&hold.order.0).arg(hold.rank).arg(hold.quantity);
        }
        let Value::Array(answers) = self.call(run, &command).await? else {
            return Err(odd("hold"));
        };
        if answers.len() != tries.len() {
            return Err(odd("hold"));
        }
        answers.iter().map(|answer| grant(answer).ok_or_else(|| odd("hold"))).collect()
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
        let mut command = redis::cmd("FCALL");
        command.arg("fg_settle").arg(4 + settled.len());
        command.arg(&keys.rec).arg(&keys.units).arg(&keys.free).arg(&keys.spent);
        for entry in settled {
            command.arg(keys.buyer(entry.buyer));
        }
        command.arg(epoch).arg(batch);
        for entry in settled {
            let what = match entry.what {
                What::Returned => "R",
                What::Undone => "U",
                What::Paid => "P",
            };
            let indices: Vec<u8> =
                entry.indices.iter().flat_map(|index| index.to_be_bytes()).collect();
            command.arg(what).arg(&entry.buyer.0).arg(&entry.order.0).arg(entry.rank).arg(indices);
        }
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
        command.arg("fg_join").arg(2 + 2 * joiners.len()).arg(&keys.rec).arg(&keys.spent);
        for &buyer in joiners {
            command.arg(keys.joiner(buyer)).arg(keys.buyer(buyer));
        }
        command.arg(epoch).arg(batch).arg(tail).arg(ranks_end).arg(cap);
        for buyer in joiners {
            command.arg(&buyer.0);
        }
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
fn odd(function: &str) -> InventoryError {
    InventoryError::Unknown(format!("{function} answered in an unknown shape"))
}

fn grant(answer: &Value) -> Option<Grant> {
    let Value::BulkString(bytes) = answer else { return None };
    let (kind, rest) = bytes.split_first()?;
    Some(match kind {
        b'G' => {
            let (&paid, rest) = rest.split_first()?;
            let (units, []) = rest.as_chunks::<4>() else { return None };
            Grant::Granted {
                paid,
                indices: units.iter().map(|unit| u32::from_be_bytes(*unit)).collect(),
            }
        }
        b'L' => Grant::Live(OrderId(rest.try_into().ok()?)),
        b'S' => Grant::Spent,
        b'C' => Grant::OverCap(*rest.first()?),
        b'N' => Grant::None,
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
