//! Arrivals: sends every buyer off at their planned moment, and waits for all of them in the end.
//!
//! A thread of its own does nothing else: it begins each visit up to the point where its first call is handed to a
//! connection, and leaves the rest to the load's other threads. So a burst of answers, or of failures when a router
//! dies, delays nobody's arrival.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout, timeout_at};
use tonic::transport::Endpoint;

use super::balancer::Routers;
use super::buyer::Buyer;
use super::{LoadOutcome, LoadPlan, Shared, Shop, page};

/// How often the pages are looked at while everything comes to rest.
const QUIET_POLL: Duration = Duration::from_millis(50);

/// A page that has said nothing new for so long is believed: pages change at most four times a second.
const PAGE_SETTLED: Duration = Duration::from_millis(600);

/// Calls under way when the run is over get so long to end.
const LAST_CALLS_LIMIT: Duration = Duration::from_secs(15);

/// Runs a load to its end.
pub(super) async fn drive(
    plan: LoadPlan,
    routers: &[Endpoint],
    shared: Arc<Shared>,
) -> LoadOutcome {
    let routers = Routers::new(routers);
    let _looked_after = routers.look_after();
    let mut shops = Vec::new();
    let mut lines = 0;
    for (number, crowd) in (0..).zip(plan.crowds) {
        let balancer = routers.connect(lines, crowd.connections);
        lines += crowd.connections;
        let (shared, closed) = (Arc::clone(&shared), shared.stop.child_token());
        shops.push(Arc::new(Shop { shared, number, crowd, balancer, closed }));
    }
    let pages: Vec<_> =
        shops.iter().map(|shop| tokio::spawn(page::watch(Arc::clone(shop)))).collect();
    let give_up = tokio::time::Instant::from_std(plan.start + plan.give_up_after);
    let (leaders, followers): (Vec<_>, Vec<_>) = shops.iter().partition(|shop| !shop.crowd.follows);
    let mut leaders = pin!(send_all(&leaders));
    let mut followers = pin!(send_all(&followers));
    if timeout_at(give_up, &mut leaders).await.is_err() {
        shared.stop.cancel();
        timeout(LAST_CALLS_LIMIT, leaders).await.ok();
    }
    for shop in shops.iter().filter(|shop| shop.crowd.follows) {
        if let Some(live) = shared.live.sale(shop.number) {
            live.set_over();
        }
    }
    if timeout_at(give_up, &mut followers).await.is_err() {
        shared.stop.cancel();
        timeout(LAST_CALLS_LIMIT, followers).await.ok();
    }
    let took = shared.start.elapsed();
    let quiet = timeout(plan.quiet_after, come_to_rest(&shops)).await.is_ok();
    pages.iter().for_each(tokio::task::JoinHandle::abort);
    LoadOutcome {
        told: shared.told.take(),
        samples: shared.samples.take(),
        lateness_us: shared.live.lateness(),
        quiet,
        took,
    }
}

/// Sends the buyers of some sales, from a thread of its own, and waits until the last has gone.
fn send_all(shops: &[&Arc<Shop>]) -> impl Future<Output = ()> + use<> {
    let (visits, arrivals) =
        (Handle::current(), Builder::new_current_thread().enable_time().build());
    let shops: Vec<_> = shops.iter().map(|shop| Arc::clone(shop)).collect();
    let (tell, gone) = oneshot::channel();
    let work = move || {
        super::go_first();
        // Without a runtime nobody is sent, and the report shows that nobody came.
        if let Ok(arrivals) = arrivals {
            arrivals.block_on(join_all(shops.iter().map(|shop| send(shop, &visits))));
        }
        // Nobody to tell: the run is over.
        tell.send(()).ok();
    };
    let started = thread::Builder::new().name("arrivals".to_owned()).spawn(work);
    async move {
        if started.is_ok() {
            gone.await.ok();
        }
    }
}

/// Sends the buyers of one sale and waits until the last has gone.
async fn send(shop: &Arc<Shop>, visits: &Handle) {
    let Some(live) = shop.shared.live.sale(shop.number) else { return };
    let mut buyers = JoinSet::new();
    for (place, plan) in shop.crowd.buyers.iter().enumerate() {
        let due = shop.shared.start + Duration::from_micros(plan.arrival_us);
        if due > Instant::now() {
            tokio::select! {
                () = sleep_until(due.into()) => {}
                () = shop.shared.stop.cancelled() => break,
            }
        }
        if shop.crowd.follows && live.is_over() {
            break;
        }
        if let Some(buyer) = Buyer::new(Arc::clone(shop), place) {
            let mut visit = Box::pin(buyer.visit(due));
            // As far as it goes without waiting; whoever takes it over polls it again at once.
            if poll_fn(|context| Poll::Ready(visit.as_mut().poll(context).is_pending())).await {
                buyers.spawn_on(visit, visits);
            }
        }
        // Those who have gone leave no trace behind.
        while buyers.try_join_next().is_some() {}
    }
    while buyers.join_next().await.is_some() {}
}

/// Waits until every page has shown for a while that no order is live.
async fn come_to_rest(shops: &[Arc<Shop>]) {
    let mut since = Instant::now();
    loop {
        sleep(QUIET_POLL).await;
        let at_rest = shops.iter().all(|shop| {
            let live = shop.shared.live.sale(shop.number);
            let page = live.and_then(super::SaleLive::page);
            page.is_some_and(|(_, page)| page.held == 0 && !page.stale)
        });
        if !at_rest {
            since = Instant::now();
        } else if since.elapsed() > PAGE_SETTLED {
            return;
        }
    }
}
