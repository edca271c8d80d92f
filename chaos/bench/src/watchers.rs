//! Watchers: a hundred thousand of one sale at one router, what each costs, and how fast a change is with all of them.
//!
//! Some watch over server-sent events on sockets of their own, the others over gRPC, as many on a connection as may. The
//! sale is paused and resumed by what is decided of it; every watcher notes when the change reached it. It fails when one
//! of them misses a change, or when one more than may watch is let in.

mod drawn;
mod one_more;
mod plan;
mod prober;
mod source;
mod sse;
mod streams;
mod tally;

use crate::figure::{Budget, Figure};
use crate::memory::{open_files_max, resident_bytes};
use crate::sale::{Cell, ORG};
use anyhow::{Context, Result, ensure};
use drawn::Arrivals;
use plan::Plan;
use prober::Prober;
use proto::wire::admin::sale::Class;
use proto::wire::cell::SaleRecord;
use std::sync::Arc;
use std::time::Duration;
use tally::{Phase, Tally};
use tokio::time::sleep;

/// How often the sale is paused or resumed.
const CHANGES: usize = 8;
/// Between two changes, so that each is seen by itself.
const QUIET: Duration = Duration::from_millis(1_500);
/// A watcher who has not seen a change for so long misses it.
const PATIENCE: Duration = Duration::from_secs(15);
const SALE: &str = "swatched";
const MIB: f64 = 1024.0 * 1024.0;

/// What is watched, and by whom.
struct Scene {
    cell: Cell,
    record: SaleRecord,
    url: String,
    token: String,
    router: u32,
    tally: Arc<Tally>,
}

