//! The link between a router and the processes of a cell, when it is lost with calls on it, and when nobody answers: what
//! buyers hear, and what is done once all the same.
//!
//! Time is not measured here: a busy machine may be slow.
#![allow(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "tests"
)]

#[path = "support/platform.rs"]
mod platform;
#[path = "refusals/shop.rs"]
mod shop;
#[path = "refusals/stage.rs"]
mod stage;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use local::{FailpointAction, Faults, PlaneExtras, Platform, PlatformPlan, Relay};
use proto::fault::{Fault, Reason};
use proto::wire::storefront::Order;
use shop::{CARD, InAWord, POLL, SOON, Shop, fresh_id};
use stage::Stage;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tonic::{Response, Status};

const PROCESSES: [&str; 2] = ["cell-1/p1", "cell-1/p2"];

/// One cell of two processes, which routers reach through relays.
async fn set() -> Stage {
    let words = ["--buyer-calls-per-s", "10000", "--buyer-calls-burst", "10000"];
    let args = words.map(str::to_owned).to_vec();
    let router = PlaneExtras { args, env: Vec::new() };
    let one = PlaneExtras { args: vec!["--cells-per-org=1".to_owned()], env: Vec::new() };
    let plan = PlatformPlan { relays: true, router, control_plane: one, ..PlatformPlan::default() };
    Stage::on(Platform::start(plan).await.unwrap()).await.unwrap()
}

fn relays(stage: &Stage) -> [Arc<Relay>; 2] {
    PROCESSES.map(|process| stage.platform.relay(process).unwrap())
}

/// The sum of those of the router's metrics that begin so and hold this word.
async fn counted(stage: &Stage, name: &str, word: &str) -> u64 {
    let (_, text) = stage.platform.stack().ask_plane("router", "GET", "/metrics").await.unwrap();
    let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(word));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

async fn lost(stage: &Stage, repeat: &str) -> u64 {
    counted(stage, "floodgate_router_link_lost_total", repeat).await
}

/// Waits until it is so.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !so().await {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(POLL).await;
    }
}

fn fault(answer: Result<Response<Order>, Status>) -> Fault {
    Fault::of_status(&answer.unwrap_err()).unwrap()
}

#[tokio::test]
async fn what_a_lost_link_carried_is_done_once() {
    let stage = set().await;
    let names = reserves_are_repeated(&stage).await;
    payments_are_not(&stage, &names[0]).await;
    a_cell_that_is_away_is_asked_ever_later(&stage, &names[1]).await;
}

/// Holds that are committed, and whose answers are lost with the link: nobody hears of it.
async fn reserves_are_repeated(stage: &Stage) -> Vec<(Shop, String)> {
    const BUYERS: usize = 8;
    let stack = stage.platform.stack();
    let failpoints = PROCESSES.map(|process| stack.failpoints(process).unwrap());
    let mut ready = Vec::new();
    for _ in 0..BUYERS {
        let buyer = stage.buyer();
        let ticket = buyer.admitted(&stage.open).await.unwrap();
        ready.push((buyer, ticket, fresh_id()));
    }
    for points in &failpoints {
        points.arm("hold.answer", FailpointAction::Pause, 1_000).await.unwrap();
    }
    let sale = stage.open.clone();
    let tasks: Vec<_> = ready
        .iter()
        .cloned()
        .map(|(buyer, ticket, id)| {
            let sale = sale.clone();
            tokio::spawn(async move { buyer.reserve(&sale, &ticket, 1, &id).await })
        })
        .collect();
    until("all are under way, some are committed", async || {
        let mut waiting = 0;
        for points in &failpoints {
            waiting += points.look("hold.answer").await.unwrap().waiting;
        }
        let under_way = counted(stage, "floodgate_router_link_under_way", "flash").await;
        waiting > 0 && under_way >= BUYERS as u64
    })
    .await;
    relays(stage).iter().for_each(|relay| relay.cut());
    for points in &failpoints {
        points.release("hold.answer").await.unwrap();
    }
    let mut names = Vec::new();
    for (task, (buyer, ticket, id)) in tasks.into_iter().zip(ready) {
        let order = task.await.unwrap().unwrap().into_inner();
        assert_eq!(order.units.len(), 1);
        let again = buyer.reserve(&stage.open, &ticket, 1, &id).await.unwrap().into_inner();
        assert_eq!((&again.name, &again.units), (&order.name, &order.units), "the same request");
        names.push((buyer, order.name));
    }
    let different: HashSet<_> = names.iter().map(|(_, name)| name).collect();
    assert_eq!(different.len(), BUYERS);
    until("the page shows each of them once", async || {
        let page = stage.buyer().state(&stage.open).await.unwrap().into_inner();
        !page.stale && page.held == BUYERS as u64
    })
    .await;
    let (answered, failed) = (lost(stage, "answered").await, lost(stage, "failed").await);
    println!("{answered} repeats were answered, {failed} failed");
    assert!(answered >= BUYERS as u64 && failed == 0);
    names
}

