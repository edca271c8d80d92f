//! `floodgate orgs`: tenants.

use proto::wire::fleet::org_service_client::OrgServiceClient;
use proto::wire::fleet::{
    CreateOrgRequest, GetOrgRequest, ListOrgsRequest, Org, PublicKey, SetOrgKeysRequest,
};

use super::{PAGE_SIZE, request_id};
use crate::failure::Failure;
use crate::input::{named, public_key};
use crate::line::Reach;
use crate::output::Output;

/// What can be done with orgs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Orgs {
    /// Register an org with its first key; it is given its cells
    Create {
        /// Its id: 3 to 32 lower-case letters, digits and dashes
        org: String,
        /// For people
        #[arg(long, default_value = "")]
        display_name: String,
        /// Key that signs its tokens, as `floodgate keys generate` writes it; at most two
        #[arg(long = "key", value_name = "KID=PUBLIC", value_parser = public_key, required = true)]
        keys: Vec<PublicKey>,
        /// UUID: the same one again gives the same org
        #[arg(long, value_name = "UUID")]
        request_id: Option<String>,
    },
    /// Show one org
    Get {
        /// Its id
        org: String,
    },
    /// Show all orgs
    List,
    /// Replace an org's keys; one that is left out is void at once
    SetKeys {
        /// Its id
        org: String,
        /// Keys that sign its tokens from now on, one or two
        #[arg(long = "key", value_name = "KID=PUBLIC", value_parser = public_key, required = true)]
        keys: Vec<PublicKey>,
    },
}

impl Orgs {
    pub(crate) async fn run(self, reach: &Reach, output: &Output) -> Result<(), Failure> {
        let mut client = OrgServiceClient::new(reach.control_plane()?);
        let org = match self {
            Orgs::Create { org, display_name, keys, request_id: id } => {
                let request = CreateOrgRequest {
                    org_id: org.trim_start_matches("orgs/").to_owned(),
                    org: Some(Org { display_name, keys, ..Org::default() }),
                    request_id: request_id(id),
                };
                client.create_org(request).await?.into_inner()
            }
            Orgs::Get { org } => {
                client.get_org(GetOrgRequest { name: named("orgs", &org) }).await?.into_inner()
            }
            Orgs::SetKeys { org, keys } => {
                let request = SetOrgKeysRequest { name: named("orgs", &org), keys };
                client.set_org_keys(request).await?.into_inner()
            }
            Orgs::List => {
                let (mut orgs, mut page_token) = (Vec::new(), String::new());
                loop {
                    let request = ListOrgsRequest { page_size: PAGE_SIZE, page_token };
                    let page = client.list_orgs(request).await?.into_inner();
                    orgs.extend(page.orgs);
                    page_token = page.next_page_token;
                    if page_token.is_empty() {
                        return output.many("orgs", &orgs);
                    }
                }
            }
        };
        output.one(&org)
    }
}
