//! `floodgate.fleet.v1.OrgService`: operators register tenants.

use std::sync::Arc;

use proto::fault::{Fault, Reason};
use proto::id::{OrgId, parse_org};
use proto::limits::ORG_KEYS_MAX;
use proto::wire::cell::{KeyRecord, OrgRecord};
use proto::wire::fleet::org_service_server::OrgService;
use proto::wire::fleet::{
    AddOrgKeyRequest, CreateOrgRequest, GetOrgRequest, ListOrgsRequest, ListOrgsResponse, Org,
    PublicKey, RemoveOrgKeyRequest, SetOrgKeysRequest, SetOrgQuotaRequest,
};
use tonic::{Request, Response, Status, async_trait};

use super::{Desk, RACES_MAX, found, request_id};
use crate::page;
use crate::placement;
use crate::sale::{display_name, timestamp};
use crate::store::StoreError;

/// Characters of a key's name.
const KID_CHARS_MAX: usize = 64;
/// When to try again to register an org while cells are missing.
const CELLS_RETRY_MS: u32 = 5_000;

/// The service.
#[derive(Debug)]
pub(super) struct Orgs(pub(super) Arc<Desk>);

#[async_trait]
impl OrgService for Orgs {
    async fn create_org(
        &self,
        request: Request<CreateOrgRequest>,
    ) -> Result<Response<Org>, Status> {
        self.0.auth.operator(request.metadata()).await?;
        Ok(Response::new(self.create(request.into_inner()).await?))
    }

    async fn get_org(&self, request: Request<GetOrgRequest>) -> Result<Response<Org>, Status> {
        self.0.auth.operator(request.metadata()).await?;
        let org = self.read(&request.get_ref().name).await?;
        Ok(Response::new(view(org)))
    }

    async fn list_orgs(
        &self,
        request: Request<ListOrgsRequest>,
    ) -> Result<Response<ListOrgsResponse>, Status> {
        self.0.auth.operator(request.metadata()).await?;
        Ok(Response::new(self.list(request.get_ref()).await?))
    }

    async fn set_org_keys(
        &self,
        request: Request<SetOrgKeysRequest>,
    ) -> Result<Response<Org>, Status> {
        self.0.auth.operator(request.metadata()).await?;
        let SetOrgKeysRequest { name, keys } = request.into_inner();
        let keys = read_keys("keys", &keys)?;
        let set = |org: &mut OrgRecord| {
            org.keys.clone_from(&keys);
            Ok(())
        };
        Ok(Response::new(self.change(&name, set).await?))
    }

    async fn add_org_key(
        &self,
        request: Request<AddOrgKeyRequest>,
    ) -> Result<Response<Org>, Status> {
        self.0.auth.operator(request.metadata()).await?;
        let AddOrgKeyRequest { name, key } = request.into_inner();
        let key = read_key("key", &key.unwrap_or_default())?;
        let add = |org: &mut OrgRecord| match org.keys.iter().find(|one| one.kid == key.kid) {
            Some(there) if *there == key => Ok(()),
            Some(_) => Err(Fault::field("key", "has the kid of another key; choose another one")),
            None if org.keys.len() >= ORG_KEYS_MAX => {
                Err(Fault::field("key", "would be the third; remove one of the two first"))
            }
            None => {
                org.keys.push(key.clone());
                Ok(())
            }
        };
        Ok(Response::new(self.change(&name, add).await?))
    }

    async fn remove_org_key(
        &self,
        request: Request<RemoveOrgKeyRequest>,
    ) -> Result<Response<Org>, Status> {
        self.0.auth.operator(request.metadata()).await?;
        let RemoveOrgKeyRequest { name, kid } = request.into_inner();
        let remove = |org: &mut OrgRecord| {
            let at = found(org.keys.iter().position(|key| key.kid == kid))?;
            if org.keys.len() == 1 {
                return Err(Fault::field("kid", "is the org's only key; add another one first"));
            }
            org.keys.remove(at);
            Ok(())
        };
        Ok(Response::new(self.change(&name, remove).await?))
    }

    async fn set_org_quota(
        &self,
        request: Request<SetOrgQuotaRequest>,
    ) -> Result<Response<Org>, Status> {
        self.0.auth.operator(request.metadata()).await?;
        let SetOrgQuotaRequest { name, calls_per_s } = request.into_inner();
        let set = |org: &mut OrgRecord| {
            org.calls_per_s = calls_per_s;
            Ok(())
        };
        Ok(Response::new(self.change(&name, set).await?))
    }
}

impl Orgs {
    async fn read(&self, name: &str) -> Result<OrgRecord, Fault> {
        Ok(found(self.0.store.org(&parse_org(name)?).await?)?.value)
    }

