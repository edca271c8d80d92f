//! What operators can do: register orgs, look at cells and placements.

use proto::fault::Reason;
use proto::token::Role;
use proto::wire::fleet::org_service_client::OrgServiceClient;
use proto::wire::fleet::*;
use tonic::Code;

use crate::plane::*;

fn request(org: &str, request_id: &str) -> CreateOrgRequest {
    let org_message =
        Org { display_name: "Acme".into(), keys: vec![public(ORG_KEY)], ..Org::default() };
    CreateOrgRequest { org_id: org.into(), org: Some(org_message), request_id: request_id.into() }
}

#[tokio::test]
async fn an_org_waits_for_its_cells() {
    let (mut world, instance) = World::with(2, &[]).await;
    let refused = create_org(&instance, "acme").await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::Unavailable, Some(Reason::Overloaded)));
    assert!(refused.message().contains("needs 3 cells, 2 seen"), "{}", refused.message());
    world.start_cell("cell-3").await;
    world.seen(3).await;
    let org = create_org(&instance, "acme").await.unwrap();
    assert_eq!((org.name.as_str(), org.create_time), ("orgs/acme", at(0)));
    let request = GetPlacementRequest { name: "orgs/acme/placement".into() };
    let placement = instance.placements().await.get_placement(request).await.unwrap().into_inner();
    let mut cells = placement.cells.clone();
    cells.sort();
    assert_eq!(cells, ["cells/cell-1", "cells/cell-2", "cells/cell-3"]);
    assert_eq!(placement.overlap_max, 0);
}

#[tokio::test]
async fn an_org_is_registered_once() {
    let (_world, instance) = World::with(3, &[]).await;
    let mut orgs = instance.orgs().await;
    let made = orgs.create_org(request("acme", &uuid(1))).await.unwrap().into_inner();
    let again = orgs.create_org(request("acme", &uuid(1))).await.unwrap().into_inner();
    assert_eq!(again, made);
    for id in ["", &uuid(2)] {
        let taken = orgs.create_org(request("acme", id)).await.unwrap_err();
        assert_eq!(
            (taken.code(), reason(&taken)),
            (Code::AlreadyExists, Some(Reason::AlreadyExists))
        );
    }
    let mut other = request("acme", &uuid(1));
    other.org.as_mut().unwrap().display_name = "Other".into();
    let reused = orgs.create_org(other).await.unwrap_err();
    assert_eq!(reason(&reused), Some(Reason::RequestIdReused));
    let name = GetOrgRequest { name: "orgs/acme".into() };
    assert_eq!(orgs.get_org(name).await.unwrap().into_inner(), made);
    for name in ["orgs/nobody", "orgs/", "acme"] {
        let missing = orgs.get_org(GetOrgRequest { name: name.into() }).await.unwrap_err();
        assert_eq!(reason(&missing), Some(Reason::NotFound), "{name}");
    }
}

