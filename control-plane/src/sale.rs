//! A sale: what a merchant may ask for, and the record that it becomes.
//!
//! [`Terms`] are the checked inputs of a sale: there are none that a cell could not honour. Everything here is pure;
//! whether something may be done in the sale's present state is the business of [`crate::lifecycle`].

mod change;
mod money;
mod stock;
mod terms;
mod time;

pub use change::apply;
pub use stock::{
    StockChanged, add as add_stock, surrender as surrender_stock, units as stock_units,
};
pub use terms::Terms;
pub(crate) use terms::display_name;
pub(crate) use time::{timestamp, unix_ms};

use proto::id::{OrgId, SaleId};
use proto::wire::admin::{self, sale::Class};
use proto::wire::cell::SaleRecord;
use proto::wire::cell::sale_record::State;
use ring::{digest, hmac};

use crate::lifecycle;

/// The id of the sale that `request_id` of this org makes: the same request finds the same sale.
pub fn id_of(org: &OrgId, request_id: [u8; 16]) -> SaleId {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"sale\0");
    context.update(org.as_str().as_bytes());
    context.update(&[0]);
    context.update(&request_id);
    let mut bits = [0; 10];
    bits.copy_from_slice(&context.finish().as_ref()[..10]);
    SaleId::from_random(bits)
}

/// SHA-256 of what a request asks for, by which a repeat is told from another request under its id.
pub fn hash_of(asked: &admin::Sale) -> Vec<u8> {
    let inputs = admin::Sale {
        display_name: asked.display_name.clone(),
        class: asked.class,
        stock: asked.stock,
        cap: asked.cap,
        price: asked.price.clone(),
        start_time: asked.start_time,
        end_time: asked.end_time,
        hold_ttl: asked.hold_ttl,
        admission_rate: asked.admission_rate,
        keeping_time: asked.keeping_time,
        ..admin::Sale::default()
    };
    let bytes = prost::Message::encode_to_vec(&inputs);
    digest::digest(&digest::SHA256, &bytes).as_ref().to_vec()
}

/// Who asked for a new sale, and when.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The tenant.
    pub org: OrgId,
    /// The sale's id, by [`id_of`].
    pub sale: SaleId,
    /// The request as it was written.
    pub request_id: String,
    /// What it asked for, by [`hash_of`].
    pub request_hash: Vec<u8>,
    /// Unix milliseconds.
    pub now_ms: u64,
    /// The key of buyers' pseudonyms: random.
    pub buyer_key: [u8; 32],
}

/// A new sale, as a draft.
pub fn draft(terms: &Terms, origin: Origin) -> SaleRecord {
    let mut record = SaleRecord {
        org: origin.org.to_string(),
        sale: origin.sale.to_string(),
        state: State::Draft.into(),
        revision: 1,
        buyer_key: origin.buyer_key.to_vec(),
        create_ms: origin.now_ms,
        update_ms: origin.now_ms,
        request_id: origin.request_id,
        request_hash: origin.request_hash,
        ..SaleRecord::default()
    };
    terms.write_to(&mut record);
    record
}

/// Notes the time of a change. It rises with each: cells take over what is newer than what they know.
pub fn touch(sale: &mut SaleRecord, now_ms: u64) {
    sale.update_ms = now_ms.max(sale.update_ms.saturating_add(1));
}

/// What a merchant sends back to be told of a change in between: it changes with every write of the sale, and tells
/// nothing about writes of others.
pub fn etag(sale: &SaleRecord, mod_revision: i64) -> String {
    const ETAG_BYTES: usize = 8;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &sale.buyer_key);
    let mut context = hmac::Context::with_key(&key);
    context.update(b"etag\0");
    context.update(&mod_revision.to_be_bytes());
    proto::id::hex(&context.sign().as_ref()[..ETAG_BYTES])
}

/// The sale as a merchant sees it now.
pub fn view(sale: &SaleRecord, mod_revision: i64, now_ms: u64) -> admin::Sale {
    let terms = Terms::of(sale);
    admin::Sale {
        name: format!("orgs/{}/sales/{}", sale.org, sale.sale),
        state: lifecycle::shown(sale, now_ms).into(),
        revision: sale.revision,
        etag: etag(sale, mod_revision),
        create_time: Some(timestamp(sale.create_ms)),
        update_time: Some(timestamp(sale.update_ms)),
        sold: sale.sold,
        surrendered: sale.surrendered,
        warm: matches!(sale.state(), State::Warm | State::Settled),
        ..terms.message()
    }
}

/// The class, FLASH unless said otherwise.
fn class_of(number: i32) -> Option<Class> {
    match Class::try_from(number).ok()? {
        Class::Unspecified | Class::Flash => Some(Class::Flash),
        Class::Standard => Some(Class::Standard),
    }
}

#[cfg(test)]
mod tests;