    async fn create(&self, request: CreateOrgRequest) -> Result<Org, Fault> {
        let id: OrgId = request.org_id.parse().map_err(|_| {
            let complaint = "must be 3 to 32 lower-case letters, digits and dashes, a letter first";
            Fault::field("org_id", complaint)
        })?;
        if !request.request_id.is_empty() {
            request_id(&request.request_id)?;
        }
        let asked = request.org.unwrap_or_default();
        let mut org = OrgRecord {
            org: id.to_string(),
            display_name: display_name("org.display_name", &asked.display_name)?,
            keys: read_keys("org.keys", &asked.keys)?,
            cells: Vec::new(),
            create_ms: self.0.clock.now_ms(),
            request_id: request.request_id.to_ascii_lowercase(),
            ..OrgRecord::default()
        };
        for _ in 0..RACES_MAX {
            if let Some(there) = self.0.store.org(&id).await? {
                return repeated(there.value, &org);
            }
            let placed = self.place(&id, &mut org).await?;
            match self.0.store.create_org(&org, placed).await {
                Ok(_) => return Ok(view(org)),
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Gives the org its cells; returns what was the last placement then.
    async fn place(&self, id: &OrgId, org: &mut OrgRecord) -> Result<i64, Fault> {
        let k = self.0.cells_per_org;
        let placements = self.0.store.placements().await?;
        let cells = self.0.store.cell_ids().await?;
        let existing: Vec<_> = placements.orgs.into_iter().map(|(_, cells)| cells).collect();
        let chosen = placement::place(id, &cells, k, &existing).ok_or_else(|| Fault {
            field: Some(("org_id", format!("needs {k} cells, {} seen so far", cells.len()))),
            ..Fault::later(Reason::Overloaded, CELLS_RETRY_MS)
        })?;
        org.cells = chosen.iter().map(ToString::to_string).collect();
        Ok(placements.revision)
    }

    async fn list(&self, request: &ListOrgsRequest) -> Result<ListOrgsResponse, Fault> {
        let page = page::read("orgs", request.page_size, &request.page_token)?;
        let (orgs, more) = self.0.store.orgs(&page).await?;
        let last = orgs.last().filter(|_| more).map(|org| page::token("orgs", &org.value.org));
        Ok(ListOrgsResponse {
            orgs: orgs.into_iter().map(|org| view(org.value)).collect(),
            next_page_token: last.unwrap_or_default(),
        })
    }

    /// Changes an org's record.
    async fn change(
        &self,
        name: &str,
        change: impl Fn(&mut OrgRecord) -> Result<(), Fault>,
    ) -> Result<Org, Fault> {
        Ok(view(self.0.change_org(&parse_org(name)?, change).await?))
    }
}

/// An org that is there already: made by the same request, or somebody else's.
fn repeated(there: OrgRecord, asked: &OrgRecord) -> Result<Org, Fault> {
    if asked.request_id.is_empty() || there.request_id != asked.request_id {
        return Err(Fault::new(Reason::AlreadyExists));
    }
    // Its keys may have been replaced since; its name never changes.
    if there.display_name != asked.display_name {
        return Err(Fault::new(Reason::RequestIdReused));
    }
    Ok(view(there))
}

fn read_keys(field: &'static str, keys: &[PublicKey]) -> Result<Vec<KeyRecord>, Fault> {
    if keys.is_empty() || keys.len() > ORG_KEYS_MAX {
        return Err(Fault::field(field, "must be one or two keys"));
    }
    let mut read: Vec<KeyRecord> = Vec::with_capacity(keys.len());
    for key in keys {
        let key = read_key(field, key)?;
        if read.iter().any(|other| other.kid == key.kid) {
            return Err(Fault::field(field, "must have different kids"));
        }
        read.push(key);
    }
    Ok(read)
}

fn read_key(field: &'static str, key: &PublicKey) -> Result<KeyRecord, Fault> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if key.kid.is_empty() || key.kid.len() > KID_CHARS_MAX || !key.kid.chars().all(plain) {
        let complaint = "must have a kid of 1 to 64 letters, digits, dashes, dots, underscores";
        return Err(Fault::field(field, complaint));
    }
    let public = key.public_key().map_err(|bad| Fault::field(field, bad.0))?;
    Ok(KeyRecord::named(key.kid.as_str(), &public))
}

fn view(org: OrgRecord) -> Org {
    // What cannot be read was not written by this version; it is shown without its bytes.
    let key = |key: &KeyRecord| match key.public_key() {
        Ok(public) => PublicKey::named(key.kid.as_str(), &public),
        Err(_) => PublicKey { kid: key.kid.clone(), key: None },
    };
    Org {
        name: format!("orgs/{}", org.org),
        display_name: org.display_name,
        keys: org.keys.iter().map(key).collect(),
        create_time: Some(timestamp(org.create_ms)),
        calls_per_s: org.calls_per_s,
    }
}
