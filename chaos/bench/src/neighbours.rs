//! Neighbours: what an org that floods does to orgs that share none of its cells, or one.
//!
//! The flood is ten times what its org may ask, for holds and places in the line of its own sale; nine tenths of it are
//! refused at the edge. Its neighbours sell at a steady pace, a FLASH and a STANDARD sale each. Windows with and without
//! the flood alternate, and each is compared with the one before it, so that what changes slowly is the same in both.
//!
//! On one machine a flood also takes processors and the disk from everybody. What that is shows in windows in which the
//! same flood comes through another router, so that the neighbours share nothing with it but the machine and cells.

mod flood;
mod lane;
mod paired;
mod scene;

use crate::calls::Line;
use crate::chart;
use crate::cpu;
use crate::figure::{Budget, Figure};
use crate::goodput::Point;
use crate::open::{Step, offer};
use anyhow::{Result, ensure};
use flood::Flood;
use futures_util::future::{join_all, try_join};
use lane::Lane;
use paired::{Pair, compare};
use proto::wire::admin::sale::Class;
use scene::{Scene, Tenant};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use flood::serve;

/// Windows with the flood, and as many without.
const PAIRS: usize = 30;
/// In so many rounds there is a window with the flood at another router.
const BESIDE_EVERY: usize = 2;
const WINDOW: Duration = Duration::from_secs(3);
/// How long a flood has lasted when its window begins, and how long it has been over when the next one does.
const LEAD: Duration = Duration::from_millis(200);
/// Calls a second of the flooding org that are let in, at one router.
const FLOOD_QUOTA_PER_S: u32 = 500;
/// How many times as many come.
const FLOOD_TIMES: u32 = 10;
/// Reserves a second for each sale of the neighbours.
const LANE_PER_S: f64 = 200.0;
/// Buyers of each neighbour: one for each reserve of all windows, and some for warming up.
const LANE_BUYERS: usize = 50_000;
const CONNECTIONS: usize = 8;
const DEADLINE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(2);
const REFUSALS_CORES: f64 = 0.25;
/// The least part of a flood that is refused once its quota is known.
const REFUSED_LEAST: f64 = 0.8;

/// Where the flood is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Nowhere,
    /// At the neighbours' router.
    Here,
    /// At another router.
    Beside,
}

/// A neighbour: how it stands to the flooding org, and what is asked of it.
struct Case {
    name: &'static str,
    p99_most: f64,
    goodput_least_percent: f64,
}

const CASES: [Case; 2] = [
    Case { name: "disjoint", p99_most: 1.1, goodput_least_percent: 99.0 },
    Case { name: "one_shared", p99_most: 1.25, goodput_least_percent: 95.0 },
];
const CLASSES: [(&str, Class); 2] = [("flash", Class::Flash), ("standard", Class::Standard)];

