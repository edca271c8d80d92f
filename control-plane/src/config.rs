//! What the control plane is started with.

use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proto::limits::CONTROL_ADDRESS_CALLS_PER_S;
use runtime::config::ProcessArgs;
use runtime::server::Network;

/// Flags and environment variables.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "floodgate-control-plane",
    version,
    about = "Decides where orgs live and when sales are ready"
)]
pub struct Args {
    /// What all planes share.
    #[command(flatten)]
    pub process: ProcessArgs,

    /// Addresses of etcd, like http://host:2379
    #[arg(
        long,
        env = "FLOODGATE_ETCD",
        value_name = "URL",
        value_delimiter = ',',
        required = true
    )]
    pub etcd: Vec<String>,

    /// File with the public half of the platform's Ed25519 key, as base64url of its 32 bytes
    #[arg(long, env = "FLOODGATE_PLATFORM_KEY", value_name = "FILE")]
    pub platform_key: PathBuf,

    /// Calls a second from one address, or one IPv6 network of 64 bits; 0 means as many as come. Behind a balancer, which
    /// is one address, name it with --proxies or write 0
    #[arg(long, env = "FLOODGATE_ADDRESS_CALLS_PER_S", default_value_t = CONTROL_ADDRESS_CALLS_PER_S, value_name = "N")]
    pub address_calls_per_s: u32,

    /// Addresses and networks of proxies whose x-forwarded-for is believed, like 10.0.0.0/8
    #[arg(long, env = "FLOODGATE_PROXIES", value_name = "CIDR", value_delimiter = ',', num_args = 1..)]
    pub proxies: Vec<Network>,

    /// Cells that one org lives in
    #[arg(
        long,
        env = "FLOODGATE_CELLS_PER_ORG",
        value_name = "K",
        default_value_t = 3,
        value_parser = clap::value_parser!(u8).range(1..=32)
    )]
    pub cells_per_org: u8,

    /// Milliseconds before a sale's start at which its cells get ready
    #[arg(long, env = "FLOODGATE_WARM_LEAD_MS", value_name = "MS", default_value_t = 600_000)]
    pub warm_lead_ms: u64,

    /// Units above which a sale gets another bucket, at most 8 in a cell
    #[arg(
        long,
        env = "FLOODGATE_BUCKET_UNITS_MAX",
        value_name = "UNITS",
        default_value_t = 250_000,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub bucket_units_max: u32,
}

/// A configuration that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses of etcd, at least one.
    pub etcd: Vec<String>,
    /// The public half of the key that signs operators' tokens: raw Ed25519.
    pub platform_key: [u8; 32],
    /// Calls a second from one address; 0: as many as come.
    pub address_calls_per_s: u32,
    /// Whose word on addresses is taken.
    pub proxies: Vec<Network>,
    /// Cells that one org lives in, at least 1.
    pub cells_per_org: usize,
    /// Milliseconds before a sale's start at which its cells get ready.
    pub warm_lead_ms: u64,
    /// Units above which a sale gets another bucket, at least 1.
    pub bucket_units_max: u32,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file of the platform's key cannot be read.
    #[error("cannot read the platform key {}; name a readable file (--platform-key): {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{} is no Ed25519 public key; write its 32 bytes as base64url there", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
}

impl Args {
    /// Reads what the flags name.
    ///
    /// # Errors
    /// When the platform's key cannot be had.
    pub fn config(&self) -> Result<Config, ConfigError> {
        Ok(Config {
            etcd: self.etcd.clone(),
            platform_key: read_key(&self.platform_key)?,
            address_calls_per_s: self.address_calls_per_s,
            proxies: self.proxies.clone(),
            cells_per_org: self.cells_per_org.into(),
            warm_lead_ms: self.warm_lead_ms,
            bucket_units_max: self.bucket_units_max,
        })
    }
}

fn read_key(path: &Path) -> Result<[u8; 32], ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let bytes = URL_SAFE_NO_PAD.decode(text.trim().trim_end_matches('=')).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| ConfigError::NoKey { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Option<Args> {
        let program = ["floodgate-control-plane"];
        runtime::config::parse_from(program.iter().chain(words)).ok()
    }

    #[test]
    fn flags_and_the_key_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("platform.key");
        let name = file.to_str().unwrap();
        let words =
            ["--etcd", "http://a:1,http://b:2", "--etcd", "http://c:3", "--platform-key", name];
        std::fs::write(&file, format!("{}\n", URL_SAFE_NO_PAD.encode([7; 32]))).unwrap();
        let expected = Config {
            etcd: ["http://a:1", "http://b:2", "http://c:3"].map(str::to_owned).to_vec(),
            platform_key: [7; 32],
            address_calls_per_s: CONTROL_ADDRESS_CALLS_PER_S,
            proxies: Vec::new(),
            cells_per_org: 3,
            warm_lead_ms: 600_000,
            bucket_units_max: 250_000,
        };
        assert_eq!(args(&words).unwrap().config().unwrap(), expected);
        for bad in ["", "AAAA", "not base64!", &URL_SAFE_NO_PAD.encode([7; 33])] {
            std::fs::write(&file, bad).unwrap();
            let error = args(&words).unwrap().config().unwrap_err().to_string();
            assert!(error.contains("no Ed25519 public key"), "{error}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(args(&words).unwrap().config(), Err(ConfigError::Unreadable { .. })));
    }

    #[test]
    fn what_is_needed_is_asked_for() {
        assert!(args(&["--platform-key", "x"]).is_none());
        assert!(args(&["--etcd", "http://a:1"]).is_none());
        let good = ["--etcd", "http://a:1", "--platform-key", "x"];
        assert!(args(&[&good[..], &["--cells-per-org", "0"]].concat()).is_none());
        assert!(args(&[&good[..], &["--bucket-units-max", "0"]].concat()).is_none());
        assert!(args(&good).is_some());
    }
}
