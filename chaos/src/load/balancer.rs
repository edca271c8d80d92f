//! The balancer before several routers, as every storefront has one: it asks each whether it is well, and sends new calls
//! to those that are. What a router did not take goes to another one at once.
//!
//! It repeats nothing that a router may have taken up: that is for whoever asked to decide.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{ConnectError, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// How often a router is asked, and how long it may take to answer.
const CHECK_EVERY: Duration = Duration::from_millis(100);
const CHECK_LIMIT: Duration = Duration::from_millis(1_000);

/// The routers, and whether each was well when it was asked last.
#[derive(Clone, Debug)]
pub(super) struct Routers {
    endpoints: Vec<Endpoint>,
    well: Arc<[AtomicBool]>,
}

/// The connections of one crowd.
#[derive(Debug)]
pub(super) struct Balancer {
    lines: Vec<Line>,
    well: Arc<[AtomicBool]>,
}

/// A connection to a router.
#[derive(Clone, Debug)]
pub(super) struct Line {
    router: usize,
    pub(super) channel: Channel,
}

impl Routers {
    /// Where they are. All are well until they have been asked.
    pub(super) fn new(endpoints: &[Endpoint]) -> Routers {
        let well = endpoints.iter().map(|_| AtomicBool::new(true)).collect();
        Routers { endpoints: endpoints.to_vec(), well }
    }

    /// Asks all of them again and again, for as long as the answer is kept. One alone is not asked: there is no other.
    pub(super) fn look_after(&self) -> JoinSet<()> {
        let mut asking = JoinSet::new();
        if self.endpoints.len() > 1 {
            for (number, endpoint) in self.endpoints.iter().enumerate() {
                asking.spawn(ask(endpoint.clone(), self.well.clone(), number));
            }
        }
        asking
    }

    /// So many connections, spread over the routers from that one on. They are made when they are first used, and again
    /// when they break.
    pub(super) fn connect(&self, first: usize, count: usize) -> Balancer {
        let routers = self.endpoints.iter().enumerate().cycle();
        let routers = routers.skip(first % self.endpoints.len().max(1)).take(count);
        let lines =
            routers.map(|(router, endpoint)| Line { router, channel: endpoint.connect_lazy() });
        Balancer { lines: lines.collect(), well: self.well.clone() }
    }
}

impl Balancer {
    /// The connection for whoever has this place; the next one to a router that is well when theirs is not.
    pub(super) fn line(&self, place: usize) -> Option<Line> {
        let mut lines = self.from(place);
        lines.find(|line| self.is_well(line)).or_else(|| self.from(place).next()).cloned()
    }

    /// A connection for whoever has this place to another router than the one that did not take their call.
    pub(super) fn other(&self, place: usize, line: &Line) -> Option<Line> {
        let others = || self.from(place).filter(|other| other.router != line.router);
        others().find(|other| self.is_well(other)).or_else(|| others().next()).cloned()
    }

    fn from(&self, place: usize) -> impl Iterator<Item = &Line> {
        let count = self.lines.len();
        self.lines.iter().cycle().skip(place % count.max(1)).take(count)
    }

    fn is_well(&self, line: &Line) -> bool {
        self.well.get(line.router).is_some_and(|well| well.load(Ordering::Relaxed))
    }
}

/// Whether nobody has taken up a call that ended so: there was no connection, or the router said that it goes.
pub(super) fn is_not_taken(status: &Status) -> bool {
    std::iter::successors(status.source(), |error| (**error).source()).any(|error| {
        error.is::<ConnectError>()
            || error.downcast_ref().is_some_and(hyper::Error::is_canceled)
            || error.downcast_ref().is_some_and(is_refused)
    })
}

fn is_refused(error: &h2::Error) -> bool {
    let goes = error.is_go_away() && error.is_remote();
    match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => true,
        Some(h2::Reason::NO_ERROR) => goes,
        _ => false,
    }
}

async fn ask(endpoint: Endpoint, well: Arc<[AtomicBool]>, number: usize) {
    let mut health = HealthClient::new(endpoint.connect_lazy());
    loop {
        let asked = timeout(CHECK_LIMIT, health.check(HealthCheckRequest::default())).await;
        let serves = asked.is_ok_and(|answer| {
            answer.is_ok_and(|answer| answer.get_ref().status() == ServingStatus::Serving)
        });
        if let Some(well) = well.get(number) {
            well.store(serves, Ordering::Relaxed);
        }
        sleep(CHECK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_go_where_a_router_is_well_and_to_another_when_one_did_not_take_them() {
        let endpoints = ["http://127.0.0.1:1", "http://127.0.0.1:2"];
        let routers = Routers::new(&endpoints.map(Endpoint::from_static));
        let balancer = routers.connect(1, 4);
        let at = |place| balancer.line(place).unwrap().router;
        let other = |place| balancer.other(place, &balancer.line(place).unwrap()).unwrap().router;
        assert_eq!([0, 1, 2, 3, 4].map(at), [1, 0, 1, 0, 1]);
        assert_eq!([0, 1].map(other), [0, 1]);
        routers.well[1].store(false, Ordering::Relaxed);
        assert_eq!([0, 1, 2].map(at), [0, 0, 0]);
        // It may be well again by now, and nobody else is there.
        assert_eq!(other(0), 1);
        routers.well[0].store(false, Ordering::Relaxed);
        assert_eq!([0, 1].map(at), [1, 0]);
        let alone = Routers::new(&[Endpoint::from_static(endpoints[0])]);
        let balancer = alone.connect(7, 2);
        assert!(balancer.other(0, &balancer.line(0).unwrap()).is_none());
        assert!(alone.look_after().is_empty() && !routers.look_after().is_empty());
        assert!(alone.connect(0, 0).line(0).is_none());
    }

    #[tokio::test]
    async fn what_nobody_took_up_is_told_from_what_somebody_may_have() {
        // Nobody listens there.
        let mut health =
            HealthClient::new(Endpoint::from_static("http://127.0.0.1:1").connect_lazy());
        let refused = health.check(HealthCheckRequest::default()).await.unwrap_err();
        assert!(is_not_taken(&refused), "{refused:?}");
        let of = |reason| Status::from_error(Box::new(h2::Error::from(reason)));
        assert!(is_not_taken(&of(h2::Reason::REFUSED_STREAM)));
        assert!(!is_not_taken(&of(h2::Reason::NO_ERROR)));
        assert!(!is_not_taken(&of(h2::Reason::CANCEL)));
        assert!(!is_not_taken(&Status::unavailable("the router says so")));
    }
}
