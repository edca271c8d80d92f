//! Drills: a fault with its hypothesis, one in a file. Each strikes at a moment that is drawn, in the middle of a sale.
//!
//! A drill knows how the sale goes only from what clients were told, and hurts servers only from outside; what it has
//! hurt is whole again when it is done. Whether its hypothesis held is decided afterwards, from the ledgers, the
//! latencies, and what clients were told.

mod again;
mod aim;
mod blow;
mod clock_steps;
mod control_plane_gone;
mod etcd_gone;
mod etcd_killed;
mod etcd_paused;
mod fsync_fails;
mod keeper_paused;
mod link_cut;
mod mass_expiry;
mod metrics;
mod postgres_disk_full;
mod postgres_killed;
mod process_killed;
mod redis_killed;
mod redis_older;
mod redis_paused;
mod redis_wiped;
mod rolling_restart;
mod setup;

use std::time::{Duration, Instant};

use local::{LocalError, Platform};
use runtime::clock::Clock;
use runtime::etcd::EtcdError;
use tokio::time::sleep;

use crate::judge::{CellStores, Evidence, Judgement};
use crate::load::{Live, SaleLive, Samples};
use crate::report::DrillReport;
use crate::scene::SceneError;

pub use blow::Blow;
pub use setup::{Setup, Special};

/// How often the moment is looked for.
const MOMENT_POLL: Duration = Duration::from_millis(1);

/// A moment that has not come after so long does not come.
const MOMENT_LIMIT: Duration = Duration::from_secs(60);

/// The drills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Drill {
    /// kill -9 of the process that keeps a bucket.
    ProcessKilled,
    /// Every process of a cell stopped in good order and started again, one after the other.
    RollingRestart,
    /// kill -9 of a cell's Redis.
    RedisKilled,
    /// A cell's Redis forgets everything, or a bucket's record.
    RedisWiped,
    /// A cell's Redis is replaced by what it was a while ago.
    RedisOlder,
    /// A cell's Redis stands still.
    RedisPaused,
    /// kill -9 of a cell's Postgres.
    PostgresKilled,
    /// A cell's Postgres has no room for its log.
    PostgresDiskFull,
    /// The disk under a cell's Postgres says that it could not write.
    FsyncFails,
    /// The process that keeps a bucket stands still while another takes over.
    KeeperPaused,
    /// The link between the router and the keeper's process breaks or hangs.
    LinkCut,
    /// The clock of a cell's Postgres steps.
    ClockSteps,
    /// Many holds end in the same second.
    MassExpiry,
    /// Control plane and etcd paused, then killed, and a router restarted without them.
    ControlPlaneGone,
    /// Etcd stands still for longer than any lease, the control plane is gone, and two routers are restarted meanwhile.
    EtcdPaused,
    /// The same with etcd killed.
    EtcdKilled,
}

/// What a drill works on.
#[derive(Debug)]
pub struct Field<'a> {
    /// The servers.
    pub platform: &'a Platform,
    /// What clients were told so far.
    pub live: &'a Live,
    /// Where the cells' ledgers are.
    pub stores: &'a [CellStores],
    /// The org and the sale that are struck.
    pub org: &'a str,
    /// See `org`.
    pub sale: &'a str,
    /// The sale's buckets: number, cell, units.
    pub buckets: &'a [(u32, String, u32)],
    /// Units of the sale.
    pub stock: u32,
    /// Of these, units that are held by buyers who came before the crowd.
    pub filled: u32,
    /// Units that one buyer may want.
    pub cap: u32,
    /// How long a hold lasts.
    pub hold_ttl: Duration,
    /// For how long nothing is to happen before it strikes.
    pub lead: Duration,
    /// When it strikes: the share (0 to 1) of units that are held then.
    pub moment: f64,
    /// Whom it strikes, modulo the number of those it may be.
    pub victim: usize,
}

/// What a drill did, before it is known what came of it.
#[derive(Clone, Debug)]
pub enum Struck {
    /// What it did to a bucket, or to what that stands on.
    Bucket(Drill, Box<Blow>),
    /// See [`Drill::ControlPlaneGone`].
    ControlPlaneGone(control_plane_gone::Blow),
    /// See [`Drill::EtcdPaused`] and [`Drill::EtcdKilled`].
    EtcdGone(Drill, Box<etcd_gone::Gone>),
    /// Its moment did not come.
    Missed(Drill),
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Aftermath<'a> {
    /// What the ledgers say.
    pub evidence: &'a Evidence,
    /// What the judge says.
    pub judgement: &'a Judgement,
    /// What clients measured.
    pub samples: &'a Samples,
    /// How many times longer than believed a recovery may take: 1 where time is measured, more where it is not.
    pub patience: u32,
}

