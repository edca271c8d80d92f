//! Without etcd: clear refusals in time, and work again afterwards.

use std::time::{Duration, Instant};

use proto::fault::Reason;
use proto::wire::admin::sale::State;
use proto::wire::admin::{GetSaleRequest, ListSalesRequest, PauseSaleRequest};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::plane::*;

/// Etcd may take three seconds; a call makes one request after another and ends with the first that fails.
const LIMIT: Duration = Duration::from_secs(4);

fn check_away(refused: &Status, asked: Instant) {
    assert!(asked.elapsed() < LIMIT, "{:?}", asked.elapsed());
    assert_eq!((refused.code(), reason(refused)), (Code::Unavailable, Some(Reason::Overloaded)));
}

#[tokio::test]
async fn a_paused_etcd_gives_clear_refusals_in_time() {
    let (world, instance) = World::with(3, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let near = proto::wire::admin::Sale { start_time: at(10), ..sale() };
    let name = schedule(&mut sales, creation("acme", 1, near)).await.name;
    world.stack.pause("etcd").await.unwrap();

    let asked = Instant::now();
    let request = GetSaleRequest { name: name.clone() };
    check_away(&sales.get_sale(request).await.unwrap_err(), asked);
    let asked = Instant::now();
    let request = PauseSaleRequest { name: name.clone() };
    check_away(&sales.pause_sale(request).await.unwrap_err(), asked);
    let asked = Instant::now();
    check_away(&create_org(&instance, "other").await.unwrap_err(), asked);
    let asked = Instant::now();
    check_away(&sales.create_sale(creation("acme", 2, sale())).await.unwrap_err(), asked);
    assert!(!instance.drain.readiness().is_ready());

    world.stack.resume("etcd").await.unwrap();
    world.stack.wait_ready("etcd").await.unwrap();
    let deadline = Instant::now() + SOON;
    while sales.get_sale(GetSaleRequest { name: name.clone() }).await.is_err() {
        assert!(Instant::now() < deadline, "etcd is back, the control plane is not");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eventually(&mut sales, &name, |sale| sale.state() == State::Warming).await;
    // Whether or not the refused request was written after all: the same one again gives its sale, once.
    let made = sales.create_sale(creation("acme", 2, sale())).await.unwrap().into_inner();
    let request = ListSalesRequest { parent: "orgs/acme".into(), ..ListSalesRequest::default() };
    let listed = sales.list_sales(request).await.unwrap().into_inner().sales;
    let mut names = [name, made.name];
    names.sort();
    assert_eq!(listed.into_iter().map(|sale| sale.name).collect::<Vec<_>>(), names);
    let mut ready = instance.drain.readiness().watch();
    tokio::time::timeout(SOON, ready.wait_for(|ready| *ready)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_killed_etcd_gives_clear_refusals_in_time() {
    let (mut world, instance) = World::with(3, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let near = proto::wire::admin::Sale { start_time: at(10), ..sale() };
    let name = schedule(&mut sales, creation("acme", 1, near)).await.name;
    eventually(&mut sales, &name, |sale| sale.state() == State::Warming).await;
    let mut health = HealthClient::new(line(instance.address, "").await);
    let service = || HealthCheckRequest { service: "floodgate.admin.v1.SaleService".into() };
    let status = health.check(service()).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::Serving);

    world.stack.kill("etcd").await.unwrap();
    let asked = Instant::now();
    let request = GetSaleRequest { name: name.clone() };
    check_away(&sales.get_sale(request).await.unwrap_err(), asked);
    let deadline = Instant::now() + SOON;
    while health.check(service()).await.unwrap().into_inner().status() != ServingStatus::NotServing
    {
        assert!(Instant::now() < deadline, "without etcd it still says that it serves");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    world.stack.restart("etcd").await.unwrap();
    let deadline = Instant::now() + SOON;
    while sales.get_sale(GetSaleRequest { name: name.clone() }).await.is_err() {
        assert!(Instant::now() < deadline, "etcd is back, the control plane is not");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.warm_up(&name).await;
    eventually(&mut sales, &name, |sale| sale.warm).await;
}