/// Takes the figures with so many watchers, `sse` of them on sockets of their own if as many files may be open.
pub(crate) async fn measure(watchers: usize, sse: usize) -> Result<()> {
    let mut scene = Scene::set(watchers).await?;
    let files = open_files_max(scene.router)?.min(open_files_max(std::process::id())?);
    let plan = Plan::new(watchers, sse, files)?;
    let empty = scene.memory()?;
    let mut open = sse::open(&scene, plan.sse).await.context("events")?;
    let with_sse = scene.settled(plan.sse).await?;
    open.extend(streams::open(&scene, plan.connections, plan.streams).await.context("streams")?);
    let with_all = scene.settled(watchers).await?;
    say_memory(&plan, sse, files, [empty, with_sse, with_all]);
    scene.one_more().await?;

    let prober = Prober::start(scene.url.clone(), scene.token.clone(), scene.sale())?;
    prober.quiet().await;
    let mut arrivals = Vec::new();
    for number in 0..CHANGES {
        sleep(QUIET).await;
        arrivals.push(scene.change(number % 2 == 0, &prober).await?);
    }
    say_changes(&plan, &Arrivals::new(arrivals));
    prober.say(&plan)?;
    let after = scene.memory()?;
    let grown = (to_f64(after) - to_f64(with_all)) / MIB;
    say(
        "watchers_grown_mib",
        grown,
        "MiB",
        Budget::None,
        format!("router after {CHANGES} changes"),
    );
    ensure!(scene.tally.ended() == 0, "{} streams ended by themselves", scene.tally.ended());
    open.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

impl Scene {
    async fn set(watchers: usize) -> Result<Scene> {
        let cell = Cell::start(&["--threads", "1"]).await?;
        let max = watchers.to_string();
        let unlimited = ["--buyer-calls-per-s", "1000000", "--buyer-calls-burst", "1000000"];
        let args = [&unlimited[..], &["--watchers-max", &max]].concat();
        let url = cell.start_router("router", &args).await?.url;
        let record = cell.open_sale(SALE, 1_000, Class::Flash).await?;
        let (token, router) = (cell.token("watcher"), cell.pid("router")?);
        let scene = Scene { cell, record, url, token, router, tally: Arc::default() };
        prober::until_shown(&scene.url, &scene.token, scene.sale()).await?;
        Ok(scene)
    }

    /// The name of the sale.
    fn sale(&self) -> String {
        format!("orgs/{ORG}/sales/{SALE}")
    }

    /// The path of the sale's events.
    fn events() -> String {
        format!("/v1/sales/{SALE}/events")
    }

    /// Bytes of memory that the router has in use.
    fn memory(&self) -> Result<u64> {
        resident_bytes(self.router)
    }

    /// Waits until so many watch and know the state; then what they cost.
    async fn settled(&self, watchers: usize) -> Result<u64> {
        self.tally.until_all_watch(watchers, PATIENCE).await?;
        sleep(QUIET).await;
        self.memory()
    }

    /// The router counts as many as there are, and refuses one more.
    async fn one_more(&self) -> Result<()> {
        let (_, metrics) = self.cell.stack().ask_plane("router", "GET", "/metrics").await?;
        let counts = metrics.lines().filter(|line| line.starts_with("floodgate_watchers{"));
        let counts = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
        let counted: usize = counts.sum();
        ensure!(counted == self.tally.watching(), "floodgate_watchers says {counted}");
        one_more::sse(self).await?;
        one_more::stream(self).await
    }

    /// Pauses or resumes the sale. Returns when who knew it, in microseconds from before it was decided.
    async fn change(&mut self, paused: bool, prober: &Prober) -> Result<Vec<u32>> {
        self.record.paused = paused;
        self.record.revision += 1;
        self.record.update_ms += 1;
        let phase = if paused { Phase::Paused } else { Phase::Open };
        prober.changes(true);
        self.tally.expect(phase);
        self.cell.write(&self.record).await?;
        let arrived = self.tally.until_all_have_it(PATIENCE).await;
        prober.changes(false);
        arrived
    }
}

fn say_memory(plan: &Plan, wanted: usize, files: u64, [empty, with_sse, with_all]: [u64; 3]) {
    let Plan { sse, streams, connections, .. } = plan;
    let how = format!(
        "one router, {sse} clients of events with a socket each, {streams} WatchSale streams on {connections} connections, from {} loopback \
         addresses; generator and router raised their limit of open files to {files}",
        source::COUNT
    );
    let short = if *sse < wanted { ", which is all that this machine allows" } else { "" };
    let budget = Budget::AtLeast(to_f64(wanted as u64));
    say("watchers_on_sockets", to_f64(*sse as u64), "sockets", budget, format!("{how}{short}"));
    let each = |name: &str, from: u64, to: u64, count: usize| {
        let bytes = (to_f64(to) - to_f64(from)) / to_f64(count.max(1) as u64);
        let (from, to) = (to_f64(from) / MIB, to_f64(to) / MIB);
        let how = format!(
            "resident memory of the router from {from:.1} to {to:.1} MiB with {count} of them"
        );
        say(name, bytes / 1024.0, "KiB/watcher", Budget::None, how);
    };
    each("watchers_memory_sse", empty, with_sse, *sse);
    each("watchers_memory_stream", with_sse, with_all, *streams);
    each("watchers_memory", empty, with_all, sse + streams);
}

fn say_changes(plan: &Plan, arrivals: &Arrivals) {
    let how = format!(
        "{CHANGES} changes (paused, resumed), each from before it was written to etcd to its arrival at each of {} watchers; generator on one \
         thread, router on two, all on this machine",
        plan.sse + plan.streams
    );
    let rounds = arrivals.rounds();
    for (name, value, budget) in [
        ("watchers_change_first_ms", arrivals.first_ms(), Budget::None),
        ("watchers_change_p50_ms", arrivals.at_ms(0.5), Budget::None),
        ("watchers_change_p99_ms", arrivals.worst_ms(0.99), Budget::AtMost(1_000.0)),
        ("watchers_change_max_ms", arrivals.worst_ms(1.0), Budget::AtMost(2_000.0)),
    ] {
        say(name, value, "ms", budget, format!("{how}; the worst change counts for p99 and max"));
    }
    show(&rounds);
    show(&arrivals.drawn());
}

fn say(name: &str, value: f64, unit: &'static str, budget: Budget, how: String) {
    Figure { name: name.into(), value, unit, budget, how }.say();
}

#[expect(clippy::print_stdout, reason = "figures are what this program is for")]
fn show(text: &str) {
    println!("{text}");
}

#[expect(clippy::cast_precision_loss, reason = "counts and bytes are far below 2^53")]
fn to_f64(number: u64) -> f64 {
    number as f64
}
