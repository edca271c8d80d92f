//! The line for the line: an org's only cell is killed, its buyers get line tickets from a shared overflow cell, over gRPC
//! and REST; a router and the overflow cell's processes go down, too; and when the cell comes back, they are let in in their order
//! and the sale sells out to the unit.
//!
//! Time is not measured here: a busy machine may be slow.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "tests"
)]

#[path = "over_http/curl.rs"]
mod curl;
#[path = "support/platform.rs"]
mod platform;
#[path = "refusals/shop.rs"]
mod shop;
#[path = "refusals/stage.rs"]
mod stage;

use std::collections::HashSet;

use floodgate_chaos::identity::{Signer, bearer};
use local::Platform;
use proto::fault::{Fault, Reason};
use proto::token::Role;
use proto::wire::fleet::SetCellOverflowRequest;
use proto::wire::fleet::cell_service_client::CellServiceClient;
use proto::wire::storefront::{Ticket, ticket::State};
use shop::{CARD, POLL, SOON, Shop, fresh_id};
use stage::Stage;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::transport::Endpoint;
use tonic::{Request, Status};

/// Where the orgs live, and where they do not.
const CELL: [&str; 2] = ["cell-1/p1", "cell-1/p2"];
const OVERFLOW: [&str; 2] = ["cell-2/p1", "cell-2/p2"];
const ROUTERS: [&str; 2] = ["router", "router-2"];
/// Units, and how many stand in line for them.
const STOCK: u32 = 60;
const BUYERS: usize = 140;

/// Two cells, the second of which is an overflow cell.
async fn set() -> Stage {
    let platform = platform::start(2, 1, &stage::ROUTER).await.unwrap();
    make_overflow(&platform, "cells/cell-2").await;
    let stage = Stage::on(platform).await.unwrap();
    for tenant in [&stage.acme, &stage.other] {
        assert_eq!(stage.cells_of(tenant).await.unwrap(), ["cells/cell-1"]);
    }
    stage
}

async fn make_overflow(platform: &Platform, cell: &str) {
    let key = std::fs::read(&platform.key().private).unwrap();
    let expires_s = stage::now_ms() / 1_000 + 600;
    let token = Signer::of_platform(&key).unwrap().token("ops", Role::Operator, expires_s);
    let url = platform.stack().endpoint("control-plane").unwrap().url;
    let mut cells = CellServiceClient::new(Endpoint::from_shared(url).unwrap().connect_lazy());
    let deadline = Instant::now() + SOON;
    loop {
        let mut request =
            Request::new(SetCellOverflowRequest { name: cell.to_owned(), overflow: true });
        request.metadata_mut().insert("authorization", bearer(&token).unwrap());
        match cells.set_cell_overflow(request).await {
            Ok(cell) => return assert!(cell.get_ref().overflow),
            // The control plane may not have seen it yet.
            Err(status) => assert!(Instant::now() < deadline, "{status}"),
        }
        sleep(POLL).await;
    }
}

async fn kill(stage: &Stage, names: &[&str]) {
    for name in names {
        stage.platform.stack().kill(name).await.unwrap();
    }
}

async fn restart(stage: &Stage, names: &[&str]) {
    for name in names {
        stage.platform.stack().restart(name).await.unwrap();
    }
}

fn reason(status: &Status) -> Reason {
    Fault::of_status(status).unwrap().reason
}

/// Joins until there is a ticket; what is refused meanwhile says when to ask again.
async fn joins(buyer: &Shop, sale: &str) -> (Ticket, u32) {
    let (deadline, mut refused) = (Instant::now() + SOON, 0);
    loop {
        match buyer.join(sale).await {
            Ok(ticket) => return (ticket.into_inner(), refused),
            Err(status) => {
                let fault = Fault::of_status(&status).unwrap();
                assert!(fault.reason == Reason::BucketMoving, "{status}");
                assert!(fault.retry_after_ms >= 200, "{fault:?}");
            }
        }
        assert!(Instant::now() < deadline, "no ticket after {refused} refusals");
        refused += 1;
        sleep(POLL).await;
    }
}

fn stands(ticket: &Ticket, place: usize) {
    let stands = ticket.to_join && ticket.state() == State::Waiting && ticket.ask_again.is_some();
    assert!(stands && ticket.place == place as u64, "not at place {place}: {ticket:?}");
}

