//! The names of a bucket's keys in Redis; `record.lua` says what lies under them.

use crate::seeded;
use proto::id::BuyerKey;

/// Hashes over which a bucket's joiners are spread: small enough to stay lists, and fixed, because the place of a
/// joiner must not change.
const JOINER_HASHES: u16 = 4_096;

/// The keys of one bucket under one epoch.
#[derive(Clone, Debug)]
pub struct BucketKeys {
    tag: String,
    /// The record.
    pub rec: String,
    /// Who has which unit.
    pub units: String,
    /// Returned units.
    pub free: String,
    /// Buyers with orders, now or before.
    pub buyers: String,
    joiners: String,
}

impl BucketKeys {
    /// The keys of a bucket.
    pub fn new(org: &str, sale: &str, bucket: i32, epoch: i64) -> BucketKeys {
        let org = if seeded::planted!(OrgMissingInKey) { "" } else { org };
        BucketKeys::tagged(format!("fg:{{{org}:{sale}:{bucket}}}"), epoch)
    }

    /// The keys of the same bucket under another epoch.
    pub(super) fn under(&self, epoch: i64) -> BucketKeys {
        BucketKeys::tagged(self.tag.clone(), epoch)
    }

    fn tagged(tag: String, epoch: i64) -> BucketKeys {
        let of_epoch = format!("{tag}:e{epoch}");
        BucketKeys {
            rec: format!("{tag}:rec"),
            units: format!("{of_epoch}:u"),
            free: format!("{of_epoch}:f"),
            buyers: format!("{of_epoch}:b"),
            joiners: format!("{tag}:j:"),
            tag,
        }
    }

    /// The hash in which a buyer's rank stands.
    pub fn joiner(&self, buyer: BuyerKey) -> String {
        format!("{}{}", self.joiners, number(buyer) % JOINER_HASHES)
    }

    /// Every key that belongs to this epoch alone, to be removed after the next take-over.
    pub fn of_epoch(&self) -> Vec<String> {
        [&self.units, &self.free, &self.buyers].into_iter().cloned().collect()
    }

    /// Every key that outlives an epoch, to be removed when the bucket is at rest.
    pub fn of_bucket(&self) -> Vec<String> {
        let joiners = (0..JOINER_HASHES).map(|n| format!("{}{n}", self.joiners));
        std::iter::once(self.rec.clone()).chain(joiners).collect()
    }
}

/// Spreads buyers over hashes. The first bytes have already chosen the bucket, so the last ones do this.
fn number(buyer: BuyerKey) -> u16 {
    let [.., a, b] = buyer.0;
    u16::from_be_bytes([a, b])
}
