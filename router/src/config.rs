//! What a router is started with.

use crate::quota::Limits;
use proto::limits::{
    ADDRESS_CALLS_PER_S, BUYER_CALLS_BURST, BUYER_CALLS_PER_S, CONNECTION_AGE_S, ORG_CALLS_PER_S,
    ROUTER_CALLS_PER_S, SALE_CALLS_PER_S, WATCHERS_MAX,
};
use runtime::config::ProcessArgs;
use runtime::server::Network;
use runtime::tls::{TlsClient, TlsError, TlsFiles};
use std::path::PathBuf;

/// A Floodgate edge router.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "floodgate-router", version, about)]
pub struct Config {
    /// What every process is started with
    #[command(flatten)]
    pub process_args: ProcessArgs,

    /// Addresses of etcd
    #[arg(
        long,
        env = "FLOODGATE_ETCD",
        value_name = "URL",
        value_delimiter = ',',
        required = true
    )]
    pub etcd: Vec<String>,

    /// Calls a second that one buyer may make
    #[arg(long, env = "FLOODGATE_BUYER_CALLS_PER_S", default_value_t = BUYER_CALLS_PER_S, value_name = "N")]
    pub buyer_calls_per_s: u32,

    /// Calls that one buyer may make at once
    #[arg(long, env = "FLOODGATE_BUYER_CALLS_BURST", default_value_t = BUYER_CALLS_BURST, value_name = "N")]
    pub buyer_calls_burst: u32,

    /// Calls a second from one address, or one IPv6 network of 64 bits; 0 means as many as come. Behind a balancer, which
    /// is one address, name it with --proxies or write 0
    #[arg(long, env = "FLOODGATE_ADDRESS_CALLS_PER_S", default_value_t = ADDRESS_CALLS_PER_S, value_name = "N")]
    pub address_calls_per_s: u32,

    /// Addresses and networks of proxies whose x-forwarded-for is believed, like 10.0.0.0/8
    #[arg(long, env = "FLOODGATE_PROXIES", value_name = "CIDR", value_delimiter = ',', num_args = 1..)]
    pub proxies: Vec<Network>,

    /// Calls a second of one org whose record says nothing else; 0 means as many as come
    #[arg(long, env = "FLOODGATE_ORG_CALLS_PER_S", default_value_t = ORG_CALLS_PER_S, value_name = "N")]
    pub org_calls_per_s: u32,

    /// Calls a second of everybody; 0 means as many as come
    #[arg(long, env = "FLOODGATE_ROUTER_CALLS_PER_S", default_value_t = ROUTER_CALLS_PER_S, value_name = "N")]
    pub router_calls_per_s: u32,

    /// Calls a second for one sale that are passed on; 0 means as many as come
    #[arg(long, env = "FLOODGATE_SALE_CALLS_PER_S", default_value_t = SALE_CALLS_PER_S, value_name = "N")]
    pub sale_calls_per_s: u32,

    /// File with the CA of cells, in PEM; with it the link is encrypted, and a process must be of the cell that is dialled
    #[arg(long, env = "FLOODGATE_CELL_CA", value_name = "FILE", requires_all = ["cell_client_cert", "cell_client_key"])]
    pub cell_ca: Option<PathBuf>,

    /// File with the certificate that cells know this router by, in PEM
    #[arg(long, env = "FLOODGATE_CELL_CLIENT_CERT", value_name = "FILE", requires = "cell_ca")]
    pub cell_client_cert: Option<PathBuf>,

    /// File with its private key, in PEM
    #[arg(long, env = "FLOODGATE_CELL_CLIENT_KEY", value_name = "FILE", requires = "cell_ca")]
    pub cell_client_key: Option<PathBuf>,

    /// Seconds after which a storefront's connection is told to come again, give or take a tenth
    #[arg(long, env = "FLOODGATE_CONNECTION_AGE_S", default_value_t = CONNECTION_AGE_S, value_name = "S",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub connection_age_s: u32,

    /// Watchers of sales at a time; whoever comes then is told to poll
    #[arg(long, env = "FLOODGATE_WATCHERS_MAX", default_value_t = WATCHERS_MAX, value_name = "N")]
    pub watchers_max: usize,

    /// Origins whose pages may call from a browser; * is any, and nothing is none
    #[arg(
        long,
        env = "FLOODGATE_CORS_ORIGINS",
        default_value = "*",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    pub cors_origins: Vec<String>,

    /// Answer probes without a token: for measuring the way without its checks, never on a public port
    #[arg(long, env = "FLOODGATE_OPEN_PROBE")]
    pub open_probe: bool,
}

impl Config {
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            address: self.address_calls_per_s,
            buyer: self.buyer_calls_per_s,
            buyer_burst: self.buyer_calls_burst,
            sale: self.sale_calls_per_s,
            org: self.org_calls_per_s,
            all: self.router_calls_per_s,
        }
    }

    /// How cells are spoken to; none: in the clear.
    ///
    /// # Errors
    /// [`TlsError`] when files are named that cannot be used.
    pub fn cell_tls(&self) -> Result<Option<TlsClient>, TlsError> {
        match (&self.cell_client_cert, &self.cell_client_key, &self.cell_ca) {
            (Some(cert), Some(key), Some(ca)) => {
                let (cert, key, ca) = (cert.clone(), key.clone(), Some(ca.clone()));
                TlsClient::open(TlsFiles { cert, key, ca }).map(Some)
            }
            _ => Ok(None),
        }
    }
}
