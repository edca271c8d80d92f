//! Reads a cell's Redis: what it remembers of each bucket, under the epoch that its record names.
//!
//! ```text
//! fg:{org:sale:bucket}:rec       hash: epoch, open, granted, next, …
//! fg:{org:sale:bucket}:e<e>:u    16 bytes a unit, at its local index: the order that has it, zeros when it is free
//! fg:{org:sale:bucket}:e<e>:f    list of local indices that were returned
//! fg:{org:sale:bucket}:e<e>:b    hash: buyer -> order (16 bytes), live units, paid units (a byte each), and the rank (8
//!                                bytes) below which the buyer's tickets are spent
//! ```

use std::collections::HashMap;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, RedisError, cmd};

use super::ReadError;
use super::evidence::{Bucket, BuyerMemory, Memory};
use crate::id::{BuyerKey, OrderId};

/// A Redis beside a crowd may be slow to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Adds to each bucket what the Redis remembers of it.
pub(super) async fn read(cell: &str, url: &str, buckets: &mut [Bucket]) -> Result<(), ReadError> {
    let failed = |source| ReadError::Redis { cell: cell.to_owned(), source };
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER_LIMIT));
    let client = Client::open(url).map_err(failed)?;
    let connected = client.get_multiplexed_async_connection_with_config(&config).await;
    let mut connection = connected.map_err(failed)?;
    for bucket in buckets {
        bucket.memory = memory(&mut connection, bucket).await.map_err(failed)?;
    }
    Ok(())
}

async fn memory(
    connection: &mut MultiplexedConnection,
    bucket: &Bucket,
) -> Result<Option<Memory>, RedisError> {
    let tag = format!("fg:{{{}:{}:{}}}", bucket.org, bucket.sale, bucket.number);
    let mut read = cmd("HGETALL");
    let record: HashMap<String, Vec<u8>> =
        read.arg(format!("{tag}:rec")).query_async(connection).await?;
    if record.is_empty() {
        return Ok(None);
    }
    let field = |name| number(&record, name);
    let epoch = field("epoch");
    let folder = format!("{tag}:e{epoch}:");
    let units: Vec<u8> = cmd("GET").arg(format!("{folder}u")).query_async(connection).await?;
    let mut list = cmd("LRANGE");
    list.arg(format!("{folder}f")).arg(0).arg(-1);
    let returned: Vec<u32> = list.query_async(connection).await?;
    let hash: HashMap<Vec<u8>, Vec<u8>> =
        cmd("HGETALL").arg(format!("{folder}b")).query_async(connection).await?;
    let mut buyers: Vec<BuyerMemory> =
        hash.iter().filter_map(|(buyer, value)| buyer_memory(buyer, value)).collect();
    buyers.sort_unstable_by_key(|buyer| buyer.buyer);
    Ok(Some(Memory {
        epoch,
        open: field("open") == 1,
        granted: u32::try_from(field("granted")).unwrap_or(u32::MAX),
        next: u32::try_from(field("next")).unwrap_or(u32::MAX),
        units: units.chunks(16).map(order_at).collect(),
        returned,
        buyers,
    }))
}

/// A field of the record; -1, which none of them ever is, when there is no number in it.
fn number(record: &HashMap<String, Vec<u8>>, name: &str) -> i64 {
    let text = record.get(name).and_then(|value| std::str::from_utf8(value).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(-1)
}

fn order_at(bytes: &[u8]) -> Option<OrderId> {
    let free = bytes.iter().all(|byte| *byte == 0);
    // Fewer than 16 bytes are no order, but not free either.
    let mut id = [0; 16];
    id[..bytes.len()].copy_from_slice(bytes);
    (!free).then_some(OrderId(id))
}

fn buyer_memory(buyer: &[u8], value: &[u8]) -> Option<BuyerMemory> {
    let buyer = BuyerKey::try_from(buyer).ok()?;
    let (&[live, paid], spent) = value.get(16..)?.split_first_chunk()?;
    let spent_below = i64::from_be_bytes(spent.try_into().ok()?);
    Some(BuyerMemory { buyer, live: live.into(), paid: paid.into(), spent_below })
}
