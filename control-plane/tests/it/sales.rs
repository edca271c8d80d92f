//! What merchants can do with a sale, and what they are told when they cannot.

use proto::fault::Reason;
use proto::keys;
use proto::limits::ORG_SALES_MAX;
use proto::token::Role;
use proto::wire::admin::sale::{Class, State};
use proto::wire::admin::sale_service_client::SaleServiceClient;
use proto::wire::admin::*;
use tonic::{Code, Status};

use crate::plane::*;

fn named(name: &str) -> GetSaleRequest {
    GetSaleRequest { name: name.to_owned() }
}

fn update(sale: Sale, paths: &[&str]) -> UpdateSaleRequest {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    UpdateSaleRequest { sale: Some(sale), update_mask: Some(prost_types::FieldMask { paths }) }
}

#[tokio::test]
async fn a_sale_is_written_read_changed_and_steered() {
    let (_world, instance) = World::with(3, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let made = sales.create_sale(creation("acme", 1, sale())).await.unwrap().into_inner();
    assert!(made.name.starts_with("orgs/acme/sales/s"), "{}", made.name);
    assert_eq!((made.state(), made.class(), made.revision), (State::Draft, Class::Flash, 1));
    assert_eq!((made.hold_ttl, made.admission_rate), (lasting(120), 1_000));
    assert_eq!((made.create_time, made.keeping_time), (at(0), lasting(30)));
    assert_eq!(get(&mut sales, &made.name).await, made);

    let wanted = Sale { name: made.name.clone(), stock: 500, price: euros(25), ..Sale::default() };
    let changed = sales.update_sale(update(wanted, &["stock", "price"])).await.unwrap();
    let changed = changed.into_inner();
    assert_eq!((changed.stock, changed.price.clone(), changed.cap), (500, euros(25), 2));
    assert_eq!(changed.revision, 2);
    assert_ne!(changed.etag, made.etag);

    let name = || made.name.clone();
    for _ in 0..2 {
        let scheduled = sales.schedule_sale(ScheduleSaleRequest { name: name() }).await.unwrap();
        assert_eq!(scheduled.into_inner().state(), State::Scheduled);
    }
    for _ in 0..2 {
        sales.pause_sale(PauseSaleRequest { name: name() }).await.unwrap();
    }
    for _ in 0..2 {
        sales.resume_sale(ResumeSaleRequest { name: name() }).await.unwrap();
    }
    for _ in 0..2 {
        let cancelled = sales.cancel_sale(CancelSaleRequest { name: name() }).await.unwrap();
        assert_eq!(cancelled.into_inner().state(), State::Cancelled);
    }
    let late = sales.schedule_sale(ScheduleSaleRequest { name: name() }).await.unwrap_err();
    assert_eq!(reason(&late), Some(Reason::SaleStateConflict));
}

#[tokio::test]
async fn a_request_makes_one_sale_however_often_it_comes() {
    let (world, instance) = World::with(3, &["acme"]).await;
    let other = world.serve().await;
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..12 {
        let instance = if n % 2 == 0 { &instance } else { &other };
        let mut sales = instance.sales("acme", ORG_KEY).await;
        calls.spawn(async move { sales.create_sale(creation("acme", 1, sale())).await });
    }
    let mut made = Vec::new();
    while let Some(answer) = calls.join_next().await {
        made.push(answer.unwrap().unwrap().into_inner());
    }
    assert!(made.windows(2).all(|pair| pair[0] == pair[1]), "{made:?}");

    let mut sales = instance.sales("acme", ORG_KEY).await;
    let wanted = Sale { name: made[0].name.clone(), cap: 5, ..Sale::default() };
    sales.update_sale(update(wanted, &["cap"])).await.unwrap();
    // Long after its start has passed the same request still gives its sale, as it is now.
    world.pass_s(3_000);
    let again = sales.create_sale(creation("acme", 1, sale())).await.unwrap().into_inner();
    assert_eq!((again.name, again.cap), (made[0].name.clone(), 5));

    let other = Sale { stock: 999, ..sale() };
    let reused = sales.create_sale(creation("acme", 1, other)).await.unwrap_err();
    assert_eq!(
        (reused.code(), reason(&reused)),
        (Code::InvalidArgument, Some(Reason::RequestIdReused))
    );
}

#[tokio::test]
async fn asking_whether_it_would_do_writes_nothing() {
    let (_world, instance) = World::with(3, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let only = CreateSaleRequest { validate_only: true, ..creation("acme", 1, sale()) };
    let shown = sales.create_sale(only).await.unwrap().into_inner();
    assert_eq!((shown.stock, shown.state()), (1_000, State::Draft));
    let missing = sales.get_sale(named(&shown.name)).await.unwrap_err();
    assert_eq!(reason(&missing), Some(Reason::NotFound));
    let bad = Sale { stock: 0, ..sale() };
    let only = CreateSaleRequest { validate_only: true, ..creation("acme", 1, bad) };
    assert_eq!(field(&sales.create_sale(only).await.unwrap_err()).as_deref(), Some("sale.stock"));
}

#[tokio::test]
async fn a_change_in_between_is_noticed() {
    let (_world, instance) = World::with(3, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let made = sales.create_sale(creation("acme", 1, sale())).await.unwrap().into_inner();
    let with = |etag: &str, cap| {
        let etag = etag.to_owned();
        update(Sale { name: made.name.clone(), cap, etag, ..Sale::default() }, &["cap"])
    };
    let changed = sales.update_sale(with(&made.etag, 3)).await.unwrap().into_inner();
    let stale = sales.update_sale(with(&made.etag, 4)).await.unwrap_err();
    assert_eq!((stale.code(), reason(&stale)), (Code::Aborted, Some(Reason::EtagMismatch)));
    assert_eq!(get(&mut sales, &made.name).await.cap, 3);
    // A change of nothing is no change.
    let same = sales.update_sale(with(&changed.etag, 3)).await.unwrap().into_inner();
    assert_eq!(same.etag, changed.etag);
}

#[tokio::test]
async fn writers_at_the_same_time_lose_nothing() {
    let (_world, instance) = World::with(3, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let name = schedule(&mut sales, creation("acme", 1, sale())).await.name;
    let (mut one, mut two) = (sales.clone(), sales.clone());
    let rename = Sale { name: name.clone(), display_name: "Other".into(), ..Sale::default() };
    let (paused, renamed) = tokio::join!(
        one.pause_sale(PauseSaleRequest { name: name.clone() }),
        two.update_sale(update(rename, &["display_name"])),
    );
    assert!(paused.is_ok() && renamed.is_ok());
    assert_eq!(get(&mut sales, &name).await.display_name, "Other");
    sales.resume_sale(ResumeSaleRequest { name: name.clone() }).await.unwrap();
}

#[tokio::test]
async fn sales_are_listed_page_by_page_and_each_org_sees_its_own() {
    let (_world, instance) = World::with(3, &["acme", "acme-2"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let mut expected = Vec::new();
    for n in 0..5 {
        let made = sales.create_sale(creation("acme", n, sale())).await.unwrap().into_inner();
        expected.push(made.name);
    }
    instance
        .sales("acme-2", ORG_KEY)
        .await
        .create_sale(creation("acme-2", 0, sale()))
        .await
        .unwrap();
    expected.sort();
    let (mut found, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = ListSalesRequest { parent: "orgs/acme".into(), page_size: 2, page_token };
        let page = sales.list_sales(request).await.unwrap().into_inner();
        assert!(page.sales.len() <= 2);
        found.extend(page.sales.into_iter().map(|sale| sale.name));
        (page_token, pages) = (page.next_page_token, pages + 1);
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((found, pages), (expected, 3));
}

#[tokio::test]
async fn another_orgs_sale_looks_exactly_like_one_that_does_not_exist() {
    let (_world, instance) = World::with(3, &["acme", "other"]).await;
    let mut theirs = instance.sales("other", ORG_KEY).await;
    let there = schedule(&mut theirs, creation("other", 1, sale())).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let id = id(&there.name);
    let missing = "orgs/acme/sales/s0000000000000000".to_owned();
    let names = [
        there.name.clone(),
        format!("orgs/acme/sales/{id}"),
        "orgs/nobody/sales/s0000000000000000".to_owned(),
        "orgs/other/sales/s0000000000000000".to_owned(),
        "nonsense".to_owned(),
        String::new(),
    ];
    let expected = every_call(&mut sales, &missing, "orgs/nobody").await;
    assert!(expected.iter().all(|status| reason(status) == Some(Reason::NotFound)));
    for name in names {
        let answers = every_call(&mut sales, &name, "orgs/other").await;
        for (answer, expected) in answers.iter().zip(&expected) {
            let told = |status: &Status| {
                (status.code(), status.message().to_owned(), status.details().to_vec())
            };
            assert_eq!(told(answer), told(expected), "{name}");
        }
    }
    assert_eq!(get(&mut theirs, &there.name).await, there);
}

/// The refusals of every call about a sale or an org's sales.
async fn every_call(sales: &mut SaleServiceClient<Line>, name: &str, parent: &str) -> Vec<Status> {
    let name = || name.to_owned();
    let parent = || parent.to_owned();
    let change =
        update(Sale { name: name(), cap: 9, etag: "x".into(), ..Sale::default() }, &["cap"]);
    let list = ListSalesRequest { parent: parent(), page_token: "x".into(), ..Default::default() };
    let create = CreateSaleRequest { parent: parent(), ..creation("", 7, sale()) };
    vec![
        sales.get_sale(named(&name())).await.unwrap_err(),
        sales.update_sale(change).await.unwrap_err(),
        sales.schedule_sale(ScheduleSaleRequest { name: name() }).await.unwrap_err(),
        sales.pause_sale(PauseSaleRequest { name: name() }).await.unwrap_err(),
        sales.resume_sale(ResumeSaleRequest { name: name() }).await.unwrap_err(),
        sales.cancel_sale(CancelSaleRequest { name: name() }).await.unwrap_err(),
        sales.add_stock(adding(&name(), 0, "x")).await.unwrap_err(),
        sales.surrender_stock(surrendering(&name(), 0, "x")).await.unwrap_err(),
        sales.list_sales(list).await.unwrap_err(),
        sales.create_sale(create).await.unwrap_err(),
    ]
}

#[tokio::test]
async fn bad_input_is_named() {
    let (_world, instance) = World::with(3, &["acme"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let with = |change: fn(&mut Sale)| {
        let mut bad = sale();
        change(&mut bad);
        bad
    };
    let rows = [
        ("sale.stock", with(|s| s.stock = 0)),
        ("sale.stock", with(|s| s.stock = u32::MAX)),
        ("sale.cap", with(|s| s.cap = 0)),
        ("sale.cap", with(|s| s.cap = 101)),
        ("sale.price", with(|s| s.price = None)),
        ("sale.price", with(|s| s.price = euros(-1))),
        ("sale.price", with(|s| s.price = euros(i64::MAX))),
        ("sale.price", with(|s| s.price.as_mut().unwrap().currency_code = "eur".into())),
        ("sale.class", with(|s| s.class = 9)),
        ("sale.start_time", with(|s| s.start_time = None)),
        ("sale.start_time", with(|s| s.start_time = at(-60))),
        ("sale.end_time", with(|s| s.end_time = None)),
        ("sale.end_time", with(|s| s.end_time = at(600))),
        ("sale.end_time", with(|s| s.end_time = at(500 * 86_400))),
        ("sale.hold_ttl", with(|s| s.hold_ttl = lasting(0))),
        ("sale.admission_rate", with(|s| s.admission_rate = 100_001)),
        ("sale.keeping_time", with(|s| s.keeping_time = lasting(3_601))),
        ("sale.display_name", with(|s| s.display_name = "x".repeat(201))),
    ];
    for (expected, bad) in rows {
        let refused = sales.create_sale(creation("acme", 1, bad)).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused)),
            (Code::InvalidArgument, Some(Reason::InvalidField))
        );
        assert_eq!(field(&refused).as_deref(), Some(expected));
    }
    for bad in ["", "1", "6f9619ff8b86d011b42d00cf4fc964ff"] {
        let request = CreateSaleRequest { request_id: bad.into(), ..creation("acme", 1, sale()) };
        let refused = sales.create_sale(request).await.unwrap_err();
        assert_eq!(field(&refused).as_deref(), Some("request_id"), "{bad}");
    }
    let lists = [("page_size", -1, ""), ("page_token", 0, "bogus")];
    for (expected, page_size, page_token) in lists {
        let page_token = page_token.to_owned();
        let request = ListSalesRequest { parent: "orgs/acme".into(), page_size, page_token };
        let refused = sales.list_sales(request).await.unwrap_err();
        assert_eq!(field(&refused).as_deref(), Some(expected));
    }
    let made = sales.create_sale(creation("acme", 2, sale())).await.unwrap().into_inner();
    for (expected, paths, bad) in [
        ("update_mask", &[][..], made.clone()),
        ("update_mask", &["name"][..], made.clone()),
        ("sale.cap", &["cap"][..], Sale { cap: 0, ..made.clone() }),
    ] {
        let refused = sales.update_sale(update(Sale { etag: String::new(), ..bad }, paths)).await;
        assert_eq!(field(&refused.unwrap_err()).as_deref(), Some(expected));
    }
    let large = Sale { display_name: "x".repeat(20_000), ..sale() };
    let refused = sales.create_sale(creation("acme", 1, large)).await.unwrap_err();
    assert_eq!(reason(&refused), Some(Reason::MessageTooLarge));
}

#[tokio::test]
async fn an_org_has_so_many_sales_and_no_more() {
    let (mut world, instance) = World::with(3, &["acme", "other"]).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let made = sales.create_sale(creation("acme", 1, sale())).await.unwrap().into_inner();
    for n in 1..ORG_SALES_MAX {
        let key = format!("{}unfinished/acme/s{n:03}", keys::CONTROL);
        world.etcd.put(key, "", None).await.unwrap();
    }
    let refused = sales.create_sale(creation("acme", 2, sale())).await.unwrap_err();
    assert_eq!(reason(&refused), Some(Reason::SaleStateConflict));
    assert_eq!(field(&refused).as_deref(), Some("parent"));
    let mut theirs = instance.sales("other", ORG_KEY).await;
    theirs.create_sale(creation("other", 1, sale())).await.unwrap();
    // A sale that is finished makes room.
    sales.cancel_sale(CancelSaleRequest { name: made.name }).await.unwrap();
    sales.create_sale(creation("acme", 2, sale())).await.unwrap();
}

#[tokio::test]
async fn only_the_orgs_merchants_may_call() {
    let (_world, instance) = World::with(3, &["acme"]).await;
    let rows = [
        (String::new(), Reason::TokenMissing),
        ("nonsense".to_owned(), Reason::TokenMalformed),
        (token(ORG_KEY, "orgs/acme", Role::Buyer), Reason::RoleNotAllowed),
        (token(PLATFORM_KEY, "platform", Role::Operator), Reason::RoleNotAllowed),
        (token(9, "orgs/acme", Role::Merchant), Reason::TokenWrongKey),
        (token(PLATFORM_KEY, "orgs/acme", Role::Merchant), Reason::TokenWrongKey),
        (token(ORG_KEY, "orgs/nobody", Role::Merchant), Reason::TokenWrongKey),
    ];
    for (token, expected) in rows {
        let mut sales = SaleServiceClient::new(instance.line(&token).await);
        let refused = sales.create_sale(creation("acme", 1, sale())).await.unwrap_err();
        assert_eq!(reason(&refused), Some(expected), "{token}");
    }
}