/// Why a drill did not strike.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// A server could not be hurt or brought back.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// A cell's Postgres did not say what was asked.
    #[error("a cell's Postgres did not answer a drill: {0}")]
    Postgres(#[from] sqlx::Error),
    /// A cell's Redis did not do what was asked.
    #[error("a cell's Redis did not answer a drill: {0}")]
    Redis(#[from] redis::RedisError),
    /// Etcd did not answer.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// The control plane did not come back.
    #[error(transparent)]
    Scene(#[from] SceneError),
    /// This machine, or this platform, has not what the drill needs.
    #[error("cannot be done here: {0}")]
    NotHere(String),
}

impl Drill {
    /// All of them.
    pub const ALL: [Drill; 16] = [
        Drill::ProcessKilled,
        Drill::RollingRestart,
        Drill::RedisKilled,
        Drill::RedisWiped,
        Drill::RedisOlder,
        Drill::RedisPaused,
        Drill::PostgresKilled,
        Drill::PostgresDiskFull,
        Drill::FsyncFails,
        Drill::KeeperPaused,
        Drill::LinkCut,
        Drill::ClockSteps,
        Drill::MassExpiry,
        Drill::ControlPlaneGone,
        Drill::EtcdPaused,
        Drill::EtcdKilled,
    ];

    /// Its name on the command line; its file bears the same.
    pub const fn name(self) -> &'static str {
        match self {
            Drill::ProcessKilled => "process-killed",
            Drill::RollingRestart => "rolling-restart",
            Drill::RedisKilled => "redis-killed",
            Drill::RedisWiped => "redis-wiped",
            Drill::RedisOlder => "redis-older",
            Drill::RedisPaused => "redis-paused",
            Drill::PostgresKilled => "postgres-killed",
            Drill::PostgresDiskFull => "postgres-disk-full",
            Drill::FsyncFails => "fsync-fails",
            Drill::KeeperPaused => "keeper-paused",
            Drill::LinkCut => "link-cut",
            Drill::ClockSteps => "clock-steps",
            Drill::MassExpiry => "mass-expiry",
            Drill::ControlPlaneGone => "control-plane-gone",
            Drill::EtcdPaused => "etcd-paused",
            Drill::EtcdKilled => "etcd-killed",
        }
    }

    /// What is believed before it.
    pub const fn hypothesis(self) -> &'static str {
        match self {
            Drill::ProcessKilled => process_killed::HYPOTHESIS,
            Drill::RollingRestart => rolling_restart::HYPOTHESIS,
            Drill::RedisKilled => redis_killed::HYPOTHESIS,
            Drill::RedisWiped => redis_wiped::HYPOTHESIS,
            Drill::RedisOlder => redis_older::HYPOTHESIS,
            Drill::RedisPaused => redis_paused::HYPOTHESIS,
            Drill::PostgresKilled => postgres_killed::HYPOTHESIS,
            Drill::PostgresDiskFull => postgres_disk_full::HYPOTHESIS,
            Drill::FsyncFails => fsync_fails::HYPOTHESIS,
            Drill::KeeperPaused => keeper_paused::HYPOTHESIS,
            Drill::LinkCut => link_cut::HYPOTHESIS,
            Drill::ClockSteps => clock_steps::HYPOTHESIS,
            Drill::MassExpiry => mass_expiry::HYPOTHESIS,
            Drill::ControlPlaneGone => control_plane_gone::HYPOTHESIS,
            Drill::EtcdPaused => etcd_paused::HYPOTHESIS,
            Drill::EtcdKilled => etcd_killed::HYPOTHESIS,
        }
    }

    /// What it needs; none when it leaves a platform behind on which there is no second trial, so that it strikes in a
    /// demo only.
    pub fn setup(self) -> Option<Setup> {
        match self {
            Drill::PostgresDiskFull => Some(postgres_disk_full::setup()),
            Drill::LinkCut => Some(link_cut::setup()),
            Drill::ClockSteps => Some(clock_steps::setup()),
            Drill::MassExpiry => Some(mass_expiry::setup()),
            Drill::ControlPlaneGone => None,
            Drill::EtcdPaused | Drill::EtcdKilled => Some(etcd_gone::setup()),
            _ => Some(Setup::default()),
        }
    }

    /// Waits for the moment and strikes.
    ///
    /// # Errors
    /// When a server could not be hurt or brought back.
    pub async fn strike(self, field: &Field<'_>) -> Result<Struck, DrillError> {
        let blow = match self {
            Drill::ProcessKilled => process_killed::strike(field).await,
            Drill::RollingRestart => rolling_restart::strike(field).await,
            Drill::RedisKilled => redis_killed::strike(field).await,
            Drill::RedisWiped => redis_wiped::strike(field).await,
            Drill::RedisOlder => redis_older::strike(field).await,
            Drill::RedisPaused => redis_paused::strike(field).await,
            Drill::PostgresKilled => postgres_killed::strike(field).await,
            Drill::PostgresDiskFull => postgres_disk_full::strike(field).await,
            Drill::FsyncFails => fsync_fails::strike(field).await,
            Drill::KeeperPaused => keeper_paused::strike(field).await,
            Drill::LinkCut => link_cut::strike(field).await,
            Drill::ClockSteps => clock_steps::strike(field).await,
            Drill::MassExpiry => mass_expiry::strike(field).await,
            Drill::ControlPlaneGone => {
                let blow = control_plane_gone::strike(field).await?;
                return Ok(blow.map_or(Struck::Missed(self), Struck::ControlPlaneGone));
            }
            Drill::EtcdPaused => return self.gone(etcd_paused::strike(field).await?),
            Drill::EtcdKilled => return self.gone(etcd_killed::strike(field).await?),
        };
        Ok(blow?.map_or(Struck::Missed(self), |blow| Struck::Bucket(self, Box::new(blow))))
    }

    fn gone(self, gone: Option<etcd_gone::Gone>) -> Result<Struck, DrillError> {
        Ok(gone.map_or(Struck::Missed(self), |gone| Struck::EtcdGone(self, Box::new(gone))))
    }
}

