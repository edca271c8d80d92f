//! Typed calls of `move.lua`: units leave a bucket, or come to it.

use super::functions::odd;
use super::{BucketKeys, Inventory, InventoryError};
use crate::transfer::TransferId;
use proto::limits::LOAD_SLICE_ENTRIES;
use redis::Value;

impl Inventory {
    /// Takes out at most `most` free units for a transfer. Returns their local indices, which name the transfer from now
    /// on; a return that names it makes them free again.
    ///
    /// # Errors
    /// [`InventoryError`]; after `Unknown` the same batch may be sent again.
    pub async fn take_out(
        &self,
        run: &str,
        keys: &BucketKeys,
        (epoch, batch): (i64, i64),
        transfer: TransferId,
        most: u32,
    ) -> Result<Vec<u32>, InventoryError> {
        let mut command = redis::cmd("FCALL");
        command.arg("fg_take_out").arg(3).arg(&keys.rec).arg(&keys.units).arg(&keys.free);
        command.arg(epoch).arg(batch).arg(&transfer.0).arg(most).arg(LOAD_SLICE_ENTRIES);
        let Value::BulkString(taken) = self.call(run, &command).await? else {
            return Err(odd("take_out"));
        };
        indices(&taken, most).ok_or_else(|| odd("take_out"))
    }

    /// Lets a bucket whose local indices end at `end` have `units` more. Returns where they end now.
    ///
    /// # Errors
    /// [`InventoryError`]; after `Unknown` the same batch may be sent again.
    pub async fn append(
        &self,
        run: &str,
        keys: &BucketKeys,
        (epoch, batch): (i64, i64),
        (end, units): (u32, u32),
    ) -> Result<u32, InventoryError> {
        let mut command = redis::cmd("FCALL");
        command.arg("fg_append").arg(1).arg(&keys.rec);
        command.arg(epoch).arg(batch).arg(end).arg(units);
        match self.call(run, &command).await? {
            Value::Int(end) => u32::try_from(end).map_err(|_| odd("append")),
            _ => Err(odd("append")),
        }
    }
}

/// The indices of an answer of `take_out`, at most `most`.
fn indices(taken: &[u8], most: u32) -> Option<Vec<u32>> {
    let (ranges, rest) = taken.as_chunks::<8>();
    let mut indices = Vec::new();
    for &[a, b, c, d, e, f, g, h] in ranges {
        let (first, count) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        if count > most {
            return None;
        }
        indices.extend(first..first.checked_add(count)?);
    }
    let fits = u32::try_from(indices.len()).is_ok_and(|count| count <= most);
    (rest.is_empty() && fits).then_some(indices)
}
