//! Transfers, reports, and the changes of a sale's stock.
//!
//! Whoever writes a transfer compares the sale with what they saw of it, and the change of a sale's stock writes the sale
//! as well: so no transfer begins behind the back of a leader that settles the sale.

use etcd_client::{GetOptions, TxnOp};
use prost::Message;
use proto::keys;
use proto::wire::cell::{BucketReport, SaleRecord, TransferRecord};

use super::sales::sale_key;
use super::{Fence, Kept, Store, StoreError, absent, unchanged};

/// A change of a sale's stock, as it is remembered: a repeat finds it, and another one under its id is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockChange {
    /// The request's id: 16 bytes.
    pub request: [u8; 16],
    /// What it asked for.
    pub asked: String,
}

fn changes_prefix(sale: &str) -> String {
    format!("{}stock/{sale}/", keys::CONTROL)
}

fn change_key(sale: &str, request: [u8; 16]) -> String {
    format!("{}{}", changes_prefix(sale), proto::id::hex(&request))
}

fn key_of(transfer: &TransferRecord) -> String {
    keys::transfer(&transfer.sale, &transfer.transfer)
}

impl Store {
    /// What a request asked for that has changed the sale's stock; none when there was no such request.
    ///
    /// # Errors
    /// As all reads: [`StoreError::Away`] or [`StoreError::Unreadable`].
    pub async fn stock_change(
        &self,
        sale: &str,
        request: [u8; 16],
    ) -> Result<Option<String>, StoreError> {
        let mut client = self.client.kv_client();
        let key = change_key(sale, request);
        let found = self.ask("read a change of stock", client.get(key, None)).await?;
        Ok(found.kvs().first().map(|kv| String::from_utf8_lossy(kv.value()).into_owned()))
    }

    /// How often the sale's stock was changed. Counted beside other writers: it may be off by those under way.
    ///
    /// # Errors
    /// As [`Self::stock_change`].
    pub async fn stock_change_count(&self, sale: &str) -> Result<usize, StoreError> {
        let options = GetOptions::new().with_prefix().with_count_only();
        let mut client = self.client.kv_client();
        let counting = client.get(changes_prefix(sale), Some(options));
        let counted = self.ask("count changes of stock", counting).await?;
        Ok(usize::try_from(counted.count()).unwrap_or(usize::MAX))
    }

    /// What keepers say of a sale's buckets: the number in the key counts, one report a bucket.
    ///
    /// # Errors
    /// As [`Self::stock_change`].
    pub async fn reports(&self, sale: &SaleRecord) -> Result<Vec<BucketReport>, StoreError> {
        let prefix = format!("{}{}/", keys::REPORTS, sale.sale);
        let found = self.all::<BucketReport>("read reports", &prefix).await?;
        Ok(found.into_iter().map(|report| report.value).collect())
    }

    /// Writes the sale that was read at `revision`, remembers the change of its stock, and begins its transfers, all at
    /// once: whoever sees the new stock sees that it is on its way.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the sale was written in between, or the change was made before.
    pub async fn change_stock(
        &self,
        sale: &SaleRecord,
        revision: i64,
        change: &StockChange,
        transfers: &[TransferRecord],
    ) -> Result<i64, StoreError> {
        let (key, change_key) = (sale_key(&sale.sale), change_key(&sale.sale, change.request));
        let when = vec![unchanged(&key, revision), absent(&change_key)];
        let mut then = vec![
            TxnOp::put(key, sale.encode_to_vec(), None),
            TxnOp::put(change_key, change.asked.as_str(), None),
        ];
        then.extend(transfers.iter().map(|one| TxnOp::put(key_of(one), one.encode_to_vec(), None)));
        self.commit("change a sale's stock", when, then).await
    }

    /// Begins transfers of a sale that was read at `revision`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the sale was written in between, or another leader has come.
    pub async fn ask_transfers(
        &self,
        sale: &SaleRecord,
        revision: i64,
        transfers: &[TransferRecord],
        fence: Fence,
    ) -> Result<i64, StoreError> {
        let mut when = vec![fence.compare(), unchanged(&sale_key(&sale.sale), revision)];
        when.extend(transfers.iter().map(|one| absent(&key_of(one))));
        let puts = transfers.iter().map(|one| TxnOp::put(key_of(one), one.encode_to_vec(), None));
        self.commit("ask for transfers", when, puts.collect()).await
    }

    /// Removes transfers that are over, and writes the sale that was read at `revision` when it counts what the merchant
    /// took back with them.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when one of them or that sale was written in between, or another leader has come.
    pub async fn finish_transfers(
        &self,
        over: &[Kept<TransferRecord>],
        sale: Option<(&SaleRecord, i64)>,
        fence: Fence,
    ) -> Result<i64, StoreError> {
        let mut when = vec![fence.compare()];
        when.extend(over.iter().map(|one| unchanged(&key_of(&one.value), one.revision)));
        let mut then: Vec<TxnOp> =
            over.iter().map(|one| TxnOp::delete(key_of(&one.value), None)).collect();
        if let Some((sale, revision)) = sale {
            let key = sale_key(&sale.sale);
            when.push(unchanged(&key, revision));
            then.push(TxnOp::put(key, sale.encode_to_vec(), None));
        }
        self.commit("finish transfers", when, then).await
    }
}
