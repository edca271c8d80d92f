//! Looking at a bucket without changing it: `look.lua`.

use super::{BucketKeys, Inventory, InventoryError};
use proto::id::OrderId;
use proto::limits::AUDIT_RETURNED_MAX;
use redis::{FromRedisValue, Value};

/// Bytes of an order's id.
const ORDER_BYTES: usize = 16;

/// Some units of a bucket at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// The last batch of holds.
    pub hold_batch: u64,
    /// The last batch of what followed commits.
    pub settle_batch: u64,
    /// The first local index that was never granted.
    pub next: u32,
    /// Where the local indices end.
    pub end: u32,
    /// How many local indices were returned and are free.
    pub returned: usize,
    /// Some of them, in the order in which they would be granted.
    pub listed: Vec<u32>,
    /// For each index that was asked for: the order that has it.
    pub owners: Vec<Option<OrderId>>,
}

impl Looked {
    /// Whether all that were returned are listed.
    pub fn lists_all(&self) -> bool {
        self.listed.len() == self.returned
    }
}

impl Inventory {
    /// Looks at the units of `indices`, and at most [`AUDIT_RETURNED_MAX`] of the returned ones from place `from` on, as one
    /// moment has them.
    ///
    /// # Errors
    /// [`InventoryError`]: nothing is known then.
    pub async fn look(
        &self,
        keys: &BucketKeys,
        epoch: i64,
        indices: &[u32],
        from: usize,
    ) -> Result<Looked, InventoryError> {
        let run = self.run().await?;
        let runs = runs_of(indices);
        let packed: Vec<u8> = runs
            .iter()
            .flat_map(|(first, count)| [first.to_be_bytes(), count.to_be_bytes()])
            .flatten()
            .collect();
        let mut command = redis::cmd("FCALL");
        command.arg("fg_look").arg(3).arg(&keys.rec).arg(&keys.units).arg(&keys.free);
        command.arg(epoch).arg(&*run).arg(AUDIT_RETURNED_MAX).arg(from).arg(packed);
        let answer = self.call(&run, &command).await?;
        looked(answer, &runs)
            .ok_or_else(|| InventoryError::Unknown("look answered in an unknown shape".into()))
    }
}

fn looked(answer: Value, runs: &[(u32, u32)]) -> Option<Looked> {
    let Value::Array(mut parts) = answer else { return None };
    if parts.len() != 6 + runs.len() {
        return None;
    }
    let runs_of_owners = parts.split_off(6);
    let [hold_batch, settle_batch, next, end, count, listed] =
        <[Value; 6]>::try_from(parts).ok()?;
    let mut owners = Vec::new();
    for (value, (_, length)) in runs_of_owners.into_iter().zip(runs) {
        let mut bytes = Vec::<u8>::from_redis_value(value).ok()?;
        bytes.resize(usize::try_from(*length).ok()? * ORDER_BYTES, 0);
        let orders = bytes.as_chunks::<ORDER_BYTES>().0;
        owners.extend(
            orders.iter().map(|order| (*order != [0; ORDER_BYTES]).then_some(OrderId(*order))),
        );
    }
    Some(Looked {
        hold_batch: u64::from_redis_value(hold_batch).ok()?,
        settle_batch: u64::from_redis_value(settle_batch).ok()?,
        next: u32::from_redis_value(next).ok()?,
        end: u32::from_redis_value(end).ok()?,
        returned: usize::from_redis_value(count).ok()?,
        listed: Vec::from_redis_value(listed).ok()?,
        owners,
    })
}

/// Indices as runs of a first one and a count, in the same order.
fn runs_of(indices: &[u32]) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &index in indices {
        match runs.last_mut() {
            Some((first, count)) if first.checked_add(*count) == Some(index) => *count += 1,
            _ => runs.push((index, 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_asked_for_at_once() {
        assert_eq!(runs_of(&[4, 5, 6, 9, 8, 9]), [(4, 3), (9, 1), (8, 2)]);
        assert_eq!(runs_of(&[]), []);
    }

    #[test]
    fn what_was_never_written_is_nobodys() {
        let owners = [vec![7; 16], vec![0; 16]].concat();
        let answer = |returned: Vec<Value>| {
            let numbers = [3, 4, 5, 9, 2].map(Value::Int);
            let mut parts = numbers.to_vec();
            parts.push(Value::Array(returned));
            parts.push(Value::BulkString(owners.clone()));
            Value::Array(parts)
        };
        let seen = looked(answer(vec![Value::BulkString(b"1".into()), Value::Int(2)]), &[(0, 3)]);
        let expected = Looked {
            hold_batch: 3,
            settle_batch: 4,
            next: 5,
            end: 9,
            returned: 2,
            listed: vec![1, 2],
            owners: vec![Some(OrderId([7; 16])), None, None],
        };
        assert_eq!(seen, Some(expected));
        assert!(seen.unwrap().lists_all());
        assert!(!looked(answer(vec![Value::Int(1)]), &[(0, 3)]).unwrap().lists_all());
        assert_eq!(looked(answer(vec![]), &[]), None);
    }
}
