//! Drills: a fault with its hypothesis. Each strikes at a moment that the run's plan has drawn, in the middle of a sale.
//!
//! A drill knows how the sale goes only from what clients were told, and hurts servers only from outside. Whether its
//! hypothesis held is decided afterwards, from the ledgers and the latencies.

mod control_plane_gone;
mod redis_killed;

use std::time::{Duration, Instant};

use local::{LocalError, Platform};
use runtime::clock::Clock;
use tokio::time::sleep;

use crate::judge::Judgement;
use crate::load::{Live, SaleLive, Samples};
use crate::report::DrillReport;

/// How often the moment is looked for.
const MOMENT_POLL: Duration = Duration::from_millis(1);

/// A moment that has not come after so long does not come.
const MOMENT_LIMIT: Duration = Duration::from_secs(60);

/// The drills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Drill {
    /// kill -9 of a cell's Redis.
    RedisKilled,
    /// Control plane and etcd paused, then killed, and a router restarted without them.
    ControlPlaneGone,
}

/// What a drill works on.
#[derive(Debug)]
pub struct Field<'a> {
    /// The servers.
    pub platform: &'a Platform,
    /// What clients were told so far.
    pub live: &'a Live,
    /// The sale's buckets: number, cell, units.
    pub buckets: &'a [(u32, String, u32)],
    /// Units of the sale.
    pub stock: u32,
    /// Units that one buyer may want.
    pub cap: u32,
    /// When it strikes: the share (0 to 1) of units that are held then.
    pub moment: f64,
    /// Whom it strikes, modulo the number of those it may be.
    pub victim: usize,
}

/// What a drill did, before it is known what came of it.
#[derive(Clone, Debug)]
pub enum Struck {
    /// See [`Drill::RedisKilled`].
    RedisKilled(redis_killed::Blow),
    /// See [`Drill::ControlPlaneGone`].
    ControlPlaneGone(control_plane_gone::Blow),
    /// Its moment did not come.
    Missed(Drill),
}

impl Drill {
    /// All of them.
    pub const ALL: [Drill; 2] = [Drill::RedisKilled, Drill::ControlPlaneGone];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Drill::RedisKilled => "redis-killed",
            Drill::ControlPlaneGone => "control-plane-gone",
        }
    }

    /// What is believed before it.
    pub const fn hypothesis(self) -> &'static str {
        match self {
            Drill::RedisKilled => {
                "a cell whose Redis is killed loses nothing and grants again within 2 s"
            }
            Drill::ControlPlaneGone => {
                "no call waits for etcd or the control plane, not even at a router born without them"
            }
        }
    }

    /// Waits for the moment and strikes.
    ///
    /// # Errors
    /// When a server could not be hurt or brought back.
    pub async fn strike(self, field: &Field<'_>) -> Result<Struck, LocalError> {
        let struck = match self {
            Drill::RedisKilled => redis_killed::strike(field).await?.map(Struck::RedisKilled),
            Drill::ControlPlaneGone => {
                control_plane_gone::strike(field).await?.map(Struck::ControlPlaneGone)
            }
        };
        Ok(struck.unwrap_or(Struck::Missed(self)))
    }
}

impl Struck {
    /// What came of it.
    pub fn report(&self, judgement: &Judgement, samples: &Samples) -> DrillReport {
        let (drill, mut report) = match self {
            Struck::RedisKilled(blow) => (Drill::RedisKilled, blow.report(judgement)),
            Struck::ControlPlaneGone(blow) => (Drill::ControlPlaneGone, blow.report(samples)),
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
    fn sale(&self) -> Option<&SaleLive> {
        self.live.sale(0)
    }

    /// Waits until something is so; says whether it came true in time.
    async fn moment(&self, is_so: impl Fn(&SaleLive) -> bool) -> bool {
        let Some(sale) = self.sale() else { return false };
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
