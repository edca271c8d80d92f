//! Sales, and the lists in which an org's sales are found.

use etcd_client::{GetOptions, Txn, TxnOp, TxnOpResponse};
use prost::Message;
use proto::id::{OrgId, SaleId};
use proto::keys;
use proto::wire::cell::SaleRecord;

use super::{Fence, Kept, Page, Store, StoreError, absent, decode, unchanged};
use crate::lifecycle;

/// Records that one transaction reads; etcd takes at most 128.
const READS_MAX: usize = 100;

/// Sales for which something may still be due.
pub(crate) fn unfinished_prefix() -> String {
    format!("{}unfinished/", keys::CONTROL)
}

fn listed_prefix(org: &OrgId) -> String {
    format!("{}sales/{org}/", keys::CONTROL)
}

fn listed_key(sale: &SaleRecord) -> String {
    format!("{}sales/{}/{}", keys::CONTROL, sale.org, sale.sale)
}

fn unfinished_key(sale: &SaleRecord) -> String {
    format!("{}{}/{}", unfinished_prefix(), sale.org, sale.sale)
}

pub(super) fn sale_key(id: &str) -> String {
    format!("{}{id}", keys::SALES)
}

impl Store {
    /// One sale, of whichever org.
    ///
    /// # Errors
    /// As all reads: [`StoreError::Away`] or [`StoreError::Unreadable`].
    pub async fn sale(&self, sale: &SaleId) -> Result<Option<Kept<SaleRecord>>, StoreError> {
        self.get("read a sale", keys::sale(sale)).await
    }

    /// A page of an org's sales by id, and whether there are more.
    ///
    /// # Errors
    /// As [`Self::sale`].
    pub async fn sales(
        &self,
        org: &OrgId,
        page: &Page,
    ) -> Result<(Vec<Kept<SaleRecord>>, bool), StoreError> {
        let (ids, more) = self.names("list sales", &listed_prefix(org), page).await?;
        let mut sales = Vec::with_capacity(ids.len());
        for ids in ids.chunks(READS_MAX) {
            let reads = ids.iter().map(|id| TxnOp::get(sale_key(id), None));
            let txn = Txn::new().and_then(reads.collect::<Vec<_>>());
            let answer = self.ask("read sales", self.client.kv_client().txn(txn)).await?;
            for read in answer.op_responses() {
                if let TxnOpResponse::Get(found) = read {
                    sales.extend(found.kvs().first().map(decode).transpose()?);
                }
            }
        }
        Ok((sales, more))
    }

    /// How many of an org's sales are not finished. Counted beside other writers: it may be off by those under way.
    ///
    /// # Errors
    /// As [`Self::sale`].
    pub async fn unfinished_count(&self, org: &OrgId) -> Result<usize, StoreError> {
        let prefix = format!("{}{org}/", unfinished_prefix());
        let options = GetOptions::new().with_prefix().with_count_only();
        let mut client = self.client.kv_client();
        let counted = self.ask("count sales", client.get(prefix, Some(options))).await?;
        Ok(usize::try_from(counted.count()).unwrap_or(0))
    }

    /// Writes a new sale down.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it exists.
    pub async fn create_sale(&self, sale: &SaleRecord) -> Result<i64, StoreError> {
        let key = sale_key(&sale.sale);
        let then = vec![
            TxnOp::put(key.as_str(), sale.encode_to_vec(), None),
            TxnOp::put(listed_key(sale), "", None),
            TxnOp::put(unfinished_key(sale), "", None),
        ];
        self.commit("write a new sale", vec![absent(&key)], then).await
    }

    /// Writes a sale that was read at `revision`; with a fence only as long as its leader leads.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it was written in between, or when another leader has come.
    pub async fn replace_sale(
        &self,
        sale: &SaleRecord,
        revision: i64,
        fence: Option<Fence>,
    ) -> Result<i64, StoreError> {
        let key = sale_key(&sale.sale);
        let mut when = vec![unchanged(&key, revision)];
        when.extend(fence.map(Fence::compare));
        let mut then = vec![TxnOp::put(key.as_str(), sale.encode_to_vec(), None)];
        if lifecycle::is_final(sale) {
            then.push(TxnOp::delete(unfinished_key(sale), None));
        }
        self.commit("write a sale", when, then).await
    }
}
