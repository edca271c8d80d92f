//! Overload: router and cell get a fifth of one processor, and up to ten times as many calls as they can take there.
//!
//! What counts is goodput: holds that were committed and answered before the caller's deadline. It should stay what it is
//! at its peak, however much more is asked, and be there again at once when less is. The cell is all of it, its stores
//! too, so that the generator has the rest of the machine.

mod crowd;

use crate::calls::Line;
use crate::cgroup::CpuGroup;
use crate::chart;
use crate::figure::{Budget, Figure};
use crate::goodput::{Point, recovered_after};
use crate::open::{Made, Step, offer};
use crate::peak::Search;
use crate::roads::Road;
use crate::sale::Cell;
use crate::stock::{admit_all, wait_until_kept};
use anyhow::{Result, ensure};
use crowd::Crowd;
use proto::wire::admin::sale::Class;
use std::sync::Arc;
use std::time::Duration;

/// Thousandths of one processor for router and cell.
const SHARE_PERMILLE: u32 = 200;
/// What is in the group. Redis and Postgres have the rest of the machine, as they have machines of their own elsewhere.
const HELD_DOWN: [&str; 2] = ["router", "cell-1/p1"];
const CONNECTIONS: usize = 256;
/// How long a call may take: what its caller says to the router.
const DEADLINE: Duration = Duration::from_secs(1);
/// How long the caller waits all the same, to see what comes late.
const PATIENCE: Duration = Duration::from_secs(2);
/// Offered load, in peaks.
const TIMES: [u32; 6] = [1, 2, 4, 6, 8, 10];
/// Where the search for the peak begins, in calls a second.
const SEARCH_FROM: f64 = 300.0;
/// How long each of its steps lasts, and how much of that is not counted.
const SEARCH_STEP: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(500));
/// The begin of each point is not counted.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long it is looked whether goodput comes back.
const AFTER: Duration = Duration::from_secs(4);
const RECOVERY_S: f64 = 2.0;
const GOODPUT_LEAST: f64 = 0.9;
/// Sales that sell at once, each with one bucket.
const SALES: usize = 4;
const STOCK: u32 = 1_000_000;
/// Each buys once in each sale, or never knows: who is not answered does not come again, and most are not at ten times.
const BUYERS: usize = 245_760;
/// What refuses here should be the load alone.
const NO_QUOTAS: [&str; 10] = [
    "--address-calls-per-s",
    "0",
    "--org-calls-per-s",
    "0",
    "--router-calls-per-s",
    "0",
    "--sale-calls-per-s",
    "0",
    "--threads",
    "1",
];

/// Takes the figures of overload; says so when this machine does not let us.
#[expect(clippy::print_stdout, reason = "figures are what this program is for")]
pub(crate) async fn measure(seconds: u64) -> Result<()> {
    let group = match CpuGroup::new(SHARE_PERMILLE) {
        Ok(group) => group,
        Err(error) => {
            println!(
                "overload was not measured: a CPU cgroup is needed and could not be made ({error:#}); try as root"
            );
            return Ok(());
        }
    };
    let load = Load::start(group).await?;
    let planned_peak = load.search().await?;
    let mut points = Vec::new();
    let mut last = (Vec::new(), Duration::ZERO);
    for times in TIMES {
        let counted = WARM_UP + Duration::from_secs(seconds);
        let per_s = planned_peak * f64::from(times);
        let mut steps = vec![Step { per_s, lasts: counted }];
        if Some(&times) == TIMES.last() {
            steps.push(Step { per_s: planned_peak, lasts: AFTER });
        }
        let made = load.offer(&steps).await?;
        let point = Point::of(&made, (WARM_UP, counted), per_s, DEADLINE);
        points.push((times, point));
        last = (made, counted);
    }
    let settings = load.cell.settings().await?;
    let how = format!(
        "router and cell process in a CPU cgroup of {SHARE_PERMILLE} thousandths of one processor; Reserve with admitted \
         tickets by {BUYERS} buyers whose tokens the router knew, {SALES} FLASH sales of one bucket, {CONNECTIONS} connections, open \
         loop from another process, {seconds} s a point after {} s, deadline {} ms; {settings}",
        WARM_UP.as_secs(),
        DEADLINE.as_millis()
    );
    tell(&points, planned_peak, &how);
    let (made, dropped) = last;
    let recovered = recovered_after(&made, (dropped, dropped + AFTER), planned_peak, DEADLINE);
    Figure {
        name: "overload_recovery_s".into(),
        value: recovered.map_or(f64::NAN, |after| after.as_secs_f64()),
        unit: "s",
        budget: Budget::AtMost(RECOVERY_S),
        how: format!(
            "from when the load drops from 10 to 1 times {planned_peak:.0}/s to the first half second whose calls end well at 90 % of that; {how}"
        ),
    }
    .say();
    Ok(())
}

