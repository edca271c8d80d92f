//! Calls that reach a process which does not keep their bucket: it says who does, and the router asks there, once. Two
//! real processes of one cell, between which a bucket is handed over while the router believes the one before.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

#[path = "support/platform.rs"]
#[allow(dead_code, reason = "the stage can start one")]
mod platform;
#[path = "refusals/shop.rs"]
#[allow(dead_code, reason = "shared with the table of bad inputs")]
mod shop;
#[path = "refusals/stage.rs"]
#[allow(dead_code, reason = "shared with the table of bad inputs")]
mod stage;

use std::time::Duration;

use floodgate_chaos::id::OrderId;
use futures_util::{StreamExt, stream};
use local::{FailpointAction, PlaneExtras, Platform, PlatformPlan};
use proto::fault::{Fault, Reason};
use proto::wire::cell::link_service_client::LinkServiceClient;
use proto::wire::cell::{Call, Frame, Show, answer, call};
use proto::wire::storefront::ticket;
use shop::{Shop, fresh_id};
use sqlx::{Connection, PgConnection};
use stage::Stage;
use tokio::time::{Instant, sleep};
use tonic::Status;
use tonic::transport::Endpoint;

const CELL: &str = "cell-1";
const PROCESSES: [&str; 2] = ["p1", "p2"];
/// Where a process looks who should keep what.
const CLAIMS: &str = "claim.beat";
/// Streams on which a router reaches a process.
const STREAMS: u64 = 4;
/// A way that hangs for longer is taken for broken.
const HANG_MAX: Duration = Duration::from_millis(1_800);
/// How often a bucket is handed over until a call finds the way hanging.
const TRIES: u32 = 8;
const SOON: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// A sale of one bucket, and its cell.
struct Scene {
    stage: Stage,
    sale: String,
    session: PgConnection,
}

impl Scene {
    async fn set() -> Scene {
        let flags = |words: &[&str]| PlaneExtras {
            args: words.iter().map(|word| (*word).to_owned()).collect(),
            env: Vec::new(),
        };
        let plan = PlatformPlan {
            control_plane: flags(&["--cells-per-org", "1"]),
            router: flags(&stage::ROUTER),
            relays: true,
            ..PlatformPlan::default()
        };
        let stage = Stage::on(Platform::start(plan).await.unwrap()).await.unwrap();
        let sale = stage.sale(|sale| sale.stock = 5).await.unwrap();
        let url = stage.platform.stack().postgres_admin_url(CELL).unwrap();
        Scene { stage, sale, session: PgConnection::connect(&url).await.unwrap() }
    }

    fn sale_id(&self) -> &str {
        self.sale.rsplit('/').next().unwrap()
    }

    /// Who keeps the bucket, who does not, and its epoch.
    async fn keeper(&mut self) -> (&'static str, &'static str, i64) {
        let select = "select b.keeper, b.epoch from bucket b join sale s using (org, sale)
                      where s.id = $1";
        let id = self.sale_id().to_owned();
        let row = sqlx::query_as(select).bind(id).fetch_one(&mut self.session).await;
        let (keeper, epoch): (String, i64) = row.unwrap();
        let place = PROCESSES.iter().position(|process| *process == keeper).unwrap();
        (PROCESSES[place], PROCESSES[1 - place], epoch)
    }

