//! `floodgate orgs`: tenants.

use std::path::{Path, PathBuf};

use proto::wire::fleet::org_service_client::OrgServiceClient;
use proto::wire::fleet::{
    AddOrgKeyRequest, CreateOrgRequest, GetOrgRequest, ListOrgsRequest, Org, PublicKey,
    RemoveOrgKeyRequest, SetOrgKeysRequest, SetOrgQuotaRequest,
};

use super::{PAGE_SIZE, request_id};
use crate::failure::Failure;
use crate::input::{AlgorithmArg, named, public_key, public_key_file};
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
    /// Add or remove one of an org's keys
    #[command(subcommand)]
    Keys(OrgKeys),
    /// Set how many calls a second an org may make at one router
    SetQuota {
        /// Its id
        org: String,
        /// Calls a second; 0 for the platform's default
        #[arg(long, value_name = "N")]
        calls_per_s: u32,
    },
}

/// What can be done with an org's keys: it has at most two, so that one can follow the other.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum OrgKeys {
    /// Add a key beside the org's first
    Add {
        /// The org's id
        org: String,
        /// The key, as `floodgate keys generate` writes it
        #[arg(long, value_name = "KID=PUBLIC", value_parser = public_key, conflicts_with_all = ["public", "alg", "kid"])]
        key: Option<PublicKey>,
        /// File with the public half (PEM), as `openssl pkey -pubout` writes it
        #[arg(long, value_name = "FILE", required_unless_present = "key")]
        public: Option<PathBuf>,
        /// What the key in the file signs; tokens with another algorithm are refused
        #[arg(long, value_enum, default_value_t = AlgorithmArg::Ed25519)]
        alg: AlgorithmArg,
        /// The key's name in the headers of tokens; made from the key when left out
        #[arg(long)]
        kid: Option<String>,
    },
    /// Remove a key: every token that it signed is void at once
    Remove {
        /// The org's id
        org: String,
        /// The key's name
        #[arg(long)]
        kid: String,
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
            Orgs::Keys(OrgKeys::Add { org, key, public, alg, kid }) => {
                let key = match (key, public) {
                    (None, Some(file)) => read_key(&file, alg, kid)?,
                    (key, _) => key.unwrap_or_default(),
                };
                let request = AddOrgKeyRequest { name: named("orgs", &org), key: Some(key) };
                client.add_org_key(request).await?.into_inner()
            }
            Orgs::Keys(OrgKeys::Remove { org, kid }) => {
                let request = RemoveOrgKeyRequest { name: named("orgs", &org), kid };
                client.remove_org_key(request).await?.into_inner()
            }
            Orgs::SetQuota { org, calls_per_s } => {
                let request = SetOrgQuotaRequest { name: named("orgs", &org), calls_per_s };
                client.set_org_quota(request).await?.into_inner()
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

fn read_key(file: &Path, alg: AlgorithmArg, kid: Option<String>) -> Result<PublicKey, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(Failure::io(format!("read the key {}", file.display())))?;
    public_key_file(alg.into(), &text, kid)
        .map_err(|why| Failure::Usage(format!("{}: {why}", file.display())))
}
