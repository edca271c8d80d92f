//! `floodgate.fleet.v1.PlacementService`: operators see who lives where.

use std::sync::Arc;

use proto::fault::{Fault, Reason};
use proto::id::{CellId, OrgId, parse_org};
use proto::wire::fleet::placement_service_server::PlacementService;
use proto::wire::fleet::{
    GetPlacementRequest, ListPlacementsRequest, ListPlacementsResponse, Placement,
};
use tonic::{Request, Response, Status, async_trait};

use super::{Desk, found};
use crate::page;
use crate::placement::overlap;

/// The service.
#[derive(Debug)]
pub(super) struct Placements(pub(super) Arc<Desk>);

#[async_trait]
impl PlacementService for Placements {
    async fn get_placement(
        &self,
        request: Request<GetPlacementRequest>,
    ) -> Result<Response<Placement>, Status> {
        self.0.auth.operator(request.metadata()).await?;
        Ok(Response::new(self.get(&request.get_ref().name).await?))
    }

    async fn list_placements(
        &self,
        request: Request<ListPlacementsRequest>,
    ) -> Result<Response<ListPlacementsResponse>, Status> {
        self.0.auth.operator(request.metadata()).await?;
        Ok(Response::new(self.list(request.get_ref()).await?))
    }
}

impl Placements {
    async fn get(&self, name: &str) -> Result<Placement, Fault> {
        let org = parse_name(name)?;
        let all = self.0.store.placements().await?.orgs;
        let at = all.iter().position(|(other, _)| other == org.as_str());
        Ok(view(&all, found(at)?))
    }

    async fn list(&self, request: &ListPlacementsRequest) -> Result<ListPlacementsResponse, Fault> {
        let page = page::read("placements", request.page_size, &request.page_token)?;
        let all = self.0.store.placements().await?.orgs;
        let from = page.after.map_or(0, |after| all.partition_point(|(org, _)| *org <= after));
        let to = all.len().min(from.saturating_add(page.size));
        let more = to < all.len();
        let last = all[from..to].last().filter(|_| more);
        Ok(ListPlacementsResponse {
            placements: (from..to).map(|at| view(&all, at)).collect(),
            next_page_token: last
                .map(|(org, _)| page::token("placements", org))
                .unwrap_or_default(),
        })
    }
}

fn parse_name(name: &str) -> Result<OrgId, Fault> {
    let org = name.strip_suffix("/placement").ok_or(Fault::new(Reason::NotFound))?;
    Ok(parse_org(org)?)
}

fn view(all: &[(String, Vec<CellId>)], at: usize) -> Placement {
    let (org, cells) = &all[at];
    let others = all.iter().filter(|(other, _)| other != org);
    let most = others.map(|(_, other)| overlap(cells, other)).max().unwrap_or(0);
    Placement {
        name: format!("orgs/{org}/placement"),
        cells: cells.iter().map(|cell| format!("cells/{cell}")).collect(),
        overlap_max: i32::try_from(most).unwrap_or(i32::MAX),
    }
}