impl Struck {
    /// What came of it.
    pub fn report(&self, aftermath: &Aftermath<'_>) -> DrillReport {
        let (drill, mut report) = match self {
            Struck::Bucket(drill, blow) => {
                let mut report = blow.report(aftermath);
                match drill {
                    Drill::MassExpiry => mass_expiry::weigh(blow, aftermath, &mut report),
                    Drill::RollingRestart => rolling_restart::weigh(aftermath, &mut report),
                    _ => {}
                }
                (*drill, report)
            }
            Struck::ControlPlaneGone(blow) => {
                (Drill::ControlPlaneGone, blow.report(aftermath.samples))
            }
            Struck::EtcdGone(drill, gone) => (*drill, gone.report(aftermath)),
            Struck::Missed(drill) => {
                let void = vec!["the moment to strike did not come".to_owned()];
                (*drill, DrillReport { void, ..DrillReport::default() })
            }
        };
        drill.name().clone_into(&mut report.name);
        drill.hypothesis().clone_into(&mut report.hypothesis);
        report
    }
}

impl Field<'_> {
    /// The sale that is struck.
    fn sale_live(&self) -> Option<&SaleLive> {
        self.live.sale(0)
    }

    /// Waits until something is so; says whether it came true in time.
    async fn moment(&self, is_so: impl Fn(&SaleLive) -> bool) -> bool {
        let Some(sale) = self.sale_live() else { return false };
        let deadline = Instant::now() + MOMENT_LIMIT;
        while !is_so(sale) {
            if Instant::now() > deadline {
                return false;
            }
            sleep(MOMENT_POLL).await;
        }
        true
    }
}

/// Now, unix microseconds.
fn now_us() -> u64 {
    let since = Clock::system().now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// A share (0 to 1) of some units.
fn share_of(units: u32, share: f64) -> u64 {
    let wanted = f64::from(units) * share.clamp(0.0, 1.0);
    // The nearest whole number of units that is at least the share.
    (0..=u64::from(units))
        .find(|count| wanted <= u32::try_from(*count).map_or(f64::MAX, f64::from))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drill_has_a_file_of_its_name_and_a_hypothesis_of_its_own() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/drill");
        let mut hypotheses = std::collections::BTreeSet::new();
        for drill in Drill::ALL {
            let file = folder.join(format!("{}.rs", drill.name().replace('-', "_")));
            let text = std::fs::read_to_string(&file).unwrap();
            let opening = format!("//! `{}`: ", drill.name());
            assert!(text.starts_with(&opening), "{} does not open with it", file.display());
            assert!(drill.hypothesis().len() > 20 && hypotheses.insert(drill.hypothesis()));
            let by_name = <Drill as clap::ValueEnum>::from_str(drill.name(), false);
            assert_eq!(by_name, Ok(drill));
        }
        for value in <Drill as clap::ValueEnum>::value_variants() {
            assert!(Drill::ALL.contains(value), "{} is left out", value.name());
        }
    }

    #[test]
    fn a_share_is_the_least_number_of_units_that_is_at_least_it() {
        for (units, share, expected) in [(10, 0.0, 0), (10, 0.11, 2), (10, 1.0, 10), (0, 0.5, 0)] {
            assert_eq!(share_of(units, share), expected, "{share} of {units}");
        }
    }
}
