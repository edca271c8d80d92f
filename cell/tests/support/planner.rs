//! A control plane's part in transfers, played by a test: it asks, waits, and clears away what is over.

use etcd_client::{Client as Etcd, Compare, CompareOp, DeleteOptions, Txn, TxnOp};
use prost::Message;
use proto::keys;
use proto::wire::cell::{BucketReport, SaleRecord, TransferRecord, transfer_record::State};

use crate::cell::{CellUnderTest, DEADLINE, until};

/// What the control plane does about transfers of one sale.
#[derive(Clone)]
pub(crate) struct Planner {
    etcd: Etcd,
    sale: String,
}

impl Planner {
    /// Reaches etcd.
    pub(crate) async fn of(cell: &CellUnderTest, sale: &SaleRecord) -> Planner {
        let url = cell.stack.endpoint("etcd").unwrap().url;
        Planner { etcd: Etcd::connect([url], None).await.unwrap(), sale: sale.sale.clone() }
    }

    fn key(&self, transfer: u8) -> String {
        keys::transfer(&self.sale, &[transfer; 16])
    }

    /// Writes a transfer's first record.
    pub(crate) async fn begin(&mut self, transfer: u8, record: TransferRecord) {
        let record = TransferRecord {
            sale: self.sale.clone(),
            transfer: vec![transfer; 16],
            create_ms: 1,
            ..record
        };
        self.etcd.put(self.key(transfer), record.encode_to_vec(), None).await.unwrap();
    }

    /// Asks `from` for units.
    pub(crate) async fn ask(&mut self, transfer: u8, (from, to): (u32, Option<u32>), wanted: u32) {
        let state = State::Asked.into();
        let asked =
            TransferRecord { from: Some(from), to, wanted, state, ..TransferRecord::default() };
        self.begin(transfer, asked).await;
    }

    async fn read(&mut self, transfer: u8) -> Option<(TransferRecord, i64)> {
        let got = self.etcd.get(self.key(transfer), None).await.ok()?;
        let kv = got.kvs().first()?;
        Some((TransferRecord::decode(kv.value()).unwrap(), kv.mod_revision()))
    }

    /// Waits until a transfer is over and removes it. Returns how many units were moved.
    pub(crate) async fn end(&mut self, transfer: u8) -> u32 {
        let (record, revision) = until(DEADLINE, async || {
            let (record, revision) = self.read(transfer).await.ok_or("etcd does not say")?;
            let over = match record.state() {
                State::Accepted => true,
                State::Given => record.units.is_empty() || record.to.is_none(),
                _ => false,
            };
            if over { Ok((record, revision)) } else { Err(format!("{record:?}")) }
        })
        .await;
        let key = self.key(transfer);
        let as_seen = Compare::mod_revision(key.as_str(), CompareOp::Equal, revision);
        let delete = TxnOp::delete(key.as_str(), None::<DeleteOptions>);
        let done = self.etcd.txn(Txn::new().when([as_seen]).and_then([delete])).await.unwrap();
        assert!(done.succeeded(), "nobody moves on what is over");
        record.units.iter().map(|range| range.units).sum()
    }

    /// What a bucket reported last.
    pub(crate) async fn report(&mut self, bucket: u32) -> Option<BucketReport> {
        let got = self.etcd.get(keys::report(&self.sale, bucket), None).await.unwrap();
        got.kvs().first().map(|kv| BucketReport::decode(kv.value()).unwrap())
    }
}
