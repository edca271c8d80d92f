//! `floodgate.fleet.v1.CellService`: operators look at the fleet and say what its cells are for.

use std::sync::Arc;

use proto::fault::Fault;
use proto::id::parse_cell;
use proto::wire::cell::{CellRecord, ProcessRecord};
use proto::wire::fleet::cell_service_server::CellService;
use proto::wire::fleet::{
    Cell, GetCellRequest, ListCellsRequest, ListCellsResponse, Process, SetCellOverflowRequest,
};
use tonic::{Request, Response, Status, async_trait};

use super::{Desk, RACES_MAX, found};
use crate::page;
use crate::store::{Placements, StoreError};

/// The service.
#[derive(Debug)]
pub(super) struct Cells(pub(super) Arc<Desk>);

#[async_trait]
impl CellService for Cells {
    async fn get_cell(&self, request: Request<GetCellRequest>) -> Result<Response<Cell>, Status> {
        self.0.auth.operator(request.metadata()).await?;
        Ok(Response::new(self.get(&request.get_ref().name).await?))
    }

    async fn list_cells(
        &self,
        request: Request<ListCellsRequest>,
    ) -> Result<Response<ListCellsResponse>, Status> {
        self.0.auth.operator(request.metadata()).await?;
        Ok(Response::new(self.list(request.get_ref()).await?))
    }

    async fn set_cell_overflow(
        &self,
        request: Request<SetCellOverflowRequest>,
    ) -> Result<Response<Cell>, Status> {
        self.0.auth.operator(request.metadata()).await?;
        Ok(Response::new(self.set_overflow(request.get_ref()).await?))
    }
}

impl Cells {
    async fn get(&self, name: &str) -> Result<Cell, Fault> {
        let store = &self.0.store;
        let cell = found(store.cell(&parse_cell(name)?).await?)?.value;
        let processes = store.processes(&cell.cell).await?;
        Ok(view(&cell, &processes, &store.placements().await?))
    }

    async fn set_overflow(&self, request: &SetCellOverflowRequest) -> Result<Cell, Fault> {
        let (store, id) = (&self.0.store, parse_cell(&request.name)?);
        for _ in 0..RACES_MAX {
            let there = found(store.cell(&id).await?)?;
            if there.value.overflow == request.overflow {
                return self.get(&request.name).await;
            }
            let placements = store.placements().await?;
            if placements.org_count(id.as_str()) > 0 {
                let complaint = "is a cell in which orgs live; add another one for overflow";
                return Err(Fault::field("name", complaint));
            }
            let cell = CellRecord { overflow: request.overflow, ..there.value };
            match store.replace_cell(&cell, there.revision, placements.revision).await {
                Ok(_) => return self.get(&request.name).await,
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    async fn list(&self, request: &ListCellsRequest) -> Result<ListCellsResponse, Fault> {
        let page = page::read("cells", request.page_size, &request.page_token)?;
        let store = &self.0.store;
        let (cells, more) = store.cells(&page).await?;
        let (processes, placements) = (store.all_processes().await?, store.placements().await?);
        let last = cells.last().filter(|_| more).map(|cell| page::token("cells", &cell.value.cell));
        let cells = cells.iter().map(|cell| view(&cell.value, &processes, &placements));
        Ok(ListCellsResponse { cells: cells.collect(), next_page_token: last.unwrap_or_default() })
    }
}

fn view(record: &CellRecord, processes: &[ProcessRecord], placements: &Placements) -> Cell {
    let cell = record.cell.as_str();
    let process = |process: &ProcessRecord| Process {
        process: process.process.clone(),
        address: process.address.clone(),
        version: process.version.clone(),
    };
    Cell {
        name: format!("cells/{cell}"),
        processes: processes.iter().filter(|one| one.cell == cell).map(process).collect(),
        org_count: placements.org_count(cell),
        overflow: record.overflow,
    }
}
