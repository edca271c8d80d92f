//! The gRPC edge: who calls, may they, do it, say it. The services are thin; what is decided is decided elsewhere.

mod cell;
mod org;
mod placement;
mod sale;
mod token;

use std::sync::Arc;

use proto::codec::explain;
use proto::fault::{Fault, Reason};
use proto::id::OrgId;
use proto::limits::REQUEST_BYTES_MAX;
use proto::wire::admin::sale_service_server::{self, SaleServiceServer};
use proto::wire::admin::token_service_server::{self, TokenServiceServer};
use proto::wire::cell::OrgRecord;
use proto::wire::fleet::cell_service_server::{self, CellServiceServer};
use proto::wire::fleet::org_service_server::{self, OrgServiceServer};
use proto::wire::fleet::placement_service_server::{self, PlacementServiceServer};
use ring::rand::{SecureRandom, SystemRandom};
use runtime::clock::Clock;
use runtime::server::Explained;
use tonic::service::Routes;

use crate::auth::Auth;
use crate::store::{Store, StoreError};

/// The full names of the services, for health and reflection.
pub(crate) const SERVICES: [&str; 5] = [
    sale_service_server::SERVICE_NAME,
    token_service_server::SERVICE_NAME,
    org_service_server::SERVICE_NAME,
    cell_service_server::SERVICE_NAME,
    placement_service_server::SERVICE_NAME,
];

/// Reads and writes that lose a race are begun again so many times.
const RACES_MAX: u32 = 8;

/// What every service needs.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Where decisions lie.
    pub(crate) store: Store,
    /// Who calls.
    pub(crate) auth: Auth,
    /// What time it is.
    pub(crate) clock: Clock,
    /// Cells that one org lives in.
    pub(crate) cells_per_org: usize,
}

impl Desk {
    /// Changes the record of an org, which must be there, and returns it as it is then. `change` may be asked more than
    /// once, each time for what is there by then.
    async fn change_org(
        &self,
        org: &OrgId,
        change: impl Fn(&mut OrgRecord) -> Result<(), Fault>,
    ) -> Result<OrgRecord, Fault> {
        for _ in 0..RACES_MAX {
            let there = found(self.store.org(org).await?)?;
            let mut changed = there.value.clone();
            change(&mut changed)?;
            if changed == there.value {
                return Ok(changed);
            }
            match self.store.replace_org(&changed, there.revision).await {
                Ok(_) => return Ok(changed),
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }
}

/// The services of the control plane, added to `routes`.
pub(crate) fn add_to(routes: Routes, desk: Desk) -> Routes {
    let desk = Arc::new(desk);
    let sales = SaleServiceServer::new(sale::Sales(desk.clone()));
    let tokens = TokenServiceServer::new(token::Tokens(desk.clone()));
    let orgs = OrgServiceServer::new(org::Orgs(desk.clone()));
    let cells = CellServiceServer::new(cell::Cells(desk.clone()));
    let placements = PlacementServiceServer::new(placement::Placements(desk));
    let sales = sales.max_decoding_message_size(REQUEST_BYTES_MAX);
    let tokens = tokens.max_decoding_message_size(REQUEST_BYTES_MAX);
    let orgs = orgs.max_decoding_message_size(REQUEST_BYTES_MAX);
    let cells = cells.max_decoding_message_size(REQUEST_BYTES_MAX);
    let placements = placements.max_decoding_message_size(REQUEST_BYTES_MAX);
    routes
        .add_service(Explained::new(sales, explain))
        .add_service(Explained::new(tokens, explain))
        .add_service(Explained::new(orgs, explain))
        .add_service(Explained::new(cells, explain))
        .add_service(Explained::new(placements, explain))
}

/// Random bytes from the machine.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Fault::new(Reason::Internal))?;
    Ok(bytes)
}

/// The 16 bytes of a request's id.
fn request_id(text: &str) -> Result<[u8; 16], Fault> {
    proto::id::parse_request_id(text).ok_or_else(|| Fault::field("request_id", "must be a UUID"))
}

/// What was asked about, or that there is no such thing.
fn found<T>(found: Option<T>) -> Result<T, Fault> {
    found.ok_or(Fault::new(Reason::NotFound))
}