#[tokio::test]
async fn who_cannot_join_stands_in_line_and_is_let_in_in_order() {
    let stage = set().await;
    stage.another_router(ROUTERS[1], &stage::ROUTER).await.unwrap();
    let sale = stage
        .sale(|sale| {
            sale.stock = STOCK;
            sale.cap = 1;
        })
        .await
        .unwrap();
    // Nobody stands in a line while the cell takes them.
    let early = stage.buyer();
    let ticket = early.join(&sale).await.unwrap().into_inner();
    assert!(!ticket.to_join, "{ticket:?}");

    kill(&stage, &CELL).await;
    let mut line = form(&stage, &sale).await;
    shows_the_same_over_rest(&stage, &sale).await;
    is_good_for_nothing_else(&stage, &sale, &line).await;
    survives(&stage, &sale, &mut line).await;

    restart(&stage, &CELL).await;
    let mut tickets = let_in(&stage, &sale, line).await;
    tickets.push((early, ticket.ticket));
    sells_out(&stage, &sale, tickets).await;
}

/// Somebody in line, and at which router.
struct Stood {
    buyer: Shop,
    ticket: String,
    router: usize,
}

type InLine = Vec<Stood>;

/// Some stand in line at either router, each behind the one before, however often they ask.
async fn form(stage: &Stage, sale: &str) -> InLine {
    let mut line = InLine::new();
    for place in 0..BUYERS - 4 {
        let router = place % ROUTERS.len();
        let buyer = stage.buyer_at(ROUTERS[router]).unwrap();
        let (ticket, refused) = joins(&buyer, sale).await;
        if refused > 0 {
            println!("number {place} came after {refused} refusals");
        }
        stands(&ticket, place);
        // The other router must have heard of it.
        assert!(place <= 1 || refused == 0, "{refused} refusals once the line had formed");
        let (again, _) = joins(&buyer, sale).await;
        stands(&again, place);
        line.push(Stood { buyer, ticket: ticket.ticket, router });
    }
    line
}

/// A buyer who speaks HTTP: the last one in line.
async fn shows_the_same_over_rest(stage: &Stage, sale: &str) {
    let token = format!("Bearer {}", stage.buyer_token(&stage.acme));
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    let (_, id) = sale.rsplit_once('/').unwrap();
    let room = format!("{}/v1/sales/{id}/waiting-room", stage.url("router").unwrap());
    let joined = curl::ask("POST", &room, &headers, "").await.unwrap().answer().unwrap();
    let ticket = joined["ticket"].as_str().unwrap();
    let polled = curl::ask("GET", &format!("{room}/{ticket}"), &headers, "").await.unwrap();
    for told in [&joined, &polled.answer().unwrap()] {
        assert_eq!(told["toJoin"], true, "{told}");
        assert_eq!(told["state"], "STATE_WAITING", "{told}");
        assert_eq!(told["place"], (BUYERS - 4).to_string(), "{told}");
    }
}

async fn is_good_for_nothing_else(stage: &Stage, sale: &str, line: &InLine) {
    let Stood { buyer, ticket, .. } = &line[0];
    let early = buyer.reserve(sale, ticket, 1, &fresh_id()).await.unwrap_err();
    assert_eq!(reason(&early), Reason::NotAdmitted);
    let other = stage.buyer();
    for refused in [
        other.ticket(sale, ticket).await.unwrap_err(),
        other.reserve(sale, ticket, 1, &fresh_id()).await.unwrap_err(),
    ] {
        assert_eq!(reason(&refused), Reason::TicketNotYours);
    }
    let elsewhere = buyer.ticket(&stage.open, ticket).await.unwrap_err();
    assert_eq!(reason(&elsewhere), Reason::TicketNotYours);
}

