//! Arrivals: sends every buyer off at their planned moment, and waits for all of them in the end.

use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout, timeout_at};
use tonic::transport::{Channel, Endpoint};

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
    let mut shops = Vec::new();
    let mut lines = 0;
    for (number, crowd) in (0..).zip(plan.crowds) {
        let channels = connect(routers, lines, crowd.connections);
        lines += crowd.connections;
        let (shared, closed) = (Arc::clone(&shared), shared.stop.child_token());
        shops.push(Arc::new(Shop { shared, number, crowd, channels, closed }));
    }
    let pages: Vec<_> =
        shops.iter().map(|shop| tokio::spawn(page::watch(Arc::clone(shop)))).collect();
    let give_up = tokio::time::Instant::from_std(plan.start + plan.give_up_after);
    let leaders: Vec<_> = shops.iter().filter(|shop| !shop.crowd.follows).map(send).collect();
    let followers: Vec<_> = shops.iter().filter(|shop| shop.crowd.follows).map(send).collect();
    let leaders = join_all(leaders.into_iter().map(tokio::spawn));
    let followers = join_all(followers.into_iter().map(tokio::spawn));
    let mut followers = Box::pin(followers);
    let mut leaders = Box::pin(leaders);
    // Followers are polled along, being tasks of their own; their end is waited for below.
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

/// Connections are made when they are first used, and again when they break.
fn connect(routers: &[Endpoint], first: usize, count: usize) -> Vec<Channel> {
    let endpoints = routers.iter().cycle().skip(first % routers.len().max(1));
    endpoints.take(count).map(Endpoint::connect_lazy).collect()
}

/// Sends the buyers of one sale and waits until the last has gone.
fn send(shop: &Arc<Shop>) -> impl Future<Output = ()> + Send + use<> {
    let shop = Arc::clone(shop);
    async move {
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
            if let Some(buyer) = Buyer::new(Arc::clone(&shop), place) {
                buyers.spawn(buyer.visit(due));
            }
            // Those who have gone leave no trace behind.
            while buyers.try_join_next().is_some() {}
        }
        while buyers.join_next().await.is_some() {}
        ready(()).await;
    }
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