    /// Writes down that `heir` is to keep the bucket from now on, and calls it, as whoever hands over does.
    async fn hand_over(&mut self, heir: &str) {
        let raise = "with raised as (
                         select taken.epoch from bucket b join sale s using (org, sale),
                         lateral take_over(b.org, b.sale, b.bucket, b.epoch, $2) as taken
                         where s.id = $1)
                     select pg_notify('floodgate_heir', $2) from raised";
        let id = self.sale_id().to_owned();
        let raised = sqlx::query(raise).bind(id).bind(heir).execute(&mut self.session).await;
        assert_eq!(raised.unwrap().rows_affected(), 1);
    }

    /// What a metric of a server has come to, over the labels of lines that hold `word`.
    async fn count(&self, server: &str, metric: &str, word: &str) -> u64 {
        let stack = self.stage.platform.stack();
        let (_, text) = stack.ask_plane(server, "GET", "/metrics").await.unwrap();
        let lines = text.lines().filter(|line| line.starts_with(metric) && line.contains(word));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Calls that the router asked for once more elsewhere.
    async fn asked_there(&self) -> u64 {
        self.count("router", "floodgate_router_elsewhere_total", r#"asked_there="yes""#).await
    }

    /// Calls that a process has sent elsewhere.
    async fn sent_away(&self, process: &str) -> u64 {
        self.count(&name_of(process), "floodgate_cell_elsewhere_total", "").await
    }

    /// Who keeps the bucket in the eyes of a process that does not, over a link of our own.
    async fn seen_by(&self, process: &str) -> Option<String> {
        let url = self.stage.url(&name_of(process)).unwrap();
        let channel = Endpoint::from_shared(url).ok()?.connect().await.ok()?;
        let mut link = LinkServiceClient::new(channel);
        let call = Call {
            id: 1,
            time_left_ms: 1_000,
            sale: self.sale_id().to_owned(),
            buyer: vec![1; 16].into(),
            kind: Some(call::Kind::Show(Show { order: vec![1; 16] })),
            ..Call::default()
        };
        let frames = stream::iter([Frame::of(&[call])]).chain(stream::pending());
        let answers = link.flash(frames).await.ok()?.into_inner().message().await.ok()??;
        match answers.answers.into_iter().next()?.kind? {
            answer::Kind::Elsewhere(there) => Some(there.process),
            _ => None,
        }
    }

    /// Orders of the sale, and units that they have.
    async fn held(&mut self) -> (i64, i64) {
        let select = r#"select (select count(*) from "order" o where o.sale = s.sale),
                               (select count(*) from unit u where u.sale = s.sale)
                        from sale s where s.id = $1"#;
        let id = self.sale_id().to_owned();
        sqlx::query_as(select).bind(id).fetch_one(&mut self.session).await.unwrap()
    }
}

fn name_of(process: &str) -> String {
    format!("{CELL}/{process}")
}

/// Waits until it is so; false when that takes longer than `limit`.
async fn until(limit: Duration, mut so: impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !so().await {
        if Instant::now() > deadline {
            return false;
        }
        sleep(POLL).await;
    }
    true
}

/// A Reserve for one unit: the order's id, or why not.
async fn reserve(buyer: &Shop, asked: (&str, &str, &str)) -> Result<OrderId, Status> {
    let (sale, ticket, request) = asked;
    let order = buyer.reserve(sale, ticket, 1, request).await?.into_inner();
    Ok(order.name.rsplit('/').next().unwrap().parse().unwrap())
}

/// Hands the bucket over to a process of which the router hears nothing, and reserves meanwhile. Returns what became of
/// that, and whether the router asked the one and then, once, the other.
async fn reserve_at_the_wrong_process(
    scene: &mut Scene,
    asked: (&Shop, &str, &str),
) -> (Result<OrderId, Status>, bool) {
    // Whoever is started again has nothing to give away for a while, and nothing is given to it either.
    let (stopped, ..) = scene.keeper().await;
    let relay = scene.stage.platform.relay(&name_of(stopped)).unwrap();
    let connections = relay.passed().0 + STREAMS;
    scene.stage.platform.stack().restart(&name_of(stopped)).await.unwrap();
    assert!(until(SOON, async || relay.passed().0 >= connections).await, "nobody dials {stopped}");
    let (keeper, other, epoch) = scene.keeper().await;
    assert_eq!(other, stopped, "what was kept was handed over");

    let (buyer, ticket, request) = asked;
    let (buyer, sale) = (buyer.clone(), scene.sale.clone());
    let (ticket, request) = (ticket.to_owned(), request.to_owned());
    let (asked_before, sent_before) = (scene.asked_there().await, scene.sent_away(keeper).await);
    let hung = Instant::now();
    relay.hang();
    scene.hand_over(other).await;
    let taken = until(HANG_MAX, async || {
        let (now, _, raised) = scene.keeper().await;
        now == other && raised > epoch + 1 && scene.seen_by(keeper).await.as_deref() == Some(other)
    });
    let taken = taken.await;
    let sent_by_us = scene.sent_away(keeper).await - sent_before;
    let asking = tokio::spawn(async move { reserve(&buyer, (&sale, &ticket, &request)).await });
    let left = HANG_MAX.saturating_sub(hung.elapsed());
    let asked_there = until(left, async || scene.asked_there().await > asked_before).await;
    relay.mend();
    let answer = asking.await.unwrap();
    let once = scene.asked_there().await == asked_before + 1
        && scene.sent_away(keeper).await == sent_before + sent_by_us + 1;
    let reached = answer.is_ok();
    (answer, taken && asked_there && once && reached)
}

#[tokio::test]
async fn a_call_at_the_wrong_process_reaches_the_right_one_and_holds_once() {
    let mut scene = Scene::set().await;
    for tried in 1..=TRIES {
        let (buyer, request) = (scene.stage.buyer(), fresh_id());
        let ticket = admitted(&buyer, &scene.sale).await;
        let before = scene.held().await;
        let (answer, passed_on) =
            reserve_at_the_wrong_process(&mut scene, (&buyer, &ticket, &request)).await;
        // Where the way hung for too long: the same request, until it is known what became of it.
        if let Err(status) = &answer {
            is_moving(status);
        }
        let asked = (scene.sale.as_str(), ticket.as_str(), request.as_str());
        let order = insist(async || reserve(&buyer, asked).await).await;
        assert!(answer.ok().is_none_or(|told| told == order), "one order");
        assert_eq!(scene.held().await, (before.0 + 1, before.1 + 1), "one hold");
        if passed_on {
            return;
        }
        println!("try {tried}: the router was not asked in time");
        let name = format!("{}/orders/{order}", scene.sale);
        insist(async || buyer.cancel(&name).await).await;
    }
    panic!("no call was passed on in {TRIES} tries");
}

/// Asks until it is answered; only a bucket that moves may stand in the way.
async fn insist<T>(mut ask: impl AsyncFnMut() -> Result<T, Status>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(status) => is_moving(&status),
        }
        assert!(Instant::now() < deadline, "the bucket moves for ever");
        sleep(POLL).await;
    }
}