/// A router that knew the line is started anew; then the process that kept it dies, and then the other one, too.
async fn survives(stage: &Stage, sale: &str, line: &mut InLine) {
    restart(stage, &["router"]).await;
    // One more than those of gRPC: the buyer who speaks HTTP.
    let next = |line: &InLine| line.len() + 1;
    let newcomer = async |line: &mut InLine| {
        let buyer = stage.buyer();
        let (ticket, _) = joins(&buyer, sale).await;
        stands(&ticket, next(line));
        line.push(Stood { buyer, ticket: ticket.ticket, router: 0 });
    };
    newcomer(line).await;
    kill(stage, &OVERFLOW[..1]).await;
    newcomer(line).await;
    kill(stage, &OVERFLOW[1..]).await;
    let refused = stage.buyer().join(sale).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::BucketMoving);
    assert!(Fault::of_status(&refused).unwrap().retry_after_ms > 0);
    // Whoever stands in line does so without it.
    for (place, Stood { buyer, ticket, .. }) in line.iter().enumerate().skip(7).take(2) {
        stands(buyer.ticket(sale, ticket).await.unwrap().get_ref(), place);
    }
    restart(stage, &OVERFLOW[1..]).await;
    newcomer(line).await;
    assert_eq!(line.len(), BUYERS - 1);
}

/// Everybody asks in turn until they have joined: their tickets. Nobody joins while somebody before them at the same
/// router has to wait.
async fn let_in(stage: &Stage, sale: &str, line: InLine) -> Vec<(Shop, String)> {
    let deadline = Instant::now() + 3 * SOON;
    let mut waiting: Vec<_> = line.into_iter().map(Some).collect();
    let (mut joined, mut windows) = (Vec::new(), [0; ROUTERS.len()]);
    while joined.len() < waiting.len() {
        assert!(Instant::now() < deadline, "{} of {} joined", joined.len(), waiting.len());
        for (at, place) in waiting.iter_mut().enumerate() {
            let Some(Stood { buyer, ticket, router }) = place else { continue };
            let window = &mut windows[*router];
            // The buyer who speaks HTTP has a number between these, and never asks again.
            let number = at as u64 + u64::from(at >= BUYERS - 4);
            let told = buyer.ticket(sale, ticket).await.unwrap().into_inner();
            if !told.to_join {
                *window = (number + 1).max(*window);
                joined.push((buyer.clone(), told.ticket));
                *place = None;
            } else if told.place > 0 {
                let seen = number - told.place;
                assert!(seen >= *window, "{number} waits behind {seen}, and {window} were let in");
                *window = seen;
            }
        }
    }
    println!("{} have joined", joined.len());
    let newcomer = stage.buyer();
    let (ticket, _) = joins(&newcomer, sale).await;
    assert!(!ticket.to_join, "the line is over: {ticket:?}");
    joined.push((newcomer, ticket.ticket));
    joined
}

/// As many as there are units have one each, and nobody else.
async fn sells_out(stage: &Stage, sale: &str, tickets: Vec<(Shop, String)>) {
    let mut buying = JoinSet::new();
    for (buyer, ticket) in tickets {
        let sale = sale.to_owned();
        buying.spawn(async move { buys(&buyer, &sale, ticket).await });
    }
    let bought: Vec<_> = buying.join_all().await.into_iter().flatten().flatten().collect();
    let units: HashSet<_> = bought.iter().copied().collect();
    assert_eq!((bought.len(), units.len()), (STOCK as usize, STOCK as usize));
    let deadline = Instant::now() + SOON;
    loop {
        let page = stage.buyer().state(sale).await.unwrap().into_inner();
        if page.sold == u64::from(STOCK) && page.sold_out {
            return;
        }
        assert!(Instant::now() < deadline, "{page:?}");
        sleep(POLL).await;
    }
}

/// Waits for the turn of a ticket and buys: the units, or none when all are sold.
async fn buys(buyer: &Shop, sale: &str, mut ticket: String) -> Option<Vec<u32>> {
    let deadline = Instant::now() + 3 * SOON;
    let request = fresh_id();
    loop {
        assert!(Instant::now() < deadline, "neither sold out nor sold");
        match buyer.reserve(sale, &ticket, 1, &request).await {
            Ok(order) => {
                let paid = buyer.checkout(&order.get_ref().name, CARD).await.unwrap();
                return Some(paid.into_inner().units);
            }
            Err(status) if reason(&status) == Reason::SoldOut => return None,
            Err(status) if reason(&status) == Reason::TicketExpired => {
                ticket = joins(buyer, sale).await.0.ticket;
            }
            Err(_) => sleep(POLL).await,
        }
    }
}