/// A payment whose answer is lost is for its buyer to ask for again: it ends all the same, and charges once.
async fn payments_are_not(stage: &Stage, (buyer, order): &(Shop, String)) {
    let slow = Faults { latency_ms: 1_500, ..Faults::default() };
    stage.platform.stack().set_faults(&slow).await.unwrap();
    let not_tried = lost(stage, "not_tried").await;
    let (payer, name) = (buyer.clone(), order.clone());
    let paying = tokio::spawn(async move { payer.checkout(&name, CARD).await });
    until("it is being paid", async || {
        let shown = buyer.order(order).await.unwrap();
        shown.get_ref().word() == "PAYING"
    })
    .await;
    relays(stage).iter().for_each(|relay| relay.cut());
    let fault = fault(paying.await.unwrap());
    assert_eq!(fault.reason, Reason::BucketMoving);
    assert!(fault.retry_after_ms > 0);
    assert!(lost(stage, "not_tried").await > not_tried);
    buyer.until(order, "PAID").await.unwrap();
    assert_eq!(stage.captures(order).unwrap(), 1);
    stage.platform.stack().set_faults(&Faults::default()).await.unwrap();
}

/// Nobody of the cell can be reached: buyers are told to come ever later, each at another time, and see what was known.
async fn a_cell_that_is_away_is_asked_ever_later(stage: &Stage, (buyer, order): &(Shop, String)) {
    until("the page shows what was paid", async || {
        let page = stage.buyer().state(&stage.open).await.unwrap().into_inner();
        !page.stale && page.sold == 1
    })
    .await;
    relays(stage).iter().for_each(|relay| relay.shut());
    let mut heard = Vec::new();
    until("they are told to come in more than a second and a half", async || {
        let Err(status) = buyer.order(order).await else { return false };
        let fault = Fault::of_status(&status).unwrap();
        assert_eq!(fault.reason, Reason::BucketMoving, "{status}");
        heard.push(fault.retry_after_ms);
        fault.retry_after_ms > 1_500
    })
    .await;
    println!("told to ask again in {heard:?} ms");
    let different: HashSet<_> = heard.iter().collect();
    assert!(different.len() > heard.len() / 2, "never all at the same time: {heard:?}");
    until("the page is marked as old, and still shown", async || {
        let page = stage.buyer().state(&stage.open).await.unwrap().into_inner();
        page.stale && page.sold == 1 && page.held > 0
    })
    .await;
    relays(stage).iter().for_each(|relay| relay.mend());
    until("it sells again", async || buyer.order(order).await.is_ok()).await;
}

