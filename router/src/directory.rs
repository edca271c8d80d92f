//! The directory: what the control plane has decided, in the form in which calls need it.
//!
//! It is made anew whenever a decision changes and never altered; a call takes one and keeps it to its end. Whatever
//! cannot be read is left out: a record that we do not understand is no reason to forget the others.
//!
//! What is in it is used, however old it is; what is not in it is only denied once etcd itself has told everything
//! ([`Directory::missing`]).

use crate::quota::Rate;
use bytes::Bytes;
use prost::Message;
use proto::fault::Reason;
use proto::id::{BuyerKey, OrgId, SaleId};
use proto::keys;
use proto::ticket::TicketKey;
use proto::token::PublicKey;
use proto::wire::admin::sale::Class;
use proto::wire::cell::{CellRecord, OrgRecord, ProcessRecord, SaleRecord, sale_record::State};
use ring::hmac;
use runtime::decisions::Snapshot;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

/// An org as calls need it.
#[derive(Debug)]
pub(crate) struct OrgEntry {
    /// Its record as it was read.
    record: Bytes,
    /// Keys by their `kid`.
    keys: Vec<(Box<str>, Arc<PublicKey>)>,
    /// Ids of tokens that it has withdrawn.
    revoked: HashSet<Box<str>>,
    pub(crate) cells: Vec<Box<str>>,
    /// Calls a second; 0 means the default.
    pub(crate) calls_per_s: u32,
    /// What it has used up of them.
    pub(crate) rate: Arc<Rate>,
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
    /// Cells in which buyers stand in line whose own refuse to let them join.
    overflow: Vec<Box<str>>,
    processes: Vec<ProcessEntry>,
}

impl Directory {
    /// The directory that follows from a snapshot of etcd; what has not changed is taken from `before`. It is `current`
    /// when etcd told it to this process, and not when it is what a process before this one left on disk.
    pub(crate) fn new(snapshot: &Snapshot, current: bool, before: &Directory) -> Directory {
        let mut directory = Directory { current, ..Directory::default() };
        for (key, entry) in snapshot.prefix(keys::ORGS) {
            let id = key.strip_prefix(keys::ORGS).and_then(|id| id.parse::<OrgId>().ok());
            directory.orgs.extend(match id.and_then(|id| before.orgs.get_key_value(&id)) {
                Some((id, known)) if known.record == entry.value => {
                    Some((id.clone(), known.clone()))
                }
                // Whoever is given another key or quota has used up what they have used up.
                Some((_, known)) => OrgEntry::new(&entry.value, known.rate.clone()),
                None => OrgEntry::new(&entry.value, Arc::default()),
            });
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
            if record.overflow {
                directory.overflow.push(record.cell.as_str().into());
            }
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

    /// The cell that keeps the lines before a sale's lines: the same one for all routers, whether it can be reached or not.
    pub(crate) fn overflow_cell(&self, sale: &SaleId) -> Option<&str> {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let cells = self.overflow.iter().map(|cell| &**cell);
        cells.max_by_key(|cell| (hasher.hash_one((sale.as_str(), *cell)), *cell))
    }

    /// The processes whose leases are live, as far as is known.
    pub(crate) fn processes(&self) -> &[ProcessEntry] {
        &self.processes
    }
}

impl OrgEntry {
    /// None: the record cannot be read. A key that cannot be read signs nothing.
    fn new(value: &Bytes, rate: Arc<Rate>) -> Option<(OrgId, Arc<OrgEntry>)> {
        let record = OrgRecord::decode(value.clone()).ok()?;
        let keys = record.keys.iter();
        let keys = keys
            .filter_map(|key| Some((key.kid.as_str().into(), Arc::new(key.public_key().ok()?))));
        let entry = OrgEntry {
            keys: keys.collect(),
            revoked: record.revoked_tokens.into_iter().map(|token| token.jti.into()).collect(),
            cells: record.cells.into_iter().map(Into::into).collect(),
            calls_per_s: record.calls_per_s,
            record: value.clone(),
            rate,
        };
        Some((record.org.parse().ok()?, Arc::new(entry)))
    }

    /// The key called `kid`.
    pub(crate) fn key(&self, kid: &str) -> Option<&Arc<PublicKey>> {
        self.keys.iter().find(|(known, _)| **known == *kid).map(|(_, key)| key)
    }

    /// Whether this is one of its keys.
    pub(crate) fn has_key(&self, key: &Arc<PublicKey>) -> bool {
        self.keys.iter().any(|(_, known)| Arc::ptr_eq(known, key) || known == key)
    }

    /// Whether it has withdrawn a token of this id.
    pub(crate) fn has_revoked(&self, token_id: Option<&str>) -> bool {
        token_id.is_some_and(|id| self.revoked.contains(id))
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
