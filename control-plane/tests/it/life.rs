//! A sale's life, with the cells played by the test and the clock moved by it.

use proto::fault::Reason;
use proto::wire::admin::sale::{Class, State};
use proto::wire::admin::*;

use crate::plane::*;

#[tokio::test]
async fn from_a_draft_to_settled() {
    let (mut world, instance) = World::with(4, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let name = schedule(&mut sales, creation("acme", 1, sale())).await.name;
    assert!(world.record(&name).await.buckets.is_empty(), "its start is far away");

    world.pass_s(540);
    let shown = eventually(&mut sales, &name, |sale| sale.state() == State::Warming).await;
    assert!(!shown.warm);
    let record = world.record(&name).await;
    let units: Vec<_> = record.buckets.iter().map(|plan| (plan.first_unit, plan.units)).collect();
    assert_eq!(units, [(0, 334), (334, 333), (667, 333)]);
    assert_eq!(record.buyer_key.len(), 32);

    world.report(&name, 0, true, None).await;
    world.report(&name, 1, true, None).await;
    world.pass_s(61);
    // One of its cells is not ready: it stays closed.
    assert_eq!(get(&mut sales, &name).await.state(), State::Warming);
    world.report(&name, 2, true, None).await;
    let open = eventually(&mut sales, &name, |sale| sale.state() == State::Open).await;
    assert!(open.warm);

    sales.pause_sale(PauseSaleRequest { name: name.clone() }).await.unwrap();
    assert_eq!(get(&mut sales, &name).await.state(), State::Paused);
    sales.resume_sale(ResumeSaleRequest { name: name.clone() }).await.unwrap();
    let wanted = Sale { name: name.clone(), stock: 5, cap: 4, ..Sale::default() };
    let update = |path: &str| UpdateSaleRequest {
        sale: Some(wanted.clone()),
        update_mask: Some(prost_types::FieldMask { paths: vec![path.to_owned()] }),
    };
    let fixed = sales.update_sale(update("stock")).await.unwrap_err();
    assert_eq!(reason(&fixed), Some(Reason::SaleStateConflict));
    assert_eq!(field(&fixed).as_deref(), Some("sale.stock"));
    let changed = sales.update_sale(update("cap")).await.unwrap().into_inner();
    assert_eq!((changed.cap, changed.revision), (4, 2));

    world.pass_s(3_600);
    assert_eq!(get(&mut sales, &name).await.state(), State::Ended);
    let over = sales.pause_sale(PauseSaleRequest { name: name.clone() }).await.unwrap_err();
    assert_eq!(reason(&over), Some(Reason::SaleStateConflict));
    for (bucket, paid) in [(0, 300), (1, 200), (2, 100)] {
        world.report(&name, bucket, true, Some(paid)).await;
    }
    let settled = eventually(&mut sales, &name, |sale| sale.state() == State::Settled).await;
    assert_eq!(settled.sold, 600);
    let metrics = instance.metrics.text().unwrap();
    for line in [
        "floodgate_control_leader 1",
        "floodgate_control_late_sales 0",
        r#"floodgate_control_steps_total{step="cell"} 4"#,
        r#"floodgate_control_steps_total{step="plan"} 1"#,
        r#"floodgate_control_steps_total{step="warm"} 1"#,
        r#"floodgate_control_steps_total{step="settle"} 1"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "no line {line} in\n{metrics}");
    }
    let final_ = sales.cancel_sale(CancelSaleRequest { name }).await.unwrap_err();
    assert_eq!(reason(&final_), Some(Reason::SaleStateConflict));
}

#[tokio::test]
async fn standard_and_small_sales_live_in_one_cell_and_warm_up_at_once() {
    let (mut world, instance) = World::with(3, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let standard = Sale { class: Class::Standard.into(), start_time: None, ..sale() };
    let small = Sale { stock: 29, start_time: at(30), ..sale() };
    for (n, sale) in [standard, small].into_iter().enumerate() {
        let stock = sale.stock;
        let name =
            schedule(&mut sales, creation("acme", u32::try_from(n).unwrap(), sale)).await.name;
        eventually(&mut sales, &name, |sale| sale.state() == State::Warming).await;
        let buckets = world.record(&name).await.buckets;
        assert_eq!((buckets.len(), buckets[0].units), (1, stock));
        world.warm_up(&name).await;
        eventually(&mut sales, &name, |sale| sale.warm).await;
    }
}

#[tokio::test]
async fn a_cancelled_sale_settles_when_its_cells_have_given_all_back() {
    let (mut world, instance) = World::with(3, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let near = Sale { start_time: at(10), ..sale() };
    let name = schedule(&mut sales, creation("acme", 1, near)).await.name;
    eventually(&mut sales, &name, |sale| sale.state() == State::Warming).await;
    world.warm_up(&name).await;
    eventually(&mut sales, &name, |sale| sale.warm).await;
    world.pass_s(10);
    assert_eq!(get(&mut sales, &name).await.state(), State::Open);
    sales.cancel_sale(CancelSaleRequest { name: name.clone() }).await.unwrap();
    world.report(&name, 0, true, Some(1)).await;
    world.report(&name, 1, true, Some(2)).await;
    assert_eq!(get(&mut sales, &name).await.state(), State::Cancelled);
    world.report(&name, 2, true, Some(0)).await;
    let settled = eventually(&mut sales, &name, |sale| sale.state() == State::Settled).await;
    assert_eq!(settled.sold, 3);
}

#[tokio::test]
async fn a_draft_whose_time_has_passed_cannot_be_promised() {
    let (world, instance) = World::with(3, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let made = sales.create_sale(creation("acme", 1, sale())).await.unwrap().into_inner();
    world.pass_s(700);
    let request = ScheduleSaleRequest { name: made.name };
    let late = sales.schedule_sale(request).await.unwrap_err();
    assert_eq!(reason(&late), Some(Reason::SaleStateConflict));
    assert_eq!(field(&late).as_deref(), Some("sale.start_time"));
}

#[tokio::test]
async fn a_sale_that_nobody_warmed_is_settled_with_nothing_sold() {
    let (world, instance) = World::with(3, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let name = schedule(&mut sales, creation("acme", 1, sale())).await.name;
    world.pass_s(5_000);
    let settled = eventually(&mut sales, &name, |sale| sale.state() == State::Settled).await;
    assert_eq!(settled.sold, 0);
}
