//! Which bucket a buyer belongs to, for crowds that are not spread evenly. Buyers are hashed under a key that only the
//! sale's record in etcd has, by the function that all planes share.

use prost::Message;
use proto::id::BuyerKey;
use proto::keys;
use proto::wire::cell::SaleRecord;
use ring::hmac;

use super::{Scene, SceneError};

/// How a sale's buyers are hashed over its buckets.
#[derive(Debug)]
pub(crate) struct Hashing {
    key: hmac::Key,
    buckets: u32,
}

impl Hashing {
    /// Over so many buckets, under the key of their pseudonyms.
    pub(crate) fn new(key: &[u8], buckets: u32) -> Hashing {
        Hashing { key: hmac::Key::new(hmac::HMAC_SHA256, key), buckets }
    }

    /// How many buckets there are.
    pub(crate) fn buckets(&self) -> u32 {
        self.buckets
    }

    /// Which bucket the buyer of this name belongs to.
    pub(crate) fn bucket(&self, subject: &str) -> u32 {
        BuyerKey::of(&self.key, subject).bucket(self.buckets)
    }
}

impl Scene<'_> {
    /// How the buyers of a sale that is warm are hashed.
    pub(crate) async fn hashing(&self, sale: &str) -> Result<Hashing, SceneError> {
        let endpoint = self.platform.stack().endpoint("etcd")?.url;
        let failed = |source| SceneError::Etcd { source: Box::new(source) };
        let mut client = runtime::etcd::connect(&[endpoint]).await.map_err(failed)?;
        let get = client.get(format!("{}{sale}", keys::SALES), None);
        let found = runtime::etcd::within("sale", get).await.map_err(failed)?;
        let value = found.kvs().first().map(|entry| entry.value()).unwrap_or_default();
        let record = SaleRecord::decode(value).unwrap_or_default();
        let buckets = u32::try_from(record.buckets.len()).unwrap_or(u32::MAX);
        if buckets == 0 {
            return Err(SceneError::Never(format!("etcd has no buckets of the sale {sale}")));
        }
        Ok(Hashing::new(&record.buyer_key, buckets))
    }
}
