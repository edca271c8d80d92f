//! `floodgate placements`: who lives where.

use proto::wire::fleet::placement_service_client::PlacementServiceClient;
use proto::wire::fleet::{GetPlacementRequest, ListPlacementsRequest};

use super::PAGE_SIZE;
use crate::failure::Failure;
use crate::input::named;
use crate::line::Reach;
use crate::output::Output;

/// What can be done with placements.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Placements {
    /// Show the cells of one org
    Get {
        /// The org's id
        org: String,
    },
    /// Show the cells of all orgs, and how far they overlap
    List,
}

impl Placements {
    pub(crate) async fn run(self, reach: &Reach, output: &Output) -> Result<(), Failure> {
        let mut client = PlacementServiceClient::new(reach.control_plane()?);
        if let Placements::Get { org } = self {
            let org = named("orgs", org.trim_end_matches("/placement"));
            let request = GetPlacementRequest { name: format!("{org}/placement") };
            return output.one(&client.get_placement(request).await?.into_inner());
        }
        let (mut placements, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListPlacementsRequest { page_size: PAGE_SIZE, page_token };
            let page = client.list_placements(request).await?.into_inner();
            placements.extend(page.placements);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return output.many("placements", &placements);
            }
        }
    }
}
