//! Stock that is added and taken back. Keepers are played by the test.

use proto::fault::Reason;
use proto::keys;
use proto::limits::{SALE_STOCK_CHANGES_MAX, SALE_UNITS_MAX};
use proto::wire::admin::sale::State;
use proto::wire::admin::sale_service_client::SaleServiceClient;
use proto::wire::admin::*;
use proto::wire::cell::BucketReport;
use proto::wire::cell::transfer_record::State as Carriage;

use crate::plane::*;

/// A sale whose buckets are planned.
async fn planned(world: &mut World, sales: &mut SaleServiceClient<Line>) -> String {
    let sale = Sale { stock: 60, start_time: at(10), ..sale() };
    let name = schedule(sales, creation("acme", 1, sale)).await.name;
    eventually(sales, &name, |sale| sale.state() == State::Warming).await;
    assert_eq!(world.record(&name).await.buckets.len(), 3);
    name
}

#[tokio::test]
async fn before_its_buckets_are_planned_only_the_number_changes() {
    let (mut world, instance) = World::with(3, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let name = schedule(&mut sales, creation("acme", 1, sale())).await.name;
    let added = sales.add_stock(adding(&name, 500, &uuid(1))).await.unwrap().into_inner();
    assert_eq!((added.stock, added.surrendered, added.revision), (1_500, 0, 1));
    let taken = sales.surrender_stock(surrendering(&name, 1_499, &uuid(2))).await.unwrap();
    assert_eq!((taken.get_ref().stock, taken.get_ref().surrendered), (1, 0));
    let none = sales.surrender_stock(surrendering(&name, 1, &uuid(3))).await.unwrap_err();
    assert_eq!(field(&none).as_deref(), Some("units"));
    assert!(world.transfers(&name).await.is_empty());
    world.pass_s(540);
    eventually(&mut sales, &name, |sale| sale.state() == State::Warming).await;
    let units: Vec<_> = world.record(&name).await.buckets.iter().map(|plan| plan.units).collect();
    assert_eq!(units, [1]);
}

#[tokio::test]
async fn new_units_are_on_their_way_once_they_count() {
    let (mut world, instance) = World::with(3, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let name = planned(&mut world, &mut sales).await;
    let revision = world.record(&name).await.update_ms;
    let added = sales.add_stock(adding(&name, 5, &uuid(1))).await.unwrap().into_inner();
    assert_eq!(added.stock, 65);
    assert!(world.record(&name).await.update_ms > revision, "cells take over what is newer");
    let transfers = world.transfers(&name).await;
    let given: Vec<_> = transfers
        .iter()
        .map(|one| (one.state(), one.from, one.to, one.units[0].first, one.units[0].units))
        .collect();
    let expected = [(0, 60, 2), (1, 62, 2), (2, 64, 1)];
    assert_eq!(given, expected.map(|(to, first, n)| (Carriage::Given, None, Some(to), first, n)));

    // Nothing is written again by a repeat, here or elsewhere, nor while the units are on their way or after.
    let other = world.serve().await;
    for instance in [&instance, &other] {
        let mut sales = instance.sales("acme", ORG_KEY).await;
        let again = sales.add_stock(adding(&name, 5, &uuid(1))).await.unwrap().into_inner();
        assert_eq!(again, added);
    }
    assert_eq!(world.transfers(&name).await, transfers);
    for transfer in transfers {
        world.carry(transfer, Carried::Accepted).await;
    }
    world.transfers_are(&name, 0).await;
    let again = sales.add_stock(adding(&name, 5, &uuid(1).to_uppercase())).await.unwrap();
    assert_eq!((again.get_ref().stock, world.transfers(&name).await.len()), (65, 0));
    for (units, way) in [(6, "add"), (5, "surrender")] {
        let reused = match way {
            "add" => sales.add_stock(adding(&name, units, &uuid(1))).await,
            _ => sales.surrender_stock(surrendering(&name, units, &uuid(1))).await,
        };
        assert_eq!(reason(&reused.unwrap_err()), Some(Reason::RequestIdReused), "{way} {units}");
    }
}

#[tokio::test]
async fn what_is_free_is_taken_back_and_counted_once_it_was_given_up() {
    let (mut world, instance) = World::with(3, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let name = planned(&mut world, &mut sales).await;
    for (bucket, free) in [(0, 3), (1, 0), (2, 6)] {
        let report = BucketReport { bucket, free, granted: 20, warm: true, ..Default::default() };
        world.say(&name, report).await;
    }
    let asked = sales.surrender_stock(surrendering(&name, 6, &uuid(1))).await.unwrap().into_inner();
    assert_eq!((asked.stock, asked.surrendered), (60, 0));
    let transfers = world.transfers(&name).await;
    let wanted: Vec<_> =
        transfers.iter().map(|one| (one.state(), one.from, one.to, one.wanted)).collect();
    assert_eq!(wanted, [(0, 2), (2, 4)].map(|(b, n)| (Carriage::Asked, Some(b), None, n)));
    // One has given what was asked, the other has sold all but one meanwhile.
    world.carry(transfers[0].clone(), Carried::Given(vec![(0, 1), (7, 1)])).await;
    eventually(&mut sales, &name, |sale| sale.surrendered == 2).await;
    world.carry(transfers[1].clone(), Carried::Given(vec![(41, 1)])).await;
    world.transfers_are(&name, 0).await;
    let now = sales.surrender_stock(surrendering(&name, 6, &uuid(1))).await.unwrap().into_inner();
    assert_eq!((now.stock, now.surrendered), (60, 3));
    assert!(world.transfers(&name).await.is_empty(), "the same request takes nothing more");

    // The sale settles with what is left.
    world.pass_s(4_300);
    for (bucket, granted, paid) in [(0, 18, 18), (1, 20, 20), (2, 19, 10)] {
        let report = BucketReport { bucket, granted, paid, settled: true, ..Default::default() };
        world.say(&name, report).await;
    }
    let settled = eventually(&mut sales, &name, |sale| sale.state() == State::Settled).await;
    assert_eq!((settled.sold, settled.surrendered), (48, 3));
    let metrics = instance.metrics.text().unwrap();
    assert!(!metrics.contains(r#"violations_total{invariant="INV-2"} 1"#), "{metrics}");
}

#[tokio::test]
async fn many_changes_at_the_same_time_each_count_once() {
    let (mut world, instance) = World::with(3, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let name = planned(&mut world, &mut sales).await;
    let other = world.serve().await;
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..12 {
        let instance = if n % 2 == 0 { &instance } else { &other };
        let (mut sales, name) = (instance.sales("acme", ORG_KEY).await, name.clone());
        calls.spawn(async move { sales.add_stock(adding(&name, 7, &uuid(n / 4))).await });
    }
    while let Some(answer) = calls.join_next().await {
        answer.unwrap().unwrap();
    }
    assert_eq!(get(&mut sales, &name).await.stock, 81);
    let mut units: Vec<_> = world
        .transfers(&name)
        .await
        .iter()
        .flat_map(|one| one.units.iter().flat_map(|range| range.first..range.first + range.units))
        .collect();
    units.sort_unstable();
    assert_eq!(units, (60..81).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_cannot_be_changed_is_refused() {
    let (mut world, instance) = World::with(3, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let draft = sales.create_sale(creation("acme", 7, sale())).await.unwrap().into_inner().name;
    let name = planned(&mut world, &mut sales).await;
    for (units, request, expected) in [
        (0, uuid(1), "units"),
        (SALE_UNITS_MAX + 1, uuid(1), "units"),
        (5, String::new(), "request_id"),
    ] {
        let add = sales.add_stock(adding(&name, units, &request)).await.unwrap_err();
        let surrender =
            sales.surrender_stock(surrendering(&name, units, &request)).await.unwrap_err();
        assert_eq!(field(&add).as_deref(), Some(expected));
        assert_eq!(field(&surrender).as_deref(), Some(expected));
    }
    let large = sales.add_stock(adding(&name, SALE_UNITS_MAX - 59, &uuid(1))).await.unwrap_err();
    assert_eq!(field(&large).as_deref(), Some("units"));
    for n in 0..SALE_STOCK_CHANGES_MAX {
        let key = format!("{}stock/{}/{n:032x}", keys::CONTROL, id(&name));
        world.etcd.put(key, "add 1", None).await.unwrap();
    }
    let full = sales.add_stock(adding(&name, 1, &uuid(1))).await.unwrap_err();
    assert_eq!(reason(&full), Some(Reason::SaleStateConflict));
    assert_eq!(field(&full).as_deref(), Some("name"));
    world.pass_s(5_000);
    for name in [draft, name] {
        let late = sales.add_stock(adding(&name, 1, &uuid(2))).await.unwrap_err();
        assert_eq!(reason(&late), Some(Reason::SaleStateConflict));
        let late = sales.surrender_stock(surrendering(&name, 1, &uuid(2))).await.unwrap_err();
        assert_eq!(reason(&late), Some(Reason::SaleStateConflict));
    }
}
