//! The matrix: every call of the platform, for what is the caller's own, another's, nobody's, and no name at all.
//!
//! To whoever may make the call at all, the last three look the same to the byte, and differ from the first (INV-9). To
//! whoever may not, all four look the same. The calls are read off the descriptors, so that none can be left out.
#![allow(clippy::needless_update, reason = "a message may come to have more fields")]

use std::time::Duration;

use anyhow::{Context, ensure};
use prost::Message;
use prost_types::{FieldMask, FileDescriptorSet};
use proto::fault::{Fault, Reason};
use proto::token::Role;
use proto::wire::admin::*;
use proto::wire::fleet::*;
use proto::wire::storefront::*;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::shop::{CARD, fresh_id};
use crate::stage::{Stage, creation, in_ms, stock};
use crate::wire::{self, frame};

/// How long an answer is waited for: a watched sale has no end.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a call names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Sale,
    Order,
    Org,
    Cell,
    /// Something of an operator's, who is not the caller.
    Operators,
}

/// A call: its service and method, and its message when it names this.
type Row = (Named, &'static str, fn(&Stage, String) -> Vec<u8>);

const STOREFRONT: &[Row] = &[
    (Named::Sale, "Join", |_, sale| frame(&JoinRequest { sale })),
    (Named::Sale, "GetTicket", |_, sale| frame(&GetTicketRequest { sale, ticket: "t".into() })),
    (Named::Sale, "GetSaleState", |_, sale| frame(&GetSaleStateRequest { sale })),
    (Named::Sale, "WatchSale", |_, sale| frame(&WatchSaleRequest { sale })),
    (Named::Sale, "Reserve", |_, sale| {
        let (ticket, request_id) = ("t".to_owned(), fresh_id());
        frame(&ReserveRequest { sale, ticket, quantity: 1, request_id, ..Default::default() })
    }),
    (Named::Order, "GetOrder", |_, name| frame(&GetOrderRequest { name, ..Default::default() })),
    (Named::Order, "CancelOrder", |_, name| {
        frame(&CancelOrderRequest { name, ..Default::default() })
    }),
    (Named::Order, "Checkout", |_, name| {
        frame(&CheckoutRequest { name, payment_method: CARD.into(), ..Default::default() })
    }),
    (Named::Order, "RefundOrder", |_, name| {
        frame(&RefundOrderRequest { name, buyer: BUYER.into(), ..Default::default() })
    }),
];

const PROBES: &[Row] =
    &[(Named::Cell, "Probe", |_, cell| frame(&ProbeRequest { cell, ..Default::default() }))];

const SALES: &[Row] = &[
    (Named::Sale, "GetSale", |_, name| frame(&GetSaleRequest { name })),
    (Named::Sale, "UpdateSale", |_, name| {
        let sale = Sale { name, cap: 9, etag: "x".into(), ..Sale::default() };
        let update_mask = Some(FieldMask { paths: vec!["cap".into()] });
        frame(&UpdateSaleRequest { sale: Some(sale), update_mask })
    }),
    (Named::Sale, "ScheduleSale", |_, name| frame(&ScheduleSaleRequest { name })),
    (Named::Sale, "PauseSale", |_, name| frame(&PauseSaleRequest { name })),
    (Named::Sale, "ResumeSale", |_, name| frame(&ResumeSaleRequest { name })),
    (Named::Sale, "AddStock", |_, name| frame(&AddStockRequest { name, ..Default::default() })),
    (Named::Sale, "SurrenderStock", |_, name| {
        frame(&SurrenderStockRequest { name, ..Default::default() })
    }),
    (Named::Sale, "CancelSale", |_, name| frame(&CancelSaleRequest { name })),
    (Named::Org, "ListSales", |_, parent| {
        frame(&ListSalesRequest { parent, ..Default::default() })
    }),
    (Named::Org, "CreateSale", |s, parent| {
        frame(&CreateSaleRequest { parent, validate_only: true, ..creation(&s.acme, stock(10)) })
    }),
];

const TOKENS: &[Row] = &[
    (Named::Org, "RevokeToken", |_, parent| {
        let token = RevokedToken { jti: "nobody's".into(), expire_time: in_ms(60_000) };
        frame(&RevokeTokenRequest { parent, token: Some(token) })
    }),
    (Named::Org, "ListRevokedTokens", |_, parent| frame(&ListRevokedTokensRequest { parent })),
];

const ORGS: &[Row] = &[
    (Named::Operators, "CreateOrg", |_, org_id| {
        frame(&CreateOrgRequest { org_id, ..Default::default() })
    }),
    (Named::Operators, "GetOrg", |_, name| frame(&GetOrgRequest { name })),
    (Named::Operators, "ListOrgs", |_, _| frame(&ListOrgsRequest::default())),
    (Named::Operators, "SetOrgKeys", |_, name| {
        frame(&SetOrgKeysRequest { name, keys: vec![PublicKey::ed25519("k9", [9; 32])] })
    }),
    (Named::Operators, "AddOrgKey", |_, name| {
        frame(&AddOrgKeyRequest { name, key: Some(PublicKey::ed25519("k9", [9; 32])) })
    }),
    (Named::Operators, "RemoveOrgKey", |_, name| {
        frame(&RemoveOrgKeyRequest { name, kid: "k1".into() })
    }),
    (Named::Operators, "SetOrgQuota", |_, name| {
        frame(&SetOrgQuotaRequest { name, calls_per_s: 1 })
    }),
];

const CELLS: &[Row] = &[
    (Named::Operators, "GetCell", |_, name| frame(&GetCellRequest { name })),
    (Named::Operators, "ListCells", |_, _| frame(&ListCellsRequest::default())),
    (Named::Operators, "SetCellOverflow", |_, name| {
        frame(&SetCellOverflowRequest { name, overflow: true })
    }),
];

const PLACEMENTS: &[Row] = &[
    (Named::Operators, "GetPlacement", |_, name| {
        frame(&GetPlacementRequest { name: format!("{name}/placement") })
    }),
    (Named::Operators, "ListPlacements", |_, _| frame(&ListPlacementsRequest::default())),
];

/// Each service, where it is, who may call it, and its calls.
const SERVICES: &[(&str, &str, Role, &[Row])] = &[
    ("floodgate.storefront.v1.StorefrontService", "router", Role::Buyer, STOREFRONT),
    ("floodgate.fleet.v1.ProbeService", "router", Role::Buyer, PROBES),
    ("floodgate.admin.v1.SaleService", "control-plane", Role::Merchant, SALES),
    ("floodgate.admin.v1.TokenService", "control-plane", Role::Merchant, TOKENS),
    ("floodgate.fleet.v1.OrgService", "control-plane", Role::Merchant, ORGS),
    ("floodgate.fleet.v1.CellService", "control-plane", Role::Merchant, CELLS),
    ("floodgate.fleet.v1.PlacementService", "control-plane", Role::Merchant, PLACEMENTS),
];

/// The buyer who owns what is acme's own.
const BUYER: &str = "matrix";

/// Own, other, missing and malformed.
type Names = [String; 4];

/// What the names of each kind are.
struct Scene {
    sale: Names,
    order: Names,
    org: Names,
    cell: Names,
}

impl Scene {
    async fn set(s: &Stage) -> anyhow::Result<Scene> {
        let own = s.sale(|sale| sale.stock = 100).await?;
        let buyer = s.shop(&s.token(&s.acme, BUYER, Role::Buyer))?;
        let order = buyer.holds(&own, 1).await?;
        let theirs = s.buyer_of(&s.other).holds(&s.foreign, 1).await?;
        let none = "00000000000000000000000000000000";
        let nowhere = "orgs/acme/sales/s0000000000000000".to_owned();
        let ours = s.cells_of(&s.acme).await?;
        let cells = (1..=3).map(|number| format!("cells/cell-{number}"));
        let foreign = cells.into_iter().find(|cell| !ours.contains(cell)).context("a cell")?;
        let malformed = "orgs/ACME/sales/?".to_owned();
        Ok(Scene {
            order: [order, theirs, format!("{own}/orders/{none}"), malformed.clone()],
            sale: [own, s.foreign.clone(), nowhere, malformed],
            org: ["orgs/acme", "orgs/other", "orgs/nobody", "ACME?"].map(str::to_owned),
            cell: [ours[0].clone(), foreign, "cells/cell-99".to_owned(), "Cell?".to_owned()],
        })
    }

    fn names(&self, named: Named) -> &Names {
        match named {
            Named::Sale => &self.sale,
            Named::Order => &self.order,
            Named::Org | Named::Operators => &self.org,
            Named::Cell => &self.cell,
        }
    }
}

/// What came back; none when there was an answer.
async fn refusal(
    s: &Stage,
    (server, role): (&str, Role),
    method: &str,
    body: Vec<u8>,
) -> anyhow::Result<Option<Status>> {
    let token = format!("Bearer {}", s.token(&s.acme, BUYER, role));
    let headers = [("authorization", token.as_str())];
    let url = s.url(server)?;
    match timeout(PATIENCE, wire::call(&url, method, &headers, body)).await {
        Ok(outcome) => Ok(outcome?.err()),
        Err(_) => Ok(None),
    }
}

async fn look_alike(s: &Stage, scene: &Scene) -> anyhow::Result<usize> {
    let mut tried = 0;
    for (service, server, role, rows) in SERVICES {
        for (named, call, message) in *rows {
            let method = format!("{service}/{call}");
            let role = if *call == "RefundOrder" { Role::Merchant } else { *role };
            let mut refusals = Vec::new();
            for name in scene.names(*named) {
                let body = message(s, name.clone());
                refusals.push(refusal(s, (server, role), &method, body).await?);
                tried += 1;
            }
            let expected = match named {
                Named::Operators => (Code::PermissionDenied, Reason::RoleNotAllowed),
                _ => (Code::NotFound, Reason::NotFound),
            };
            let first = if *named == Named::Operators { 0 } else { 1 };
            let told = |status: &Status| {
                (status.code(), status.message().to_owned(), status.details().to_vec())
            };
            let alike = refusals[first..]
                .windows(2)
                .all(|pair| pair[0].as_ref().map(told) == pair[1].as_ref().map(told));
            let found = refusals[first].as_ref().map(|one| (one.code(), Fault::of_status(one)));
            let right = found.is_some_and(|(code, fault)| {
                (code, fault.map(|fault| fault.reason)) == (expected.0, Some(expected.1))
            });
            ensure!(alike && right, "{method}: {refusals:?}");
            let own = refusals[0].as_ref().map(Status::code);
            ensure!(*named == Named::Operators || own != Some(Code::NotFound), "{method}: own");
        }
    }
    Ok(tried)
}

#[tokio::test]
async fn what_belongs_to_others_looks_as_if_it_did_not_exist_in_every_call() {
    let stage = Stage::set().await.unwrap();
    let scene = Scene::set(&stage).await.unwrap();
    let tried = look_alike(&stage, &scene).await.unwrap();
    println!("{tried} cells of the matrix");
    // What a stranger has done to it is nothing.
    let foreign = stage.sales_of(&stage.other);
    let request = GetSaleRequest { name: stage.foreign.clone() };
    let sale = foreign.clone().get_sale(request).await.unwrap().into_inner();
    assert_eq!((sale.cap, sale.state()), (2, sale::State::Open));
    let org = stage.orgs().get_org(GetOrgRequest { name: "orgs/other".into() }).await.unwrap();
    assert_eq!((org.get_ref().keys.len(), org.get_ref().calls_per_s), (1, 0));
}

/// No call of ours stands outside the matrix.
#[test]
fn every_call_stands_in_the_matrix() {
    let set = FileDescriptorSet::decode(proto::wire::DESCRIPTORS).unwrap();
    let mut there = Vec::new();
    for file in set.file.iter().filter(|file| file.package().starts_with("floodgate.")) {
        // What cells say to routers and read in etcd is behind the edge.
        if file.package() == "floodgate.cell.v1" {
            continue;
        }
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            there.extend(service.method.iter().map(|call| format!("{name}/{}", call.name())));
        }
    }
    let rows = SERVICES.iter().flat_map(|(service, _, _, rows)| {
        rows.iter().map(move |(_, call, _)| format!("{service}/{call}"))
    });
    let mut tried: Vec<_> = rows.collect();
    there.sort_unstable();
    tried.sort_unstable();
    assert!(there.len() > 20, "{there:?}");
    assert_eq!(tried, there);
}