#[tokio::test]
async fn bad_orgs_are_named() {
    let (_world, instance) = World::with(3, &[]).await;
    let mut orgs = instance.orgs().await;
    let with_keys = |keys: Vec<PublicKey>| {
        let mut bad = request("acme", "");
        bad.org.as_mut().unwrap().keys = keys;
        bad
    };
    let key = public(ORG_KEY);
    let short = PublicKey::ed25519(key.kid.as_str(), [0; 31]);
    let mut named = request("acme", "");
    named.org.as_mut().unwrap().display_name = "x".repeat(201);
    let rows = [
        ("org_id", request("", "")),
        ("org_id", request("ac", "")),
        ("org_id", request("Acme", "")),
        ("org_id", request("-acme", "")),
        ("org_id", request("acme/x", "")),
        ("org_id", request(&"a".repeat(33), "")),
        ("request_id", request("acme", "1")),
        ("org.keys", with_keys(Vec::new())),
        ("org.keys", with_keys(vec![public(2), public(3), public(4)])),
        ("org.keys", with_keys(vec![key.clone(), key.clone()])),
        ("org.keys", with_keys(vec![short])),
        ("org.keys", with_keys(vec![PublicKey { kid: String::new(), ..key.clone() }])),
        ("org.keys", with_keys(vec![PublicKey { kid: "a b".into(), ..key }])),
        ("org.display_name", named),
    ];
    for (expected, bad) in rows {
        let refused = orgs.create_org(bad).await.unwrap_err();
        assert_eq!(reason(&refused), Some(Reason::InvalidField), "{expected}");
        assert_eq!(field(&refused).as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn a_replaced_key_is_void_at_once() {
    let (_world, instance) = World::with(3, &["acme"]).await;
    let (mut old, mut new) =
        (instance.sales("acme", ORG_KEY).await, instance.sales("acme", 7).await);
    old.create_sale(creation("acme", 1, sale())).await.unwrap();
    let unknown = new.create_sale(creation("acme", 1, sale())).await.unwrap_err();
    assert_eq!(reason(&unknown), Some(Reason::TokenWrongKey));
    let mut orgs = instance.orgs().await;
    let set = |keys| SetOrgKeysRequest { name: "orgs/acme".into(), keys };
    let org = orgs.set_org_keys(set(vec![public(7)])).await.unwrap().into_inner();
    assert_eq!(org.keys, [public(7)]);
    new.create_sale(creation("acme", 1, sale())).await.unwrap();
    let void = old.create_sale(creation("acme", 1, sale())).await.unwrap_err();
    assert_eq!(reason(&void), Some(Reason::TokenWrongKey));
    let none = orgs.set_org_keys(set(Vec::new())).await.unwrap_err();
    assert_eq!(field(&none).as_deref(), Some("keys"));
}

#[tokio::test]
async fn only_operators_may_call() {
    let (_world, instance) = World::with(3, &["acme"]).await;
    let rows = [
        (String::new(), Reason::TokenMissing),
        (token(ORG_KEY, "orgs/acme", Role::Merchant), Reason::RoleNotAllowed),
        (token(ORG_KEY, "orgs/acme", Role::Buyer), Reason::RoleNotAllowed),
        (token(ORG_KEY, "orgs/acme", Role::Operator), Reason::RoleNotAllowed),
        (token(ORG_KEY, "platform", Role::Operator), Reason::TokenWrongKey),
        (token(PLATFORM_KEY, "platform", Role::Merchant), Reason::RoleNotAllowed),
    ];
    for (token, expected) in rows {
        let mut orgs = OrgServiceClient::new(instance.line(&token).await);
        let refused = orgs.create_org(request("mine", "")).await.unwrap_err();
        assert_eq!(reason(&refused), Some(expected), "{token}");
    }
}

#[tokio::test]
async fn the_fleet_is_listed() {
    let names = ["aaa", "bbb", "ccc", "ddd", "eee"];
    let (world, instance) = World::with(6, &[]).await;
    let other = world.serve().await;
    // All at the same moment, on two instances: each sees where the others went.
    let mut calls = tokio::task::JoinSet::new();
    for (n, org) in names.into_iter().enumerate() {
        let mut orgs = if n % 2 == 0 { instance.orgs().await } else { other.orgs().await };
        calls.spawn(async move { orgs.create_org(request(org, "")).await });
    }
    while let Some(answer) = calls.join_next().await {
        answer.unwrap().unwrap();
    }
    let mut cells = instance.cells().await;
    let page = ListCellsRequest { page_size: 4, page_token: String::new() };
    let first = cells.list_cells(page).await.unwrap().into_inner();
    let page = ListCellsRequest { page_size: 4, page_token: first.next_page_token };
    let second = cells.list_cells(page).await.unwrap().into_inner();
    assert_eq!((first.cells.len(), second.cells.len()), (4, 2));
    assert!(second.next_page_token.is_empty());
    let counts: Vec<_> =
        first.cells.iter().chain(&second.cells).map(|cell| cell.org_count).collect();
    assert_eq!(counts.iter().sum::<i32>(), 15);
    assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 3, "{counts:?}");
    let one =
        cells.get_cell(GetCellRequest { name: "cells/cell-1".into() }).await.unwrap().into_inner();
    assert_eq!(one, first.cells[0]);
    assert_eq!(
        (one.processes[0].process.as_str(), one.processes[0].version.as_str()),
        ("p1", "1.2.3")
    );
    let missing = cells.get_cell(GetCellRequest { name: "cells/cell-9".into() }).await.unwrap_err();
    assert_eq!(reason(&missing), Some(Reason::NotFound));

    let mut placements = instance.placements().await;
    let page = ListPlacementsRequest { page_size: 3, page_token: String::new() };
    let first = placements.list_placements(page).await.unwrap().into_inner();
    let page = ListPlacementsRequest { page_size: 3, page_token: first.next_page_token };
    let second = placements.list_placements(page).await.unwrap().into_inner();
    let all: Vec<_> = first.placements.into_iter().chain(second.placements).collect();
    let expected = names.map(|org| format!("orgs/{org}/placement"));
    assert_eq!(all.iter().map(|one| one.name.clone()).collect::<Vec<_>>(), expected);
    assert!(all.iter().all(|one| one.cells.len() == 3 && one.overlap_max < 3), "{all:?}");

    let mut orgs = instance.orgs().await;
    let page = ListOrgsRequest { page_size: 200, page_token: String::new() };
    let listed = orgs.list_orgs(page).await.unwrap().into_inner();
    assert_eq!(listed.orgs.len(), 5);
}

#[tokio::test]
async fn no_org_is_placed_in_an_overflow_cell() {
    let (_world, instance) = World::with(4, &[]).await;
    let mut cells = instance.cells().await;
    let set = |cell: &str, overflow| SetCellOverflowRequest { name: cell.into(), overflow };
    let missing = cells.set_cell_overflow(set("cells/cell-9", true)).await.unwrap_err();
    assert_eq!(reason(&missing), Some(Reason::NotFound));
    for _ in 0..2 {
        let cell = cells.set_cell_overflow(set("cells/cell-2", true)).await.unwrap().into_inner();
        assert!(cell.overflow && cell.org_count == 0, "{cell:?}");
    }
    for org in ["acme", "other", "third"] {
        create_org(&instance, org).await.unwrap();
        let name = format!("orgs/{org}/placement");
        let request = GetPlacementRequest { name };
        let placement = instance.placements().await.get_placement(request).await.unwrap();
        let mut cells = placement.into_inner().cells;
        cells.sort();
        assert_eq!(cells, ["cells/cell-1", "cells/cell-3", "cells/cell-4"]);
    }
    let inhabited = cells.set_cell_overflow(set("cells/cell-3", true)).await.unwrap_err();
    assert_eq!(reason(&inhabited), Some(Reason::InvalidField));
    let back = cells.set_cell_overflow(set("cells/cell-2", false)).await.unwrap().into_inner();
    assert!(!back.overflow);
    let page = ListCellsRequest { page_size: 9, page_token: String::new() };
    let all = cells.list_cells(page).await.unwrap().into_inner().cells;
    assert!(all.iter().all(|cell| !cell.overflow), "{all:?}");
}
