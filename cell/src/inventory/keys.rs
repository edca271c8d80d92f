//! The names of a bucket's keys in Redis; `record.lua` says what lies under them.

use proto::id::BuyerKey;

/// Hashes over which a bucket's joiners are spread: small enough to stay lists, and fixed, because the place of a
/// joiner must not change.
const JOINER_HASHES: u16 = 4_096;

/// The keys of one bucket under one epoch.
#[derive(Clone, Debug)]
pub struct BucketKeys {
    /// The record.
    pub rec: String,
    /// Who has which unit.
    pub units: String,
    /// Returned units.
    pub free: String,
    /// Spent tickets.
    pub spent: String,
    buyers: String,
    buyer_hashes: u16,
    joiners: String,
}

impl BucketKeys {
    /// The keys of a bucket with `granted` units.
    pub fn new(org: &str, sale: &str, bucket: i32, epoch: i64, granted: u32) -> BucketKeys {
        let tag = format!("fg:{{{org}:{sale}:{bucket}}}");
        let of_epoch = format!("{tag}:e{epoch}");
        // About 64 buyers a hash when every unit is sold.
        let hashes = (granted / 64).next_power_of_two().clamp(16, 8_192);
        BucketKeys {
            rec: format!("{tag}:rec"),
            units: format!("{of_epoch}:u"),
            free: format!("{of_epoch}:f"),
            spent: format!("{of_epoch}:t"),
            buyers: format!("{of_epoch}:b:"),
            buyer_hashes: u16::try_from(hashes).unwrap_or(16),
            joiners: format!("{tag}:j:"),
        }
    }

    /// The hash in which a buyer's order stands.
    pub fn buyer(&self, buyer: BuyerKey) -> String {
        format!("{}{}", self.buyers, number(buyer) % self.buyer_hashes)
    }

    /// The hash in which a buyer's rank stands.
    pub fn joiner(&self, buyer: BuyerKey) -> String {
        format!("{}{}", self.joiners, number(buyer) % JOINER_HASHES)
    }

    /// Every key that belongs to this epoch alone, to be removed after the next take-over.
    pub fn of_epoch(&self) -> Vec<String> {
        let buyers = (0..self.buyer_hashes).map(|n| format!("{}{n}", self.buyers));
        [&self.units, &self.free, &self.spent].into_iter().cloned().chain(buyers).collect()
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
