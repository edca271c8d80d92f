//! `floodgate cells`: the fleet.

use proto::wire::fleet::cell_service_client::CellServiceClient;
use proto::wire::fleet::{GetCellRequest, ListCellsRequest};

use super::PAGE_SIZE;
use crate::failure::Failure;
use crate::input::named;
use crate::line::Reach;
use crate::output::Output;

/// What can be done with cells.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Cells {
    /// Show one cell with its processes
    Get {
        /// Its id
        cell: String,
    },
    /// Show all cells
    List,
}

impl Cells {
    pub(crate) async fn run(self, reach: &Reach, output: &Output) -> Result<(), Failure> {
        let mut client = CellServiceClient::new(reach.control_plane()?);
        if let Cells::Get { cell } = self {
            let request = GetCellRequest { name: named("cells", &cell) };
            return output.one(&client.get_cell(request).await?.into_inner());
        }
        let (mut cells, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListCellsRequest { page_size: PAGE_SIZE, page_token };
            let page = client.list_cells(request).await?.into_inner();
            cells.extend(page.cells);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return output.many("cells", &cells);
            }
        }
    }
}
