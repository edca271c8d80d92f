//! The directory: what the control plane has decided, in the form in which calls need it.
//!
//! It is made anew whenever a decision changes and never altered; a call takes one and keeps it to its end. Whatever
//! cannot be read is left out: a record that we do not understand is no reason to forget the others.
//!
//! What is in it is used, however old it is; what is not in it is only denied once etcd itself has told everything
//! ([`Directory::missing`]).

use prost::Message;
use proto::fault::Reason;
use proto::id::{BuyerKey, OrgId, SaleId};
use proto::keys;
use proto::ticket::TicketKey;
use proto::wire::admin::sale::Class;
use proto::wire::cell::{CellRecord, OrgRecord, ProcessRecord, SaleRecord, sale_record::State};
use ring::hmac;
use runtime::decisions::Snapshot;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

/// An org as calls need it.
#[derive(Debug)]
pub(crate) struct OrgEntry {
    /// Keys by their `kid`: raw Ed25519.
    pub(crate) keys: Vec<(Box<str>, [u8; 32])>,
    pub(crate) cells: Vec<Box<str>>,
}

/// A sale as calls need it.
#[derive(Debug)]
pub(crate) struct SaleEntry {
    pub(crate) id: SaleId,
    pub(crate) org: OrgId,
    pub(crate) name: Box<str>,
    pub(crate) record: SaleRecord,
    pub(crate) standard: bool,
    /// Its org as a number, for queues and counters.
    pub(crate) org_number: u64,
    buyer_key: hmac::Key,
    buckets: u32,
}

/// A process of a cell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ProcessEntry {
    pub(crate) cell: Box<str>,
    pub(crate) process: Box<str>,
    pub(crate) address: Box<str>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// Whether etcd has told all of it since this process started.
    current: bool,
    orgs: HashMap<OrgId, Arc<OrgEntry>>,
    sales: HashMap<SaleId, Arc<SaleEntry>>,
    tickets: HashMap<Box<str>, Vec<TicketKey>>,
    processes: Vec<ProcessEntry>,
}

impl Directory {
    /// The directory that follows from a snapshot of etcd; what has not changed is taken from `before`. It is `current`
    /// when etcd told it to this process, and not when it is what a process before this one left on disk.
    pub(crate) fn new(snapshot: &Snapshot, current: bool, before: &Directory) -> Directory {
        let mut directory = Directory { current, ..Directory::default() };
        for (_, entry) in snapshot.prefix(keys::ORGS) {
            let Ok(record) = OrgRecord::decode(entry.value.clone()) else { continue };
            if let Ok(org) = record.org.parse() {
                directory.orgs.insert(org, Arc::new(OrgEntry::new(record)));
            }
        }
        for (_, entry) in snapshot.prefix(keys::SALES) {
            let Ok(record) = SaleRecord::decode(entry.value.clone()) else { continue };
            let Ok(id) = record.sale.parse() else { continue };
            let known = before.sales.get(&id).filter(|known| known.record == record);
            if let Some(sale) = known.cloned().or_else(|| SaleEntry::new(record).map(Arc::new)) {
                directory.sales.insert(id, sale);
            }
        }
        for (_, entry) in snapshot.prefix(keys::CELLS) {
            let Ok(record) = CellRecord::decode(entry.value.clone()) else { continue };
            let live = record
                .ticket_keys
                .iter()
                .map(|key| TicketKey::new(&key.kid, &key.secret))
                .collect();
            directory.tickets.insert(record.cell.into(), live);
        }
        for (_, entry) in snapshot.prefix(keys::PROCESSES) {
            let Ok(record) = ProcessRecord::decode(entry.value.clone()) else { continue };
            directory.processes.push(ProcessEntry {
                cell: record.cell.into(),
                process: record.process.into(),
                address: record.address.into(),
            });
        }
        directory
    }

    /// How a call is refused for want of something that is not in here: by `reason`, which its caller takes as final,
    /// only when it is certain that there is no such thing.
    pub(crate) fn missing(&self, reason: Reason) -> Reason {
        if self.current { reason } else { Reason::NotReady }
    }

    /// An org.
    pub(crate) fn org(&self, org: &OrgId) -> Option<&Arc<OrgEntry>> {
        self.orgs.get(org)
    }

    /// A sale of an org, once it was promised. A missing one, a draft and somebody else's look alike (INV-9).
    pub(crate) fn sale(&self, org: &OrgId, sale: &SaleId) -> Result<&Arc<SaleEntry>, Reason> {
        self.sales
            .get(sale)
            .filter(|entry| entry.org == *org)
            .filter(|entry| !matches!(entry.record.state(), State::Draft | State::Unspecified))
            .ok_or_else(|| self.missing(Reason::NotFound))
    }

    /// The live keys of a cell's tickets.
    pub(crate) fn tickets(&self, cell: &str) -> &[TicketKey] {
        self.tickets.get(cell).map_or(&[], Vec::as_slice)
    }

    /// The processes whose leases are live, as far as is known.
    pub(crate) fn processes(&self) -> &[ProcessEntry] {
        &self.processes
    }
}

impl OrgEntry {
    fn new(record: OrgRecord) -> OrgEntry {
        let keys = record.keys.into_iter();
        let keys = keys.filter_map(|key| Some((key.kid.into(), key.ed25519.try_into().ok()?)));
        OrgEntry { keys: keys.collect(), cells: record.cells.into_iter().map(Into::into).collect() }
    }
}

impl SaleEntry {
    /// None: the record cannot be read.
    pub(crate) fn new(record: SaleRecord) -> Option<SaleEntry> {
        Some(SaleEntry {
            id: record.sale.parse().ok()?,
            org: record.org.parse().ok()?,
            name: format!("orgs/{}/sales/{}", record.org, record.sale).into(),
            standard: record.class == i32::from(Class::Standard),
            org_number: BuildHasherDefault::<DefaultHasher>::default().hash_one(&record.org),
            buyer_key: hmac::Key::new(hmac::HMAC_SHA256, &record.buyer_key),
            buckets: u32::try_from(record.buckets.len()).ok()?,
            record,
        })
    }

    /// A buyer's pseudonym in this sale.
    pub(crate) fn buyer(&self, subject: &str) -> BuyerKey {
        BuyerKey::of(&self.buyer_key, subject)
    }

    /// A buyer's bucket. None: the buckets are not planned yet.
    pub(crate) fn bucket(&self, buyer: BuyerKey) -> Option<u32> {
        (self.buckets > 0).then(|| buyer.bucket(self.buckets))
    }

    /// How many buckets it has.
    pub(crate) fn buckets(&self) -> u32 {
        self.buckets
    }

    /// The cell that a bucket belongs to.
    pub(crate) fn cell(&self, bucket: u32) -> &str {
        let plan = usize::try_from(bucket).ok().and_then(|bucket| self.record.buckets.get(bucket));
        plan.map_or("", |plan| plan.cell.as_str())
    }
}
