//! Units on their way, as the cells at both ends see them; the merchant's changes of stock.

use std::time::Duration;

use prost::Message;
use proto::keys;
use proto::wire::admin::{AddStockRequest, SurrenderStockRequest};
use proto::wire::cell::{TransferRecord, UnitRange, transfer_record};
use tokio::time::{Instant, sleep};

use super::{SOON, World, id};

/// What a cell makes of a transfer.
pub(crate) enum Carried {
    /// Ranges: the first unit and how many.
    Given(Vec<(u32, u32)>),
    Accepted,
}

pub(crate) fn adding(name: &str, units: u32, request_id: &str) -> AddStockRequest {
    AddStockRequest { name: name.to_owned(), units, request_id: request_id.to_owned() }
}

pub(crate) fn surrendering(name: &str, units: u32, request_id: &str) -> SurrenderStockRequest {
    SurrenderStockRequest { name: name.to_owned(), units, request_id: request_id.to_owned() }
}

impl World {
    /// The sale's transfers as they lie in etcd, by giver and receiver.
    pub(crate) async fn transfers(&mut self, name: &str) -> Vec<TransferRecord> {
        let prefix = format!("{}{}/", keys::TRANSFERS, id(name));
        let options = etcd_client::GetOptions::new().with_prefix();
        let found = self.etcd.get(prefix, Some(options)).await.unwrap();
        let decode = |kv: &etcd_client::KeyValue| TransferRecord::decode(kv.value()).unwrap();
        let mut transfers: Vec<_> = found.kvs().iter().map(decode).collect();
        transfers.sort_by_key(|transfer| (transfer.from, transfer.to));
        transfers
    }

    /// Waits until the sale has so many transfers.
    pub(crate) async fn transfers_are(&mut self, name: &str, count: usize) -> Vec<TransferRecord> {
        let deadline = Instant::now() + SOON;
        loop {
            let transfers = self.transfers(name).await;
            if transfers.len() == count {
                return transfers;
            }
            assert!(Instant::now() < deadline, "still {transfers:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Moves a transfer on as a cell would.
    pub(crate) async fn carry(&mut self, mut transfer: TransferRecord, to: Carried) {
        match to {
            Carried::Given(units) => {
                let range =
                    |(first, units): &(u32, u32)| UnitRange { first: *first, units: *units };
                transfer.units = units.iter().map(range).collect();
                transfer.set_state(transfer_record::State::Given);
            }
            Carried::Accepted => transfer.set_state(transfer_record::State::Accepted),
        }
        let key = keys::transfer(&transfer.sale, &transfer.transfer);
        self.etcd.put(key, transfer.encode_to_vec(), None).await.unwrap();
    }
}