/// Hangs the process that keeps the bucket until it is taken out. On a busy machine its connections may be given up
/// before enough calls have waited for long enough: then it is tried again.
async fn taken_out(stage: &Stage, order: &str) -> (&'static str, Arc<Relay>) {
    const TRIES: u32 = 10;
    // Longer than what speaks against a process, shorter than it takes to give a connection up.
    let patience = Duration::from_millis(1_600);
    let asks = || {
        let (buyer, order) = (stage.buyer(), order.to_owned());
        tokio::spawn(async move { tokio::time::timeout(patience, buyer.order(&order)).await })
    };
    for _ in 0..TRIES {
        for (process, relay) in PROCESSES.into_iter().zip(relays(stage)) {
            until("it answers", async || stage.buyer().holds(&stage.open, 1).await.is_ok()).await;
            relay.hang();
            let tasks: Vec<_> = (0..12).map(|_| asks()).collect();
            let mut unheard = 0;
            for task in tasks {
                unheard += u32::from(task.await.unwrap().is_err());
            }
            // Those who went away are missed a moment later.
            for _ in 0..20 * u32::from(unheard > 0) {
                if counted(stage, "floodgate_router_processes_out", "cell-1").await == 1 {
                    return (process, relay);
                }
                sleep(POLL).await;
            }
            relay.mend();
        }
    }
    panic!("nobody was taken out in {TRIES} tries");
}

/// A router that is told to stop takes no more calls, and gives those that are under way the time that they need.
#[tokio::test]
async fn a_router_that_stops_answers_what_it_was_asked() {
    let stage = set().await;
    let stack = stage.platform.stack();
    let buyer = stage.buyer();
    let (ticket, id) = (buyer.admitted(&stage.open).await.unwrap(), fresh_id());
    let failpoints = PROCESSES.map(|process| stack.failpoints(process).unwrap());
    for points in &failpoints {
        points.arm("hold.answer", FailpointAction::Pause, 1).await.unwrap();
    }
    let (asking, held) = (buyer.clone(), ticket.clone());
    let (sale, request) = (stage.open.clone(), id.clone());
    let reserve = tokio::spawn(async move { asking.reserve(&sale, &held, 1, &request).await });
    until("it is under way", async || {
        let mut waiting = 0;
        for points in &failpoints {
            waiting += points.look("hold.answer").await.unwrap().waiting;
        }
        waiting > 0
    })
    .await;
    let address = stack.endpoint("router").unwrap().address;
    let released = async {
        until("the router takes no more", async || TcpStream::connect(address).await.is_err())
            .await;
        for points in &failpoints {
            points.release("hold.answer").await.unwrap();
        }
    };
    let (stopped, ()) = tokio::join!(stack.stop("router"), released);
    stopped.unwrap();
    let order = reserve.await.unwrap().unwrap().into_inner();
    assert_eq!(stack.logged("router", "grace ran out").unwrap(), 0);
    stack.restart("router").await.unwrap();
    // As soon as it is ready it answers.
    let again = buyer.reserve(&stage.open, &ticket, 1, &id).await.unwrap().into_inner();
    assert_eq!((&again.name, &again.units), (&order.name, &order.units), "the same request");
}

#[tokio::test]
async fn who_answers_nobody_is_asked_no_more_until_a_probe_is_answered() {
    let stage = set().await;
    let order = stage.buyer().holds(&stage.open, 1).await.unwrap();
    let (process, relay) = taken_out(&stage, &order).await;
    let told = stage.buyer().order(&order).await;
    assert_eq!(fault(told).reason, Reason::BucketMoving, "nobody waits for {process} any more");
    relay.mend();
    until("it is asked again", async || {
        counted(&stage, "floodgate_router_processes_out", "cell-1").await == 0
    })
    .await;
    until("it answers", async || stage.buyer().holds(&stage.open, 1).await.is_ok()).await;

    // And when it stops in good order, whoever asks meanwhile is at most told to ask again.
    let (buyer, sale) = (stage.buyer(), stage.open.clone());
    let asking = tokio::spawn(async move {
        let mut moving = 0;
        for _ in 0..60 {
            match buyer.join(&sale).await {
                Ok(_) => {}
                Err(status) => {
                    let fault = Fault::of_status(&status);
                    assert_eq!(fault.unwrap().reason, Reason::BucketMoving, "{status}");
                    moving += 1;
                }
            }
            sleep(POLL).await;
        }
        moving
    });
    stage.platform.stack().stop(process).await.unwrap();
    println!("{} of 60 joins were told that the bucket is moving", asking.await.unwrap());
    until("the other one keeps it", async || stage.buyer().holds(&stage.open, 1).await.is_ok())
        .await;
}
