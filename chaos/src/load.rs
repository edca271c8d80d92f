//! The load: buyers who arrive when the plan says, whatever happened to those before them.
//!
//! It is open-loop: a slow platform does not make fewer buyers come, and every call's latency counts from the moment
//! it was meant to begin. Each buyer is one task that joins, waits, reserves and pays, and asks again with the same
//! request id whenever an outcome is unknown. All of it runs on threads of its own, so that what else a run does
//! (drills, reports) delays no arrival.

mod arrivals;
mod balancer;
mod buyer;
mod caller;
mod live;
mod page;
mod sample;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use runtime::clock::Clock;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Endpoint;

use crate::plan::BuyerPlan;
use crate::told::{Told, ToldLog};

use balancer::Balancer;

pub use live::{End, Live, SaleLive};
pub use sample::{CallKind, Latency, Outcome, Sample, Samples};

/// A connection of ours serves so many calls at a time at most.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Calls that wait for one connection's task, before callers wait themselves.
const CHANNEL_CALLS: usize = 4_096;

/// The buyers of one sale.
#[derive(Debug)]
pub struct Crowd {
    /// `orgs/{org}/sales/{sale}`.
    pub sale: String,
    /// Units a buyer may have, for the report only: the platform decides.
    pub stock: u32,
    /// Who comes when, in the order of their arrival.
    pub buyers: Vec<BuyerPlan>,
    /// Each buyer's `authorization`, in the same order.
    pub tokens: Vec<MetadataValue<Ascii>>,
    /// Somebody's who only looks at the sale's page.
    pub page_token: MetadataValue<Ascii>,
    /// Connections that its buyers share.
    pub connections: usize,
    /// Whether more of its buyers come only as long as the first crowd is there.
    pub follows: bool,
    /// Whether its buyers leave when the page says that nothing is left; otherwise they ask until they are told so.
    pub heeds_page: bool,
}

/// What a load is made of.
#[derive(Debug)]
pub struct LoadPlan {
    /// Routers, as `http://host:port`; connections are spread over them, and whoever finds theirs gone goes to another.
    pub routers: Vec<String>,
    /// The crowds; the told log counts sales in this order.
    pub crowds: Vec<Crowd>,
    /// Arrivals count from here.
    pub start: Instant,
    /// Buyers who are still waiting so long after the start give up.
    pub give_up_after: Duration,
    /// So long after the last buyer left, the pages may take to show that no order is live.
    pub quiet_after: Duration,
}

/// Why a load did not run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// An address that is none.
    #[error("not a router's address: {0}")]
    Address(#[from] tonic::transport::Error),
    /// No thread or runtime.
    #[error("could not start the load's thread: {0}")]
    Thread(#[from] std::io::Error),
    /// It ended without a result.
    #[error("the load's thread ended before its work")]
    Died,
}

/// All that came of a load.
#[derive(Debug)]
pub struct LoadOutcome {
    /// What clients asked and were told.
    pub told: Vec<Told>,
    /// Every call, with its latency.
    pub samples: Samples,
    /// How late buyers were sent off, in microseconds.
    pub lateness_us: Latency,
    /// Whether every page showed in the end that no order is live.
    pub quiet: bool,
    /// How long it took from the start to the end of the last buyer's visit.
    pub took: Duration,
}

/// A load that is under way.
#[derive(Debug)]
pub struct Load {
    live: Arc<Live>,
    stop: CancellationToken,
    done: oneshot::Receiver<LoadOutcome>,
}

/// What everybody in a load shares.
#[derive(Debug)]
struct Shared {
    start: Instant,
    start_us: u64,
    live: Arc<Live>,
    told: ToldLog,
    samples: Samples,
    /// Whoever still waits leaves now.
    stop: CancellationToken,
}

/// What the buyers of one sale share.
#[derive(Debug)]
struct Shop {
    shared: Arc<Shared>,
    number: u8,
    crowd: Crowd,
    balancer: Balancer,
    /// The page says that nothing more is to be had.
    closed: CancellationToken,
}

impl Load {
    /// Starts it on a thread of its own.
    ///
    /// # Errors
    /// [`LoadError::Address`] for a router's address that is none, [`LoadError::Thread`] without a thread.
    pub fn start(plan: LoadPlan) -> Result<Load, LoadError> {
        let sales = plan.crowds.iter().map(|crowd| SaleLive::new(crowd.stock));
        let live = Arc::new(Live::new(sales.collect()));
        let stop = CancellationToken::new();
        let start_us = unix_us(plan.start);
        let shared = Arc::new(Shared {
            start: plan.start,
            start_us,
            live: Arc::clone(&live),
            told: ToldLog::default(),
            samples: Samples::new(start_us),
            stop: stop.clone(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoints = plan.routers.iter().map(|url| endpoint(url));
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        let (tell, done) = oneshot::channel();
        thread::Builder::new().name("load".to_owned()).spawn(move || {
            go_first();
            let outcome = runtime.block_on(arrivals::drive(plan, &endpoints, shared));
            // Nobody to tell: whoever started the load has gone.
            tell.send(outcome).ok();
        })?;
        Ok(Load { live, stop, done })
    }

    /// What is going on.
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// Sends everybody home.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until the last buyer has gone and all is quiet.
    ///
    /// # Errors
    /// [`LoadError::Died`] when its thread ended before that.
    pub async fn outcome(self) -> Result<LoadOutcome, LoadError> {
        self.done.await.map_err(|_| LoadError::Died)
    }
}

impl Shared {
    /// Unix microseconds of an instant, by one reading of the clock for the whole load.
    fn at_us(&self, at: Instant) -> u64 {
        let after = at.saturating_duration_since(self.start);
        let before = self.start.saturating_duration_since(at);
        (self.start_us + micros(after)).saturating_sub(micros(before))
    }
}

/// On a machine that the load shares with what it loads, buyers must not come late because servers are busy. Only
/// root may go first; without it the lateness of arrivals shows whether the run counts.
fn go_first() {
    const NICER_BY: i32 = -15;
    rustix::process::nice(NICER_BY).ok();
}

/// Whole microseconds.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn unix_us(at: Instant) -> u64 {
    let (now, clock) = (Instant::now(), Clock::system().now());
    let clock_us = clock.duration_since(std::time::UNIX_EPOCH).map_or(0, micros);
    (clock_us + micros(at.saturating_duration_since(now)))
        .saturating_sub(micros(now.saturating_duration_since(at)))
}

fn endpoint(url: &str) -> Result<Endpoint, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())?;
    Ok(endpoint.connect_timeout(CONNECT_LIMIT).tcp_nodelay(true).buffer_size(CHANNEL_CALLS))
}
