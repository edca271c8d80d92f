//! The judge: compares what clients were told, the provider's file, every Postgres and every Redis, and names each
//! broken invariant.
//!
//! It reads the four ledgers separately into plain [`Evidence`] and decides purely from that. It repeats none of the
//! planes' code: only the messages of the ledger are shared, and what lies in the stores is read by its layout. It
//! judges runs that have come to rest; an order that is still live then is a stranded one.

mod case;
mod check;
mod evidence;
mod indices;
mod merkle;
mod postgres;
mod provider;
mod ranges;
mod redis;
mod replay;
mod verdict;

use std::fmt;
use std::path::{Path, PathBuf};

use proto::invariant::Invariant;
use sqlx::PgConnection;

use crate::told::Told;

pub use evidence::{
    Agreed, Bucket, BuyerMemory, Evidence, Intent, LedgerRow, Memory, OrderRow, Share, UnitRow,
};
pub use replay::Move;
pub use verdict::{Judgement, LedgerCounts, Verdict};

/// So often a cell is read when its buckets change hands meanwhile.
const READS_MAX: u32 = 3;

/// Why evidence could not be read. Nothing was judged then.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The provider's file.
    #[error("cannot read the provider's file {}: {reason}", path.display())]
    Provider {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A cell's Postgres.
    #[error("cannot read the Postgres of {cell}; is it up? {source}")]
    Postgres {
        /// The cell.
        cell: String,
        /// What it said.
        source: sqlx::Error,
    },
    /// A cell's Redis.
    #[error("cannot read the Redis of {cell}; is it up? {source}")]
    Redis {
        /// The cell.
        cell: String,
        /// What it said.
        source: ::redis::RedisError,
    },
    /// Something in a store that cannot be what its layout says.
    #[error("{cell} holds {what}")]
    Layout {
        /// The cell.
        cell: String,
        /// What it holds.
        what: String,
    },
}

/// Where a cell's ledgers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellStores {
    /// The cell's name.
    pub cell: String,
    /// A session of it sees every row: `postgres://…`.
    pub postgres_url: String,
    /// `redis://…`.
    pub redis_url: String,
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub invariant: Invariant,
    /// What it is about: a sale, a bucket, an order, a unit.
    pub subject: String,
    /// What is wrong.
    pub sentence: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.invariant, self.subject, self.sentence)
    }
}

/// Reads all ledgers of a run that has come to rest.
///
/// # Errors
/// When one of them cannot be read.
pub async fn read(
    sales: Vec<Agreed>,
    told: Vec<Told>,
    provider_file: &Path,
    cells: &[CellStores],
) -> Result<Evidence, ReadError> {
    let mut evidence = Evidence { sales, told, ..Evidence::default() };
    evidence.intents = provider::read(provider_file)?;
    for stores in cells {
        let mut session = postgres::open(stores).await?;
        let buckets = read_whole(&stores.cell, &mut session, &stores.redis_url).await?;
        evidence.buckets.extend(buckets);
    }
    Ok(evidence)
}

/// Reads one cell through a session that is open already, seeing what that session sees.
///
/// # Errors
/// When one of its stores cannot be read.
pub async fn read_cell(
    cell: &str,
    session: &mut PgConnection,
    redis_url: &str,
) -> Result<Vec<Bucket>, ReadError> {
    let mut buckets = postgres::read(cell, session).await?;
    redis::read(cell, redis_url, &mut buckets).await?;
    Ok(buckets)
}

/// Reads one cell through a session in no transaction. The stores are read one after the other, and a bucket may change
/// hands in between: then all is read again, in a snapshot of its own. What stays torn is a finding.
pub(crate) async fn read_whole(
    cell: &str,
    session: &mut PgConnection,
    redis_url: &str,
) -> Result<Vec<Bucket>, ReadError> {
    let mut times = 1;
    loop {
        postgres::begin(cell, session).await?;
        let buckets = read_cell(cell, session, redis_url).await?;
        postgres::end(cell, session).await?;
        if times == READS_MAX || !buckets.iter().any(is_torn) {
            return Ok(buckets);
        }
        times += 1;
    }
}

/// Whether Redis was read under a later epoch than Postgres.
fn is_torn(bucket: &Bucket) -> bool {
    bucket.memory.as_ref().is_some_and(|memory| memory.epoch > bucket.epoch)
}

/// Reads the provider's file.
///
/// # Errors
/// When it cannot be read or is not what its format says.
pub fn read_provider(file: &Path) -> Result<Vec<Intent>, ReadError> {
    provider::read(file)
}

/// Decides.
pub fn judge(evidence: &Evidence) -> Judgement {
    let case = case::Case::open(evidence);
    let violations = check::all(&case);
    verdict::decide(&case, violations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_torn_when_redis_is_ahead() {
        let bucket = |epoch, memory: Option<i64>| Bucket {
            epoch,
            memory: memory.map(|epoch| Memory { epoch, ..Memory::default() }),
            ..Bucket::default()
        };
        // Behind is what a keeper was struck in, which is the checks' to judge.
        let rows = [(3, None, false), (3, Some(3), false), (3, Some(2), false), (3, Some(4), true)];
        for (epoch, memory, torn) in rows {
            assert_eq!(is_torn(&bucket(epoch, memory)), torn, "{epoch} and {memory:?}");
        }
    }
}