struct Load {
    // Goes first: what is in it should end at full speed.
    group: CpuGroup,
    cell: Cell,
    url: String,
    crowd: Arc<Crowd>,
}

impl Load {
    async fn start(group: CpuGroup) -> Result<Load> {
        let cell = Cell::start(&["--threads", "1"]).await?;
        let pool = cell.postgres().await?;
        let mut sales = Vec::new();
        for number in 0..SALES {
            let sale = format!("sover{number}");
            cell.open_sale(&sale, STOCK, Class::Flash).await?;
            admit_all(&pool, &sale).await?;
            sales.push(sale);
        }
        // The process reads its buckets anew, with open gates.
        cell.stack().restart("cell-1/p1").await?;
        wait_until_kept(&pool).await?;
        let url = cell.start_router("router", &NO_QUOTAS).await?.url;
        let crowd = Arc::new(Crowd::new(&cell, BUYERS, &sales)?);
        crowd.look(&Line::many(&url, 8, DEADLINE).await?).await?;
        let load = Load { group, cell, url, crowd };
        // Everything has been begun, at full speed, before it is held down.
        let (lasts, from) = SEARCH_STEP;
        let made = load.offer(&[Step { per_s: SEARCH_FROM, lasts }]).await?;
        let all = Point::of(&made, (from, lasts), SEARCH_FROM, DEADLINE);
        ensure!(all.counts(), "even {SEARCH_FROM} calls a second are too many to make: {all:?}");
        for name in HELD_DOWN {
            load.group.add(load.cell.pid(name)?)?;
        }
        Ok(load)
    }

    /// The most holds a second that end well, whatever is offered.
    #[expect(clippy::print_stdout, reason = "figures are what this program is for")]
    async fn search(&self) -> Result<f64> {
        let mut search = Search::from(SEARCH_FROM);
        while let Some(per_s) = search.next() {
            let (lasts, from) = SEARCH_STEP;
            let made = self.offer(&[Step { per_s, lasts }]).await?;
            let point = Point::of(&made, (from, lasts), per_s, DEADLINE);
            println!("    search {}", line(&point));
            search.saw(point.good_per_s);
        }
        let (_, good) = search.best();
        ensure!(good > 0.0, "nothing ended well");
        Ok(good)
    }

    /// On connections of its own: what waits on those of others is not in its way.
    async fn offer(&self, steps: &[Step]) -> Result<Vec<Made>> {
        let roads = Road::many(&self.url, CONNECTIONS, DEADLINE).await?;
        Ok(offer(steps, PATIENCE, || self.crowd.reserve(&roads)).await)
    }
}

#[expect(clippy::print_stdout, reason = "figures are what this program is for")]
fn tell(points: &[(u32, Point)], planned_peak: f64, how: &str) {
    let counted = points.iter().filter(|(_, point)| point.counts());
    let peak = counted.map(|(_, point)| point.good_per_s).fold(planned_peak, f64::max);
    for (times, point) in points {
        let verdict = if point.counts() { "" } else { " NOT COUNTED: under 95 % of its plan" };
        println!("    {times:>2}x {}{verdict}", line(point));
        println!("        {}", chart::bar(point.good_per_s, peak));
    }
    let figure = |name: &str, value, unit, budget, how: String| {
        Figure { name: name.into(), value, unit, budget, how }.say();
    };
    figure("overload_peak_per_s", peak, "1/s", Budget::None, how.to_owned());
    let Some((times, most)) = points.last() else { return };
    // Without an answer there is nothing that was fast.
    let figure_of = |is_one: bool, value: f64| if is_one { value } else { f64::NAN };
    let goodput = figure_of(most.counts(), most.good_per_s / peak);
    let p99_ms = figure_of(most.counts() && most.p99_ms > 0.0, most.p99_ms);
    let line = line(most);
    figure(
        &format!("overload_goodput_at_{times}x"),
        goodput,
        "x",
        Budget::AtLeast(GOODPUT_LEAST),
        format!("{line}, over the highest goodput of all points, {peak:.0}/s; {how}"),
    );
    figure(
        &format!("overload_accepted_p99_at_{times}x_ms"),
        p99_ms,
        "ms",
        Budget::AtMost(DEADLINE.as_secs_f64() * 1_000.0),
        format!("of all holds that were answered, in time or not; {line}; {how}"),
    );
}

fn line(point: &Point) -> String {
    format!(
        "planned {:>6.0}/s achieved {:>6.0}/s goodput {:>6.0}/s p50 {:>5.0} ms p99 {:>5.0} ms refused {:>6.0}/s late {:>6.0}/s broken {}",
        point.planned_per_s,
        point.achieved_per_s,
        point.good_per_s,
        point.p50_ms,
        point.p99_ms,
        point.refused_per_s,
        point.late_per_s,
        point.broken
    )
}
