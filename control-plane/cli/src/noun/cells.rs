//! `floodgate cells`: the fleet.

use proto::wire::fleet::cell_service_client::CellServiceClient;
use proto::wire::fleet::{GetCellRequest, ListCellsRequest, SetCellOverflowRequest};

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
    /// Say whether buyers whose own cells refuse to let them join stand in line in a cell; no org lives there
    SetOverflow {
        /// Its id
        cell: String,
        /// `false` makes it a cell for orgs again
        #[arg(action = clap::ArgAction::Set, default_value_t = true)]
        overflow: bool,
    },
}

impl Cells {
    pub(crate) async fn run(self, reach: &Reach, output: &Output) -> Result<(), Failure> {
        let mut client = CellServiceClient::new(reach.control_plane()?);
        match self {
            Cells::Get { cell } => {
                let request = GetCellRequest { name: named("cells", &cell) };
                return output.one(&client.get_cell(request).await?.into_inner());
            }
            Cells::SetOverflow { cell, overflow } => {
                let request = SetCellOverflowRequest { name: named("cells", &cell), overflow };
                return output.one(&client.set_cell_overflow(request).await?.into_inner());
            }
            Cells::List => {}
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
