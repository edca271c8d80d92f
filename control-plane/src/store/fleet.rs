//! Orgs, cells and processes.

use etcd_client::{KeyValue, TxnOp};
use prost::Message;
use proto::id::{CellId, OrgId};
use proto::keys;
use proto::wire::cell::{CellRecord, OrgRecord, ProcessRecord};

use super::{Fence, Kept, Page, Store, StoreError, absent, unchanged};

/// Every placement there is, as of one moment.
#[derive(Clone, Debug)]
pub struct Placements {
    /// Orgs and their cells, by org.
    pub orgs: Vec<(String, Vec<CellId>)>,
    /// The `mod_revision` of the key that every new org rewrites, and every change of what a cell is for; 0 before the
    /// first.
    pub revision: i64,
}

impl Placements {
    /// How many orgs live in a cell.
    pub fn org_count(&self, cell: &str) -> i32 {
        let lives_here = |cells: &Vec<CellId>| cells.iter().any(|one| one.as_str() == cell);
        let count = self.orgs.iter().filter(|(_, cells)| lives_here(cells)).count();
        i32::try_from(count).unwrap_or(i32::MAX)
    }
}

/// The cells of an org, in its order of preference.
pub(crate) fn cells_of(org: &OrgRecord) -> Vec<CellId> {
    org.cells.iter().filter_map(|cell| cell.parse().ok()).collect()
}

fn placed_key() -> String {
    format!("{}placed", keys::CONTROL)
}

impl Store {
    /// One org.
    ///
    /// # Errors
    /// As all reads: [`StoreError::Away`] or [`StoreError::Unreadable`].
    pub async fn org(&self, org: &OrgId) -> Result<Option<Kept<OrgRecord>>, StoreError> {
        self.get("read an org", keys::org(org)).await
    }

    /// A page of orgs, and whether there are more.
    ///
    /// # Errors
    /// As [`Self::org`].
    pub async fn orgs(&self, page: &Page) -> Result<(Vec<Kept<OrgRecord>>, bool), StoreError> {
        self.page("list orgs", keys::ORGS, page).await
    }

    /// All placements.
    ///
    /// # Errors
    /// As [`Self::org`].
    pub async fn placements(&self) -> Result<Placements, StoreError> {
        // The key is read first: a later org makes the comparison of whoever writes fail.
        let mut client = self.client.kv_client();
        let placed = self.ask("read the last placement", client.get(placed_key(), None)).await?;
        let revision = placed.kvs().first().map_or(0, KeyValue::mod_revision);
        let orgs = self.all::<OrgRecord>("list placements", keys::ORGS).await?;
        let orgs = orgs.into_iter().map(|org| {
            let cells = cells_of(&org.value);
            (org.value.org, cells)
        });
        Ok(Placements { orgs: orgs.collect(), revision })
    }

    /// Registers an org whose cells were chosen in view of placements at revision `placed`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the org exists or another one was registered in between.
    pub async fn create_org(&self, org: &OrgRecord, placed: i64) -> Result<i64, StoreError> {
        let key = format!("{}{}", keys::ORGS, org.org);
        let when = vec![absent(&key), unchanged(&placed_key(), placed)];
        let then = vec![
            TxnOp::put(key, org.encode_to_vec(), None),
            TxnOp::put(placed_key(), org.org.as_str(), None),
        ];
        self.commit("register an org", when, then).await
    }

    /// Writes an org that was read at `revision`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it was written in between.
    pub async fn replace_org(&self, org: &OrgRecord, revision: i64) -> Result<i64, StoreError> {
        let key = format!("{}{}", keys::ORGS, org.org);
        let then = vec![TxnOp::put(key.as_str(), org.encode_to_vec(), None)];
        self.commit("write an org", vec![unchanged(&key, revision)], then).await
    }

    /// One cell.
    ///
    /// # Errors
    /// As [`Self::org`].
    pub async fn cell(&self, cell: &CellId) -> Result<Option<Kept<CellRecord>>, StoreError> {
        self.get("read a cell", keys::cell(cell)).await
    }

    /// A page of cells, and whether there are more.
    ///
    /// # Errors
    /// As [`Self::org`].
    pub async fn cells(&self, page: &Page) -> Result<(Vec<Kept<CellRecord>>, bool), StoreError> {
        self.page("list cells", keys::CELLS, page).await
    }

    /// The ids of all cells that have been seen and in which orgs may live.
    ///
    /// # Errors
    /// As [`Self::org`].
    pub async fn cell_ids(&self) -> Result<Vec<CellId>, StoreError> {
        let cells = self.all::<CellRecord>("list cells", keys::CELLS).await?;
        let for_orgs = cells.into_iter().filter(|cell| !cell.value.overflow);
        Ok(for_orgs.filter_map(|cell| cell.value.cell.parse().ok()).collect())
    }

    /// Writes a cell that was read at `revision`, in view of placements at revision `placed`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it was written, or an org was registered, in between.
    pub async fn replace_cell(
        &self,
        cell: &CellRecord,
        revision: i64,
        placed: i64,
    ) -> Result<i64, StoreError> {
        let key = format!("{}{}", keys::CELLS, cell.cell);
        let when = vec![unchanged(&key, revision), unchanged(&placed_key(), placed)];
        // An org that is being placed at this moment must look at the cells again.
        let then = vec![
            TxnOp::put(key, cell.encode_to_vec(), None),
            TxnOp::put(placed_key(), cell.cell.as_str(), None),
        ];
        self.commit("write a cell", when, then).await
    }

    /// The processes of a cell whose leases are live, by name.
    ///
    /// # Errors
    /// As [`Self::org`].
    pub async fn processes(&self, cell: &str) -> Result<Vec<ProcessRecord>, StoreError> {
        let prefix = format!("{}{cell}/", keys::PROCESSES);
        let processes = self.all("list processes", &prefix).await?;
        Ok(processes.into_iter().map(|process| process.value).collect())
    }

    /// All processes whose leases are live, by cell and name.
    ///
    /// # Errors
    /// As [`Self::org`].
    pub async fn all_processes(&self) -> Result<Vec<ProcessRecord>, StoreError> {
        let processes = self.all("list processes", keys::PROCESSES).await?;
        Ok(processes.into_iter().map(|process| process.value).collect())
    }

    /// Writes down a cell that is seen for the first time.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is known, or when another leader has come.
    pub async fn create_cell(&self, cell: &CellRecord, fence: Fence) -> Result<i64, StoreError> {
        let key = format!("{}{}", keys::CELLS, cell.cell);
        let then = vec![TxnOp::put(key.as_str(), cell.encode_to_vec(), None)];
        self.commit("write a cell", vec![absent(&key), fence.compare()], then).await
    }
}
