//! Where decisions lie in etcd: one folder a noun, under `/floodgate/v1/`.
//!
//! The values are messages of `floodgate.cell.v1`; what only the control plane reads lies under `control/`.

use crate::id::{CellId, OrgId, ProcessId, SaleId};

/// Everything of ours.
pub const ROOT: &str = "/floodgate/v1/";
/// Orgs, with their keys and cells.
pub const ORGS: &str = "/floodgate/v1/orgs/";
/// Cells, with the keys of their tickets.
pub const CELLS: &str = "/floodgate/v1/cells/";
/// Processes, each under its lease.
pub const PROCESSES: &str = "/floodgate/v1/processes/";
/// Sales.
pub const SALES: &str = "/floodgate/v1/sales/";
/// What keepers report of their buckets.
pub const REPORTS: &str = "/floodgate/v1/reports/";
/// Units on their way from one bucket to another.
pub const TRANSFERS: &str = "/floodgate/v1/transfers/";
/// The control plane's own: its leader.
pub const CONTROL: &str = "/floodgate/v1/control/";

/// An org's key.
pub fn org(org: &OrgId) -> String {
    format!("{ORGS}{org}")
}

/// A cell's key.
pub fn cell(cell: &CellId) -> String {
    format!("{CELLS}{cell}")
}

/// A process's key.
pub fn process(cell: &CellId, process: &ProcessId) -> String {
    format!("{PROCESSES}{cell}/{process}")
}

/// A sale's key.
pub fn sale(sale: &SaleId) -> String {
    format!("{SALES}{sale}")
}

/// The key under which a bucket's keeper reports.
pub fn report(sale: &str, bucket: u32) -> String {
    format!("{REPORTS}{sale}/{bucket}")
}

/// A transfer's key; `transfer` is its 16-byte id.
pub fn transfer(sale: &str, transfer: &[u8]) -> String {
    format!("{TRANSFERS}{sale}/{}", crate::id::hex(transfer))
}