/// Takes the figures of neighbours.
pub(crate) async fn measure() -> Result<()> {
    let mut street = Street::build().await?;
    // Nobody is measured before everything has been used once.
    street.window(Load::Nowhere).await?;
    let first = street.window(Load::Here).await?;
    ensure!(
        first.refused_per_s >= REFUSED_LEAST * flood::per_s(),
        "the flood's quota is not in force: {:.0} of {:.0} calls a second are refused",
        first.refused_per_s,
        flood::per_s()
    );
    let mut pairs: Vec<Vec<Pair>> = street.lanes.iter().map(|_| Vec::new()).collect();
    let mut beside = pairs.clone();
    let (mut quiet_cores, mut flooded_cores, mut refused) = (0.0, 0.0, 0.0);
    for round in 0..PAIRS {
        let without = street.window(Load::Nowhere).await?;
        let with = street.window(Load::Here).await?;
        quiet_cores += without.router_cores;
        flooded_cores += with.router_cores;
        refused += with.refused_per_s;
        for (lane, (without, with_flood)) in
            pairs.iter_mut().zip(without.points.into_iter().zip(with.points))
        {
            lane.push(Pair { without, with: with_flood, flood_kept: with.flood_kept });
        }
        if round % BESIDE_EVERY == 0 {
            let Window { points, flood_kept, .. } = street.window(Load::Beside).await?;
            for ((lane, pairs), with) in beside.iter_mut().zip(&pairs).zip(points) {
                // The one without is that of this round.
                lane.extend(pairs.last().map(|pair| Pair { with, flood_kept, ..*pair }));
            }
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a few pairs")]
    let (cores, refused) = ((flooded_cores - quiet_cores) / PAIRS as f64, refused / PAIRS as f64);
    let how = format!(
        "4 cells of one process, 2 cells an org, one router, one thread each; flood of {:.0} calls/s from a process of its own at a quota of \
         {FLOOD_QUOTA_PER_S}/s, Join and Reserve by turns, {refused:.0}/s refused; {LANE_PER_S:.0} Reserves/s for each of the neighbours' 4 sales, \
         open loop; {PAIRS} pairs of {} s windows without and with the flood",
        flood::per_s(),
        WINDOW.as_secs()
    );
    Figure {
        name: "flood_router_cores".into(),
        value: cores,
        unit: "cores",
        budget: Budget::AtMost(REFUSALS_CORES),
        how: format!("router's processor time with the flood less that without it, for refused and admitted calls; {how}"),
    }
    .say();
    let lanes = CASES.iter().flat_map(|case| CLASSES.iter().map(move |(class, _)| (case, class)));
    for ((case, class), (pairs, beside)) in lanes.zip(pairs.iter().zip(&beside)) {
        tell(case, class, pairs, &how);
        tell_beside(case, class, beside, &how);
    }
    Ok(())
}

/// What of it is the machine.
fn tell_beside(case: &Case, class: &str, pairs: &[Pair], how: &str) {
    let compared = compare(pairs);
    let (low, high) = compared.p99.interval.unwrap_or((f64::NAN, f64::NAN));
    Figure {
        name: format!("neighbour_p99_{}_{class}_beside", case.name),
        value: compared.p99.value,
        unit: "x",
        budget: Budget::None,
        how: format!(
            "the same flood through another router, which shares the machine and cells with the neighbour, not its router; median of {} \
             ratios, 95 % interval {low:.2} to {high:.2}; {how}",
            pairs.len() - compared.void
        ),
    }
    .say();
}

#[expect(clippy::print_stdout, reason = "figures are what this program is for")]
fn tell(case: &Case, class: &str, pairs: &[Pair], how: &str) {
    let compared = compare(pairs);
    let name = format!("{}_{class}", case.name);
    let interval = compared.p99.interval.map_or_else(
        || "too few pairs for an interval".to_owned(),
        |(low, high)| format!("95 % interval {low:.2} to {high:.2}"),
    );
    let without: Vec<f64> = pairs.iter().map(|pair| pair.without.p99_ms).collect();
    let with: Vec<f64> = pairs.iter().map(|pair| pair.with.p99_ms).collect();
    let most = without.iter().chain(&with).copied().fold(0.0, f64::max);
    println!("    {name}: p99 of Reserve in each window, █ is {most:.1} ms");
    println!("        without {}", chart::levels(&without, most));
    println!("        with    {}", chart::levels(&with, most));
    Figure {
        name: format!("neighbour_p99_{name}"),
        // A median that nobody can trust is no figure.
        value: compared.p99.interval.map_or(f64::NAN, |_| compared.p99.value),
        unit: "x",
        budget: Budget::AtMost(case.p99_most),
        how: format!(
            "median of {} ratios, {interval}; {} pairs not counted; median p99 {:.2} ms without and {:.2} ms with; {how}",
            pairs.len() - compared.void,
            compared.void,
            crate::stats::median(&without).value,
            crate::stats::median(&with).value
        ),
    }
    .say();
    Figure {
        name: format!("neighbour_goodput_{name}"),
        value: compared.goodput * 100.0,
        unit: "%",
        budget: Budget::AtLeast(case.goodput_least_percent),
        how: format!("of that without the flood, holds within {} ms; {how}", DEADLINE.as_millis()),
    }
    .say();
}

/// What was seen in one window.
struct Window {
    /// By lane.
    points: Vec<Point>,
    router_cores: f64,
    /// Of the flood.
    refused_per_s: f64,
    flood_kept: bool,
}

/// The orgs, side by side.
struct Street {
    scene: Scene,
    flood: Flood,
    lines: Vec<Line>,
    /// By case, then by class.
    lanes: Vec<Arc<Lane>>,
}

impl Street {
    async fn build() -> Result<Street> {
        let scene = Scene::open().await?;
        let [flooding, disjoint, sharing] = scene.street().await?;
        let urls = scene.routers()?;
        let [url, _] = &urls;
        let lines = Line::many(url, CONNECTIONS, DEADLINE).await?;
        let mut lanes = Vec::new();
        for tenant in [&disjoint, &sharing] {
            let tokens = lane::tokens(&tenant.org, LANE_BUYERS)?;
            for (_, class) in CLASSES {
                let sale = sale_beside(&scene, tenant, &flooding, class).await?;
                lanes.push(Arc::new(Lane::join(&lines, sale, &tokens).await?));
            }
        }
        let sale = scene.sale(&flooding, Class::Flash).await?;
        let flood = Flood::start(&urls, &sale).await?;
        // Only now: before, its buyers have joined all at once.
        scene.set_quota(&flooding, FLOOD_QUOTA_PER_S).await?;
        // Connections of their own age: the windows begin with young ones.
        let lines = Line::many(url, CONNECTIONS, DEADLINE).await?;
        Ok(Street { scene, flood, lines, lanes })
    }

    async fn window(&mut self, load: Load) -> Result<Window> {
        tokio::time::sleep(LEAD).await;
        let router = [self.scene.router_pid()?];
        let (lines, lanes) = (&self.lines, &self.lanes);
        let selling = async {
            tokio::time::sleep(LEAD).await;
            let before_s = cpu::used_s(&router)?;
            let watch = async {
                tokio::time::sleep(WINDOW).await;
                cpu::used_s(&router)
            };
            let step = [Step { per_s: LANE_PER_S, lasts: WINDOW }];
            let sell = lanes.iter().map(|lane| async {
                let made = offer(&step, PATIENCE, || Some(lane.reserve(lines))).await;
                Point::of(&made, (Duration::ZERO, WINDOW), LANE_PER_S, DEADLINE)
            });
            let (after_s, points) = tokio::join!(watch, join_all(sell));
            anyhow::Ok((points, (after_s? - before_s) / WINDOW.as_secs_f64()))
        };
        let flooding = async {
            let router = match load {
                Load::Nowhere => return Ok(None),
                Load::Here => 0,
                Load::Beside => 1,
            };
            self.flood.wave(router, LEAD + WINDOW).await.map(Some)
        };
        let ((points, router_cores), wave) = try_join(selling, flooding).await?;
        let refused_per_s = wave.map_or(0.0, |wave| wave.refused_per_s);
        let flood_kept = wave.is_none_or(|wave| wave.counts());
        Ok(Window { points, router_cores, refused_per_s, flood_kept })
    }
}

/// A sale of this class that has a bucket in every cell that its org shares with the flooding one: a STANDARD sale has
/// only one bucket, which must not happen to lie elsewhere.
async fn sale_beside(
    scene: &Scene,
    tenant: &Tenant,
    flooding: &Tenant,
    class: Class,
) -> Result<String> {
    const TRIES_MAX: usize = 16;
    for _ in 0..TRIES_MAX {
        let sale = scene.sale(tenant, class).await?;
        let cells = scene.cells_of(&sale).await?;
        if tenant.cells.intersection(&flooding.cells).all(|shared| cells.contains(shared)) {
            return Ok(sale);
        }
    }
    anyhow::bail!("no sale of {} came to lie in the cell that is shared", tenant.org)
}
