//! What a cell process is started with.

use crate::ledger::LedgerKey;
use proto::id::{CellId, ProcessId};
use runtime::config::ProcessArgs;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// A process of a Floodgate cell.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "floodgate-cell", version, about)]
pub struct Config {
    /// What every process is started with
    #[command(flatten)]
    pub process_args: ProcessArgs,

    /// The cell that this process belongs to
    #[arg(long, env = "FLOODGATE_CELL", value_name = "CELL")]
    pub cell: CellId,

    /// The name of this process within its cell
    #[arg(long, env = "FLOODGATE_PROCESS", value_name = "PROCESS")]
    pub process: ProcessId,

    /// Where routers reach this process, when that differs from --listen
    #[arg(long, env = "FLOODGATE_ADVERTISE", value_name = "URL")]
    pub advertise: Option<String>,

    /// Addresses of etcd
    #[arg(
        long,
        env = "FLOODGATE_ETCD",
        value_name = "URL",
        value_delimiter = ',',
        required = true
    )]
    pub etcd: Vec<String>,

    /// The cell's Redis, as the user that deploy/redis/cell.acl describes
    #[arg(long, env = "FLOODGATE_REDIS", value_name = "URL", hide_env_values = true)]
    pub redis: StoreUrl,

    /// The cell's Postgres, as a role that owns nothing there
    #[arg(long, env = "FLOODGATE_POSTGRES", value_name = "URL", hide_env_values = true)]
    pub postgres: StoreUrl,

    /// The same Postgres as the role that owns the schema, to bring it up to date at the start; left out where others do
    #[arg(long, env = "FLOODGATE_POSTGRES_OWNER", value_name = "URL", hide_env_values = true)]
    pub postgres_owner: Option<StoreUrl>,

    /// Calls in one batch at most: fewer make each Redis call shorter and everything else dearer
    #[arg(
        long,
        env = "FLOODGATE_BATCH_CALLS_MAX",
        value_name = "N",
        default_value_t = 256,
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    pub batch_calls_max: u16,

    /// File with the private key that signs the heads of this cell's ledgers, as `floodgate keys generate` makes it
    #[arg(long, env = "FLOODGATE_LEDGER_KEY", value_name = "FILE", value_parser = LedgerKey::read)]
    pub ledger_key: LedgerKey,

    /// The payment provider
    #[arg(long, env = "FLOODGATE_PROVIDER", value_name = "URL")]
    pub provider: String,
}

/// The address of a store, with the password of whoever works with it: printed, it shows no more than its kind.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(String);

impl StoreUrl {
    /// All of it, to connect with.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for StoreUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<StoreUrl, Infallible> {
        Ok(StoreUrl(text.into()))
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.0.split_once("://").map_or("?", |(kind, _)| kind);
        write!(f, "{kind}://…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use ring::rand::SystemRandom;
    use ring::signature::Ed25519KeyPair;

    #[test]
    fn a_printed_configuration_holds_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.key");
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        std::fs::write(&file, made.as_ref()).unwrap();
        let key = format!("--ledger-key={}", file.display());
        let words = [
            "floodgate-cell",
            &key,
            "--cell=cell-1",
            "--process=p1",
            "--etcd=http://127.0.0.1:2379",
            "--redis=redis://cell:hush@127.0.0.1:6379",
            "--postgres=postgres://floodgate_cell:hush@127.0.0.1/floodgate",
            "--postgres-owner=postgres://floodgate:hush@127.0.0.1/floodgate",
            "--provider=http://127.0.0.1:1",
        ];
        let config = Config::try_parse_from(words).unwrap();
        assert_eq!(config.redis.expose(), "redis://cell:hush@127.0.0.1:6379");
        let printed = format!("{config:?}");
        assert!(printed.contains("redis://…") && !printed.contains("hush"), "{printed}");
        let inventory = crate::inventory::Inventory::new(config.redis.expose()).unwrap();
        assert!(!format!("{inventory:?}").contains("hush"), "{inventory:?}");
    }
}