/// The bucket is moving, and the call may come again in n ms.
fn is_moving(status: &Status) {
    let fault = Fault::of_status(status).expect("a reason");
    assert_eq!(fault.reason, Reason::BucketMoving, "{status}");
    assert!(fault.retry_after_ms > 0, "{status}");
}

/// A buyer's ticket, once it is admitted.
async fn admitted(buyer: &Shop, sale: &str) -> String {
    let mut ticket = insist(async || buyer.join(sale).await).await.into_inner();
    while ticket.state() != ticket::State::Admitted {
        sleep(POLL).await;
        ticket = buyer.ticket(sale, &ticket.ticket).await.unwrap().into_inner();
    }
    ticket.ticket
}

#[tokio::test]
async fn two_processes_that_name_each_other_are_asked_once_and_the_call_may_come_again() {
    let mut scene = Scene::set().await;
    let (buyer, request) = (scene.stage.buyer(), fresh_id());
    let ticket = admitted(&buyer, &scene.sale).await;
    let sale = scene.sale.clone();
    let (keeper, other, _) = scene.keeper().await;
    let knows = until(SOON, async || scene.seen_by(other).await.as_deref() == Some(keeper));
    assert!(knows.await, "{other} does not know that {keeper} keeps the bucket");

    // From here on neither looks who keeps what: the one finds out when it writes, the other not at all.
    for process in PROCESSES {
        let failpoints = scene.stage.platform.stack().failpoints(&name_of(process)).unwrap();
        failpoints.arm(CLAIMS, FailpointAction::Pause, 1).await.unwrap();
        failpoints.held(CLAIMS, SOON).await.unwrap();
    }
    scene.hand_over(other).await;
    let asked = (sale.as_str(), ticket.as_str(), request.as_str());
    let refused = async || {
        is_moving(&reserve(&buyer, asked).await.expect_err("nobody keeps the bucket"));
    };
    let crossed = until(SOON, async || {
        refused().await;
        scene.seen_by(keeper).await.as_deref() == Some(other)
    });
    assert!(crossed.await, "{keeper} does not know that {other} is to keep the bucket");
    for _ in 0..3 {
        let before = (scene.asked_there().await, counts(&scene).await);
        refused().await;
        let after = (scene.asked_there().await, counts(&scene).await);
        assert_eq!(after, (before.0 + 1, before.1.map(|sent| sent + 1)), "each is asked once");
    }
    assert_eq!(scene.held().await, (0, 0));

    for process in PROCESSES {
        let failpoints = scene.stage.platform.stack().failpoints(&name_of(process)).unwrap();
        failpoints.release(CLAIMS).await.unwrap();
    }
    let ask = async || reserve(&buyer, asked).await;
    assert_eq!(insist(ask).await, insist(ask).await, "the same request");
    assert_eq!(scene.held().await, (1, 1));
}

/// Calls that each process has sent elsewhere.
async fn counts(scene: &Scene) -> [u64; 2] {
    [scene.sent_away(PROCESSES[0]).await, scene.sent_away(PROCESSES[1]).await]
}
