//! Units on their way: what the leader asks for, what it waits for, and what it removes. Keepers are played by the test.

use proto::keys;
use proto::wire::admin::Sale;
use proto::wire::admin::sale::State;
use proto::wire::admin::sale_service_client::SaleServiceClient;
use proto::wire::cell::BucketReport;
use proto::wire::cell::transfer_record::State as Carriage;

use crate::plane::*;

/// An open sale of 60 units in three buckets.
async fn open_sale(world: &mut World, sales: &mut SaleServiceClient<Line>) -> String {
    let sale = Sale { stock: 60, start_time: at(10), ..sale() };
    let name = schedule(sales, creation("acme", 1, sale)).await.name;
    eventually(sales, &name, |sale| sale.state() == State::Warming).await;
    assert_eq!(world.record(&name).await.buckets.len(), 3);
    world.warm_up(&name).await;
    eventually(sales, &name, |sale| sale.warm).await;
    world.pass_s(10);
    name
}

/// A report at a time of the cell's own.
fn stands(bucket: u32, at_ms: u64, granted: u32, free: u32, wanted: u32) -> BucketReport {
    BucketReport {
        bucket,
        at_ms,
        granted,
        free,
        wanted,
        wanted_min: u32::from(wanted > 0),
        warm: true,
        ..BucketReport::default()
    }
}

#[tokio::test]
async fn units_go_to_where_buyers_are() {
    let (mut world, instance) = World::with(3, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let name = open_sale(&mut world, &mut sales).await;
    world.say(&name, stands(1, 1, 20, 20, 3)).await;
    world.say(&name, stands(0, 1, 20, 0, 5)).await;
    let [asked] = &world.transfers_are(&name, 1).await[..] else { panic!() };
    assert_eq!((asked.from, asked.to, asked.wanted), (Some(1), Some(0), 5));
    assert_eq!((asked.state(), asked.transfer.len()), (Carriage::Asked, 16));
    // Nothing more is asked of anybody for the same want, and an unanswered one stays.
    world.passes().await;
    assert_eq!(world.transfers(&name).await.as_slice(), std::slice::from_ref(asked));

    world.carry(asked.clone(), Carried::Given(vec![(20, 2), (30, 3)])).await;
    world.passes().await;
    let [given] = &world.transfers_are(&name, 1).await[..] else { panic!() };
    assert_eq!(given.units.len(), 2);
    world.say(&name, stands(1, 2, 15, 15, 3)).await;
    world.carry(given.clone(), Carried::Accepted).await;
    world.transfers_are(&name, 0).await;
    // The receiver has not reported anew: nothing is planned with what it said before.
    world.passes().await;
    assert!(world.transfers(&name).await.is_empty());
    world.say(&name, stands(0, 2, 25, 0, 2)).await;
    let [next] = &world.transfers_are(&name, 1).await[..] else { panic!() };
    assert_eq!((next.from, next.to, next.wanted), (Some(1), Some(0), 2));
    assert_ne!(next.transfer, asked.transfer);
    // A giver that has nothing left says so, and that is over.
    world.say(&name, stands(1, 3, 15, 3, 3)).await;
    world.carry(next.clone(), Carried::Given(Vec::new())).await;
    world.transfers_are(&name, 0).await;
    assert_eq!(world.record(&name).await.surrendered, 0);
}

#[tokio::test]
async fn nothing_is_sent_to_a_cell_where_nobody_lives() {
    let (mut world, instance) = World::with(3, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let name = open_sale(&mut world, &mut sales).await;
    let cells: Vec<_> =
        world.record(&name).await.buckets.into_iter().map(|plan| plan.cell).collect();
    world.etcd.delete(format!("{}{}/p1", keys::PROCESSES, cells[0]), None).await.unwrap();
    world.say(&name, stands(0, 1, 20, 0, 5)).await;
    world.say(&name, stands(1, 1, 20, 20, 3)).await;
    world.passes().await;
    assert!(world.transfers(&name).await.is_empty());
    // Once somebody lives there again it gets what it wants, but not from where nobody does.
    world.etcd.delete(format!("{}{}/p1", keys::PROCESSES, cells[1]), None).await.unwrap();
    world.say(&name, stands(2, 1, 20, 1, 0)).await;
    world.start_cell(&cells[0]).await;
    let [asked] = &world.transfers_are(&name, 1).await[..] else { panic!() };
    assert_eq!((asked.from, asked.to, asked.wanted), (Some(2), Some(0), 1));
}

#[tokio::test]
async fn a_sale_settles_when_nothing_is_on_its_way() {
    let (mut world, instance) = World::with(3, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let name = open_sale(&mut world, &mut sales).await;
    world.say(&name, stands(1, 1, 20, 20, 0)).await;
    world.say(&name, stands(0, 1, 20, 0, 5)).await;
    let [asked] = &world.transfers_are(&name, 1).await[..] else { panic!() };
    world.pass_s(4_190);
    let rest = |bucket, granted, paid| BucketReport {
        settled: true,
        paid,
        ..stands(bucket, 2, granted, granted - paid, 0)
    };
    for (bucket, granted, paid) in [(0, 20, 20), (1, 15, 1), (2, 20, 2)] {
        world.say(&name, rest(bucket, granted, paid)).await;
    }
    world.passes().await;
    assert_eq!(get(&mut sales, &name).await.state(), State::Ended, "the giver has not answered");
    world.carry(asked.clone(), Carried::Given(vec![(20, 5)])).await;
    world.passes().await;
    assert_eq!(get(&mut sales, &name).await.state(), State::Ended, "nobody has accepted");
    let [given] = &world.transfers(&name).await[..] else { panic!() };
    world.carry(given.clone(), Carried::Accepted).await;
    world.say(&name, rest(0, 25, 20)).await;
    let settled = eventually(&mut sales, &name, |sale| sale.state() == State::Settled).await;
    assert_eq!(settled.sold, 23);
    let metrics = instance.metrics.text().unwrap();
    let broken = |line: &&str| {
        line.starts_with("floodgate_control_violations_total") && !line.ends_with(" 0")
    };
    assert_eq!(metrics.lines().find(broken), None);
}

#[tokio::test]
async fn a_sale_whose_buckets_do_not_add_up_is_told_of() {
    let (mut world, instance) = World::with(3, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let name = open_sale(&mut world, &mut sales).await;
    world.pass_s(4_190);
    for (bucket, granted) in [(0, 20), (1, 20), (2, 19)] {
        let report = stands(bucket, 1, granted, 0, 0);
        world.say(&name, BucketReport { settled: true, paid: granted, ..report }).await;
    }
    eventually(&mut sales, &name, |sale| sale.state() == State::Settled).await;
    let metrics = instance.metrics.text().unwrap();
    let broken = r#"floodgate_control_violations_total{invariant="INV-2"} 1"#;
    assert!(metrics.lines().any(|line| line == broken), "{metrics}");
}
